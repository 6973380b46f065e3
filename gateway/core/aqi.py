"""Air quality indices of a single reading.

An index is defined for a 24 h mean; of one reading it is an estimate, and its answers say so.
"""

from collections.abc import Sequence
from math import floor
from typing import Final

from msgspec import Struct


class UsAqi(Struct, frozen=True):
    """The worse of the PM2.5 and PM10 sub-indices. 500 is also what lies beyond the index."""

    value: int
    category: str
    estimate: bool = True


class KoreanGrade(Struct, frozen=True):
    """One pollutant's sub-index and grade. A whole CAI needs NO2 and O3: a robot has no such."""

    index: int
    grade: str


class KoreanAir(Struct, frozen=True, omit_defaults=True):
    """Grades of what was measured."""

    pm25: KoreanGrade | None = None
    pm10: KoreanGrade | None = None


class Aqi(Struct, frozen=True):
    """``us`` is None and ``kr`` empty for a reading without PM2.5 and PM10."""

    us: UsAqi | None
    kr: KoreanAir


# Bands as (index low, index high, concentration low, concentration high), µg/m³.
_Band = tuple[int, int, float, float]

# US EPA, 40 CFR part 58 appendix G as revised for 2024-05-06.
_US_PM25: Final[Sequence[_Band]] = (
    (0, 50, 0.0, 9.0),
    (51, 100, 9.1, 35.4),
    (101, 150, 35.5, 55.4),
    (151, 200, 55.5, 125.4),
    (201, 300, 125.5, 225.4),
    (301, 500, 225.5, 325.4),
)
_US_PM10: Final[Sequence[_Band]] = (
    (0, 50, 0, 54),
    (51, 100, 55, 154),
    (101, 150, 155, 254),
    (151, 200, 255, 354),
    (201, 300, 355, 424),
    (301, 500, 425, 604),
)
_US_CATEGORIES: Final = (
    (50, "Good"),
    (100, "Moderate"),
    (150, "Unhealthy for sensitive groups"),
    (200, "Unhealthy"),
    (300, "Very unhealthy"),
    (500, "Hazardous"),
)

# Korea, 통합대기환경지수 (CAI), breakpoints of the 24 h means.
_KR_PM25: Final[Sequence[_Band]] = (
    (0, 50, 0, 15),
    (51, 100, 16, 35),
    (101, 250, 36, 75),
    (251, 500, 76, 500),
)
_KR_PM10: Final[Sequence[_Band]] = (
    (0, 50, 0, 30),
    (51, 100, 31, 80),
    (101, 250, 81, 150),
    (251, 500, 151, 600),
)
_KR_GRADES: Final = ((50, "좋음"), (100, "보통"), (250, "나쁨"), (500, "매우나쁨"))


def aqi(pm25: float | None, pm10: float | None) -> Aqi:
    """Return the indices of one reading, concentrations in µg/m³."""
    parts = []
    if pm25 is not None:  # cut to 0.1; round() first, or 16.1 * 10 decides by its last bit
        parts.append(_index(floor(round(pm25 * 10, 6)) / 10, _US_PM25))
    if pm10 is not None:
        parts.append(_index(floor(pm10), _US_PM10))
    us = UsAqi(max(parts), _label(max(parts), _US_CATEGORIES)) if parts else None
    return Aqi(us, KoreanAir(_korean(pm25, _KR_PM25), _korean(pm10, _KR_PM10)))


def _korean(concentration: float | None, bands: Sequence[_Band]) -> KoreanGrade | None:
    if concentration is None:
        return None
    index = _index(_half_up(concentration), bands)
    return KoreanGrade(index, _label(index, _KR_GRADES))


def _index(concentration: float, bands: Sequence[_Band]) -> int:
    """Return the index by straight lines between the breakpoints; 500 beyond the last."""
    for index_low, index_high, low, high in bands:
        if concentration <= high:
            return _half_up((index_high - index_low) / (high - low) * (concentration - low)) + (
                index_low
            )
    return bands[-1][1]


def _label(index: int, steps: Sequence[tuple[int, str]]) -> str:
    return next(label for limit, label in steps if index <= limit)


def _half_up(value: float) -> int:
    return floor(value + 0.5)
