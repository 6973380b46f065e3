from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from gateway.config.model import Http, SqliteRecords
from gateway.core.errors import Unavailable
from gateway.core.payloads import Sensor
from gateway.core.times import parse_ms, rfc3339
from gateway.records.open import open_records
from gateway.records.port import ReadingRow, RecordStore, RobotRow, Writes
from gateway.services.history import History
from gateway.services.zones import Zones
from gateway.web.access import Access
from gateway.web.app import build_app
from handlers.sensor_data import SensorDataRoutes

NOW = 1_732_320_000_000  # 2024-11-23T00:00:00Z
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

Client = TestClient[web.Request, web.Application]
ClientMaker = Callable[[web.Application], Awaitable[Client]]


@dataclass
class StoreIntake:
    """Straight into the store: the journal between is not what is tested here."""

    store: RecordStore
    down: bool = False
    calls: list[int] = field(default_factory=list)

    async def submit_sensor(self, items: Sequence[tuple[str, Sensor]]) -> None:
        if self.down:
            raise Unavailable("the journal is not writing", dependency="journal")
        self.calls.append(len(items))
        await self.store.write(Writes(readings=[_row(robot, one) for robot, one in items]))


def _row(robot: str, reading: Sensor) -> ReadingRow:
    values = msgspec.structs.asdict(reading)
    return ReadingRow(robot=robot, rts=NOW, **values)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[RecordStore]:
    async with open_records(SqliteRecords(), tmp_path) as opened:
        yield opened


@pytest.fixture
def intake(store: RecordStore) -> StoreIntake:
    return StoreIntake(store)


@pytest.fixture
async def client(store: RecordStore, intake: StoreIntake, aiohttp_client: ClientMaker) -> Client:
    history = History(store, intake, timezone="Asia/Seoul", now_ms=lambda: NOW)
    routes = SensorDataRoutes(history).routes()
    access = Access.on_loopback("127.0.0.1")
    app = build_app(routes, http=Http(), on_drain=lambda: None, access=access)
    return await aiohttp_client(app)


async def get(client: Client, path: str, status: int = 200) -> Any:
    async with client.get(path) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def post(client: Client, path: str, body: Any, status: int = 202) -> Any:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    async with client.post(path, data=data) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


def body(**more: Any) -> dict[str, Any]:
    return {"robotId": "r1", "measuredAt": NOW - 1_000, "pm25": 12.5, **more}


async def test_a_posted_reading_is_in_every_answer(client: Client) -> None:
    whole = body(
        seq=7,
        pm1=1,
        pm10=20.5,
        co2=420,
        tvoc=5,
        temp=-3.5,
        rh=40,
        pressure=1013,
        x=-1,
        y=2,
        room="a",
    )
    assert await post(client, "/api/sensor-data/", whole) == {"accepted": 1, "rejected": []}
    expected = whole | {"measuredAt": "2024-11-22T23:59:59.000Z", "ts": NOW - 1_000, "rts": NOW}
    raw = await get(client, "/api/sensor-data/r1?bucket=raw")
    assert raw == {"rows": [expected], "cursor": None}
    one = await get(client, "/api/sensor-data/r1/latest")
    assert one == expected | {
        "ageS": 1.0,
        "aqi": {
            "us": {"value": 57, "category": "Moderate", "estimate": True},
            "kr": {
                "pm25": {"index": 43, "grade": "좋음"},
                "pm10": {"index": 35, "grade": "좋음"},
            },
        },
    }
    assert await get(client, "/api/sensor-data/latest") == {"items": [one], "cursor": None}
    assert await get(client, "/api/sensor-data/stats/") == {
        "items": [
            {
                "robotId": "r1",
                "readings": 1,
                "first": "2024-11-22T23:59:59.000Z",
                "last": "2024-11-22T23:59:59.000Z",
            }
        ],
        "cursor": None,
    }


async def test_what_was_not_measured_is_left_out(client: Client) -> None:
    await post(client, "/api/sensor-data", {"robotId": "r1", "measuredAt": NOW, "temp": 20})
    latest = await get(client, "/api/sensor-data/r1/latest")
    assert latest == {
        "robotId": "r1",
        "measuredAt": "2024-11-23T00:00:00.000Z",
        "ts": NOW,
        "rts": NOW,
        "seq": None,
        "temp": 20.0,
        "ageS": 0.0,
        "aqi": {"us": None, "kr": {}},
    }


@pytest.mark.parametrize(
    ("measured", "ts"),
    [
        (NOW, NOW),
        ("2024-11-23T00:00:00Z", NOW),
        ("2024-11-23T09:00:00+09:00", NOW),
        ("2024-11-23T09:00:00", NOW),  # the site's zone
        ("2024-11-23T09:00:00.25", NOW + 250),
        ("1999-12-31T23:59:59Z", 946_684_799_000),  # old is kept as it is
        (0, 0),
    ],
)
async def test_the_time_of_a_reading(client: Client, measured: int | str, ts: int) -> None:
    await post(client, "/api/sensor-data", body(measuredAt=measured))
    assert (await get(client, "/api/sensor-data/r1/latest"))["ts"] == ts


