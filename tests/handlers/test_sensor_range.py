from typing import Any

import pytest

from gateway.core.times import parse_ms, rfc3339
from gateway.records.port import ReadingRow, RecordStore, RobotRow, Writes
from gateway.services.zones import Zones
from tests.handlers.history_rig import DAY, HOUR, MINUTE, NOW, Client, get


def row(ts: int, robot: str = "r1", **values: Any) -> ReadingRow:
    return ReadingRow(robot=robot, ts=ts, rts=ts, **values)


async def test_a_range_is_columns(client: Client, store: RecordStore) -> None:
    start = NOW - 10 * MINUTE
    await store.write(
        Writes(
            readings=[
                row(start, pm25=1.0, co2=400.0),
                row(start + MINUTE - 1, pm25=4.0),
                row(start + 5 * MINUTE, pm25=7.0),
            ]
        )
    )
    path = f"/api/sensor-data/r1?from={start}&to={NOW}&bucket=1m"
    columns = {"min": [1.0, 7.0], "avg": [2.5, 7.0], "max": [4.0, 7.0]}
    co2 = {"min": [400.0, None], "avg": [400.0, None], "max": [400.0, None]}
    t = [start, start + 5 * MINUTE]
    assert await get(client, path) == {"t": t, "pm25": columns, "co2": co2}
    assert await get(client, path + "&metrics=pm25,%20pm25") == {"t": t, "pm25": columns}
    nothing: dict[str, list[float]] = {"min": [], "avg": [], "max": []}
    assert await get(client, path + "&metrics=tvoc,pm1") == {
        "t": [],
        "tvoc": nothing,
        "pm1": nothing,
    }


async def test_the_last_day_is_the_default(client: Client, store: RecordStore) -> None:
    await store.write(
        Writes(readings=[row(ts, pm25=1.0) for ts in (NOW - DAY, NOW - DAY + 1, NOW, NOW + 1)])
    )
    page = await get(client, "/api/sensor-data/r1?bucket=raw")
    assert [each["ts"] for each in page["rows"]] == [NOW - DAY + 1, NOW]


