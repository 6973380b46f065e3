"""What is asked of history, and what it answers, as types."""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from gateway.core.aqi import Aqi
from gateway.core.payloads import (
    CarbonDioxide,
    Celsius,
    Hectopascals,
    Id,
    Metres,
    Micrograms,
    Organics,
    Percent,
    Seq,
    TimeMs,
)
from gateway.core.posted import Rejected
from gateway.core.times import Instant, rfc3339
from gateway.records.port import METRIC_NAMES, Cursor, ReadingRow

MAX_BUCKETS: Final = 100_000

_Moment = Annotated[
    str,
    Meta(
        description="RFC 3339 (without an offset: the site's zone) or Unix ms; [from, to) is the "
        "last 24 h by default",
        extra_json_schema={"anyOf": [{"format": "date-time"}, {"pattern": "^[0-9]{1,15}$"}]},
    ),
]
_ANY_NAME: Final = f" *({'|'.join(METRIC_NAMES)})? *"
_Names = Annotated[
    str,
    Meta(
        description="names with commas; all that have data by default",
        extra_json_schema={"pattern": f"^{_ANY_NAME}(,{_ANY_NAME})*$"},
    ),
]
_Zone = Annotated[
    str,
    Meta(
        description="IANA zone in which days begin; the site's by default",
        extra_json_schema={"format": "iana-zone"},
    ),
]


class RangeQuery(Struct, frozen=True, rename={"from_": "from"}):
    """The query parameters of a range, as they stand in the URL."""

    from_: _Moment | None = None
    to: _Moment | None = None
    metrics: _Names | None = None
    bucket: Annotated[
        Literal["auto", "10s", "1m", "5m", "1h", "1d", "raw"],
        Meta(description="auto: the narrowest with at most `points` buckets; raw: no buckets"),
    ] = "auto"
    points: Annotated[int, Meta(ge=1, le=MAX_BUCKETS)] = 1_000
    tz: _Zone | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000, description="rows of a raw page")] = 1_000
    cursor: Cursor | None = None


class Reading(Struct, frozen=True, gc=False, omit_defaults=True, rename="camel"):
    """A reading as it is answered; what was not measured is left out."""

    robot_id: Id
    measured_at: Instant
    ts: TimeMs
    rts: TimeMs
    seq: Seq | None
    pm1: Micrograms | None = None
    pm25: Micrograms | None = None
    pm10: Micrograms | None = None
    co2: CarbonDioxide | None = None
    tvoc: Organics | None = None
    temp: Celsius | None = None
    rh: Percent | None = None
    pressure: Hectopascals | None = None
    x: Metres | None = None
    y: Metres | None = None
    room: Id | None = None


class LatestReading(
    Reading, frozen=True, gc=False, omit_defaults=True, rename="camel", kw_only=True
):
    """The newest of a robot. ``age_s`` by the gateway's clock, never negative."""

    age_s: Annotated[float, Meta(ge=0)]
    aqi: Aqi


class RawPage(Struct, frozen=True):
    """Readings as they came, oldest first; ``cursor`` null on the last page."""

    rows: list[Reading]
    cursor: Cursor | None


class Column(Struct, frozen=True):
    """A metric, aligned with ``t``; null in a bucket without a value. Not rounded."""

    min: list[float | None]
    avg: list[float | None]
    max: list[float | None]


class Columns(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Buckets that have readings; ``t`` is where each begins, in Unix ms.

    It is below 0 where the first day of 1970 begins before that of UTC.
    """

    t: list[int]
    pm1: Column | None = None
    pm25: Column | None = None
    pm10: Column | None = None
    co2: Column | None = None
    tvoc: Column | None = None
    temp: Column | None = None
    rh: Column | None = None
    pressure: Column | None = None


class LatestReadings(Struct, frozen=True):
    """The newest reading of each robot, by robot id."""

    items: list[LatestReading]
    cursor: None = None


class RobotReadings(Struct, frozen=True, rename="camel"):
    """How much there is of a robot."""

    robot_id: Id
    readings: int
    first: Instant
    last: Instant


class Totals(Struct, frozen=True):
    """How much there is of each robot, by robot id."""

    items: list[RobotReadings]
    cursor: None = None


class Accepted(Struct, frozen=True):
    """What became of what was posted. A duplicate counts as accepted."""

    accepted: int
    rejected: list[Rejected]


def as_reading(row: ReadingRow) -> Reading:
    """Return a stored reading as it is answered."""
    return Reading(
        row.robot,
        rfc3339(row.ts),
        row.ts,
        row.rts,
        row.seq,
        row.pm1,
        row.pm25,
        row.pm10,
        row.co2,
        row.tvoc,
        row.temp,
        row.rh,
        row.pressure,
        row.x,
        row.y,
        row.room,
    )