BAD = [
    (b"{", 400, "INVALID", "$"),
    (b"", 400, "INVALID", "$"),
    (b"\xff", 400, "INVALID", "$"),
    (b'{"robotId":"r1","measuredAt":0,"pm25":NaN}', 400, "INVALID", "$"),
    (b'{"robotId":"r1","measuredAt":0,"pm25":1e999}', 422, "OUT_OF_RANGE", "$.pm25"),
    ([], 400, "INVALID", "$"),
    ("x", 400, "INVALID", "$"),
    ({"measuredAt": NOW, "pm25": 1}, 400, "INVALID", "$.robotId"),
    ({"robotId": "r1", "pm25": 1}, 400, "INVALID", "$.measuredAt"),
    (body(robotId="a b"), 400, "INVALID", "$.robotId"),
    (body(robotId=5), 400, "INVALID", "$.robotId"),
    (body(room="x" * 65), 400, "INVALID", "$.room"),
    (body(foo=1), 400, "INVALID", "$.foo"),
    (body(pm25="12"), 400, "INVALID", "$.pm25"),
    (body(pm25=True), 400, "INVALID", "$.pm25"),
    (body(seq=1.5), 400, "INVALID", "$.seq"),
    (body(measuredAt="yesterday"), 400, "INVALID", "$.measuredAt"),
    (body(measuredAt=1.5), 400, "INVALID", "$.measuredAt"),
    (body(measuredAt=-1), 422, "OUT_OF_RANGE", "$.measuredAt"),
    (body(measuredAt=2**80), 422, "OUT_OF_RANGE", "$.measuredAt"),
    (body(seq=-1), 422, "OUT_OF_RANGE", "$.seq"),
    (body(seq=2**53), 422, "OUT_OF_RANGE", "$.seq"),
    (body(pm25=1000.1), 422, "OUT_OF_RANGE", "$.pm25"),
    (body(co2=249), 422, "OUT_OF_RANGE", "$.co2"),
    (body(temp=-41), 422, "OUT_OF_RANGE", "$.temp"),
    (body(x=1e9), 422, "OUT_OF_RANGE", "$.x"),
    (body(pm25=None), 422, "NO_METRIC", "$"),
]


@pytest.mark.parametrize(("sent", "status", "code", "path"), BAD)
async def test_a_bad_reading_names_what_is_wrong(
    client: Client, intake: StoreIntake, sent: Any, status: int, code: str, path: str
) -> None:
    answer = await post(client, "/api/sensor-data", sent, status)
    assert (answer["code"], answer["path"]) == (code, path)
    assert intake.calls == []


@pytest.mark.parametrize(
    ("sent", "code", "path"),
    [(sent, code, path) for sent, _, code, path in BAD if not isinstance(sent, bytes)],
)
async def test_a_bad_reading_in_a_batch_does_not_hold_up_the_good(
    client: Client, intake: StoreIntake, sent: Any, code: str, path: str
) -> None:
    answer = await post(client, "/api/sensor-data/batch", [body(seq=1), sent, body(seq=2)])
    assert answer == {"accepted": 2, "rejected": [{"index": 1, "code": code, "path": path}]}
    assert intake.calls == [2]


async def test_the_size_of_a_batch(client: Client, intake: StoreIntake) -> None:
    assert await post(client, "/api/sensor-data/batch", []) == {"accepted": 0, "rejected": []}
    many = [body(seq=number) for number in range(1_000)]
    assert (await post(client, "/api/sensor-data/batch/", many))["accepted"] == 1_000
    answer = await post(client, "/api/sensor-data/batch", [*many, body()], 422)
    assert answer["code"] == "TOO_MANY"
    assert (await post(client, "/api/sensor-data/batch", body(), 400))["code"] == "INVALID"
    assert intake.calls == [1_000]


async def test_a_duplicate_counts_as_accepted_and_changes_nothing(client: Client) -> None:
    for value in (1.0, 2.0):
        sent = [body(seq=3, pm25=value), body(robotId="r2", pm25=value)]
        assert (await post(client, "/api/sensor-data/batch", sent))["accepted"] == 2
    for robot in ("r1", "r2"):
        page = await get(client, f"/api/sensor-data/{robot}?bucket=raw")
        assert [row["pm25"] for row in page["rows"]] == [1.0]


async def test_when_the_journal_is_down_the_sender_is_told_to_come_back(
    client: Client, intake: StoreIntake
) -> None:
    intake.down = True
    answer = await post(client, "/api/sensor-data", body(), 503)
    assert (answer["code"], answer["dependency"]) == ("UNAVAILABLE", "journal")


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