@pytest.mark.parametrize(
    ("hours", "points", "width"),
    [
        (1, None, 10_000),
        (2, 1_000, 10_000),
        (3, 1_000, MINUTE),
        (24, 1_000, 5 * MINUTE),
        (24, 1_440, MINUTE),
        (24, 24, HOUR),
        (24, 1, DAY),
        (24 * 365, None, DAY),
    ],
)
async def test_auto_is_the_narrowest_that_fits(
    client: Client, store: RecordStore, hours: int, points: int | None, width: int
) -> None:
    # One reading per width and one half a width later tell the widths apart.
    times = {NOW - DAY + step for step in (0, 5_000, 10_000, MINUTE, 5 * MINUTE, HOUR)}
    await store.write(Writes(readings=[row(ts, pm25=1.0) for ts in times]))
    end = NOW - DAY + hours * HOUR
    more = f"&points={points}" if points else ""
    path = f"/api/sensor-data/r1?from={NOW - DAY}&to={end}&tz=UTC{more}"
    in_range = {ts for ts in times if ts < end}
    assert (await get(client, path))["t"] == sorted({ts // width * width for ts in in_range})


async def test_days_begin_at_midnight_of_the_zone(client: Client, store: RecordStore) -> None:
    # 2024-11-03 has 25 hours in New York.
    times = ["2024-11-03T03:59:59Z", "2024-11-03T04:00:00Z", "2024-11-04T04:59:59Z"]
    readings = [row(parse_ms(text, await Zones("UTC").get()), temp=1.0) for text in times]
    await store.write(Writes(readings=[*readings, row(readings[-1].ts + 1_000, temp=1.0)]))
    path = "/api/sensor-data/r1?from=2024-11-01&to=2024-11-08&bucket=1d"
    found = await get(client, path + "&tz=America/New_York")
    assert [rfc3339(each) for each in found["t"]] == [
        "2024-11-02T04:00:00.000Z",
        "2024-11-03T04:00:00.000Z",
        "2024-11-04T05:00:00.000Z",
    ]
    at_site = await get(client, path)
    assert [rfc3339(each) for each in at_site["t"]] == [
        "2024-11-02T15:00:00.000Z",
        "2024-11-03T15:00:00.000Z",
    ]


async def test_raw_pages_give_every_reading_once(client: Client, store: RecordStore) -> None:
    times = list(range(NOW - 1_203, NOW))
    await store.write(Writes(readings=[row(ts, pm25=1.0) for ts in times]))
    seen: list[int] = []
    path = "/api/sensor-data/r1?bucket=raw&limit=600"
    page = await get(client, path)
    while page["cursor"] is not None:
        seen += [each["ts"] for each in page["rows"]]
        page = await get(client, f"{path}&cursor={page['cursor']}")
    assert seen + [each["ts"] for each in page["rows"]] == times


@pytest.mark.parametrize(
    "question",
    [
        "from=2&to=1",
        "from=2&to=2",
        "from=tomorrow",
        "to=-1",
        "from=99999999999999999999",
        "to=9999-12-31",
        "from=253402300799999&to=253402300799999999",
        "bucket=2m",
        "points=0",
        "points=x",
        "limit=0",
        "limit=10001",
        "bucket=raw&limit=10001",
        "metrics=pm25,nothing",
        "tz=Mars/Olympus",
        "tz=../../etc/passwd",
        "tz=/etc/passwd",
        "tz=",
        "tz=%00",
        "bucket=1d&tz=Mars/Olympus",
        "bucket=10s&from=0",
    ],
)
async def test_a_question_that_makes_no_sense(
    client: Client, store: RecordStore, question: str
) -> None:
    await store.write(Writes(readings=[row(NOW - 1, pm25=1.0)]))
    assert (await get(client, f"/api/sensor-data/r1?{question}", 400))["code"] == "BAD_RANGE"


async def test_a_foreign_cursor(client: Client) -> None:
    answer = await get(client, "/api/sensor-data/r1?bucket=raw&cursor=x", 400)
    assert (answer["code"], answer["path"]) == ("INVALID", "?cursor")


@pytest.mark.parametrize(
    "path", ["r9", "r9?bucket=raw", "r9/latest", "r%209", "r%2F9", "export", "latest/latest"]
)
async def test_an_unknown_robot_is_404(client: Client, path: str) -> None:
    assert (await get(client, f"/api/sensor-data/{path}", 404))["code"] == "NOT_FOUND"


async def test_a_known_robot_without_readings_is_empty(client: Client, store: RecordStore) -> None:
    await store.write(Writes(robots=[RobotRow(id="r1", last_seen=NOW)]))
    assert await get(client, "/api/sensor-data/r1") == {"t": []}
    assert await get(client, "/api/sensor-data/r1?bucket=raw") == {"rows": [], "cursor": None}
    await get(client, "/api/sensor-data/r1/latest", 404)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/api/sensor-data", "POST"),
        ("GET", "/api/sensor-data/batch", "POST"),
        ("POST", "/api/sensor-data/latest", "GET,HEAD"),
        ("DELETE", "/api/sensor-data/r1/latest/", "GET,HEAD"),
    ],
)
async def test_a_wrong_method_names_the_right_ones(
    client: Client, method: str, path: str, allow: str
) -> None:
    async with client.request(method, path) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, allow)


async def test_the_largest_page(client: Client, store: RecordStore) -> None:
    for start in range(0, 10_001, 2_000):
        rows = [row(NOW - 1 - n, pm25=1.5) for n in range(start, min(start + 2_000, 10_001))]
        await store.write(Writes(readings=rows))
    page = await get(client, "/api/sensor-data/r1?bucket=raw&limit=10000")
    assert [each["ts"] for each in page["rows"]] == list(range(NOW - 10_001, NOW - 1))
    rest = await get(client, f"/api/sensor-data/r1?bucket=raw&cursor={page['cursor']}")
    assert ([each["ts"] for each in rest["rows"]], rest["cursor"]) == ([NOW - 1], None)
