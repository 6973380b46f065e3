import itertools
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from gateway.core.times import MAX_MS, days_of, parse_ms, rfc3339

SEOUL = ZoneInfo("Asia/Seoul")
NEW_YORK = ZoneInfo("America/New_York")
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500),
        ("1970-01-01T00:00:00.0009Z", 0),
        ("1970-01-01T00:00:00.123456789Z", 123),
        ("1970-01-01T09:00:00+09:00", 0),
        ("1970-01-01T09:00:00 09:00", 0),  # a plus that a query string made a blank
        ("1969-12-31T23:00:00-01:00", 0),
        ("1970-01-01T09:00:00", 0),  # the zone's wall time
        ("1970-01-01 09:00", 0),
        ("1970-01-02", 15 * HOUR),
        ("9999-12-31T23:59:59.999Z", MAX_MS),
    ],
)
def test_parse(text: str, expected: int) -> None:
    assert parse_ms(text, SEOUL) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1970-01-01T00:00:00+9",
        "1970-13-01",
        "1970-01-01T24:00:00Z",
        "19700101",
        "1970-01-01T00:00:60Z",
        "1970-W01-1",
        "1969-12-31T00:00:00Z",
        "1970-01-01Z",
        "١٩٧٠-01-01",
        "0001-01-01T00:00:00+14:00",
        " 1970-01-01",
        "1970-01-01T00:00:00+25:00",
        "1970-01-02\n",
    ],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_ms(text, SEOUL)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-03-10T02:30:00", "2024-03-10T07:30:00.000Z"),  # skipped: as before the change
        ("2024-11-03T01:30:00", "2024-11-03T05:30:00.000Z"),  # twice: the first
    ],
)
def test_wall_times_at_a_clock_change(text: str, instant: str) -> None:
    assert rfc3339(parse_ms(text, NEW_YORK)) == instant


@pytest.mark.parametrize("ms", [0, 1, 999, 1_000, 1_732_390_000_007, MAX_MS])
def test_output_is_what_parse_reads(ms: int) -> None:
    text = rfc3339(ms)
    assert text.endswith("Z")
    assert parse_ms(text, UTC) == ms


def at(zone: ZoneInfo, year: int, month: int, day: int, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=zone).timestamp() * 1000)


def test_days_follow_the_clock_changes() -> None:
    edges = days_of(at(NEW_YORK, 2024, 3, 9, 12), at(NEW_YORK, 2024, 3, 11, 1), NEW_YORK)
    assert edges[0] == at(NEW_YORK, 2024, 3, 9)
    assert [(b - a) // HOUR for a, b in itertools.pairwise(edges)] == [24, 23, 24]
    edges = days_of(at(NEW_YORK, 2024, 11, 3), at(NEW_YORK, 2024, 11, 4), NEW_YORK)
    assert [(b - a) // HOUR for a, b in itertools.pairwise(edges)] == [25]


def test_days_of_a_zone_begin_at_its_midnight() -> None:
    assert days_of(0, 1, SEOUL) == [-9 * HOUR, 15 * HOUR]


def test_days_where_midnight_is_skipped() -> None:
    beirut = ZoneInfo("Asia/Beirut")  # 2022-03-27 began at 01:00
    edges = days_of(at(beirut, 2022, 3, 26), at(beirut, 2022, 3, 28), beirut)
    assert [(b - a) // HOUR for a, b in itertools.pairwise(edges)] == [24, 23]
