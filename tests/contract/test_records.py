"""What gateway.records.port promises, on every backend."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from gateway.config.model import PostgresRecords, SqliteRecords
from gateway.core.errors import InvalidInput, Unavailable
from gateway.core.times import days_of
from gateway.records.open import open_records
from gateway.records.port import (
    METRIC_NAMES,
    Bucket,
    DeadLetterRow,
    EventRow,
    ReadingRow,
    RecordStore,
    RobotRow,
    RobotTotals,
    Writes,
    Written,
)

BACKENDS = ["sqlite", "postgres"]
MINUTE = 60_000


@pytest.fixture(params=BACKENDS)
def config(request: pytest.FixtureRequest) -> SqliteRecords | PostgresRecords:
    """Return where history is, with room for 5 dead letters of 1,000 bytes together."""
    if request.param == "sqlite":
        return SqliteRecords(dead_letters=5, dead_letter_bytes="1000B")
    dsn: str = request.getfixturevalue("postgres_database")
    return PostgresRecords(dsn=dsn, dead_letters=5, dead_letter_bytes="1000B")


@pytest.fixture
async def store(
    config: SqliteRecords | PostgresRecords, tmp_path: Path
) -> AsyncIterator[RecordStore]:
    async with open_records(config, tmp_path, box="a") as opened:
        yield opened


def reading(ts: int, robot: str = "r1", seq: int | None = None, **values: float) -> ReadingRow:
    return ReadingRow(robot=robot, ts=ts, rts=ts + 5, seq=seq, **values)  # type: ignore[arg-type]


def letter(number: int, *, size: int = 1, at: int | None = None) -> DeadLetterRow:
    return DeadLetterRow(
        id=number,
        topic="t",
        payload=b"x" * size,
        reason="INVALID",
        detail="d",
        at=number * 10 if at is None else at,
    )


async def every_page(store: RecordStore, limit: int, to_ms: int = 10**15) -> list[ReadingRow]:
    rows: list[ReadingRow] = []
    cursor: str | None = None
    while True:
        page = await store.readings("r1", 0, to_ms, limit=limit, cursor=cursor)
        assert len(page.rows) <= limit
        rows += page.rows
        if page.cursor is None:
            return rows
        cursor = page.cursor


async def test_a_reading_comes_back_as_it_was_written(store: RecordStore) -> None:
    whole = ReadingRow(
        robot="r1",
        ts=1_700_000_000_123,
        rts=1_700_000_000_456,
        seq=2**53 - 1,
        pm1=0.1,
        pm25=12.3,
        pm10=1_000.0,
        co2=421.5,
        tvoc=0.0,
        temp=-40.0,
        rh=100.0,
        pressure=1013.25,
        x=-1.5,
        y=2.25,
        room="거실".encode().hex(),
    )
    bare = reading(5)
    assert await store.write(Writes(readings=[whole, bare])) == Written(readings_new=2)
    page = await store.readings("r1", 0, 2**62, limit=10, cursor=None)
    assert page.rows == [bare, whole]


@pytest.mark.parametrize(
    ("first", "second", "new"),
    [
        pytest.param((7, 1), (7, 1), 0, id="same seq, same time"),
        pytest.param((7, None), (7, None), 0, id="same time, no seq"),
        pytest.param((7, 1), (7, None), 0, id="no seq: the time is enough"),
        pytest.param((7, 1), (8, 1), 1, id="a robot that restarted counts again"),
        pytest.param((7, 1), (7, 2), 1, id="two in one millisecond"),
        pytest.param((7, None), (8, None), 1, id="another time"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
async def test_which_readings_are_the_same(
    store: RecordStore,
    first: tuple[int, int | None],
    second: tuple[int, int | None],
    new: int,
    *,
    together: bool,
) -> None:
    one = reading(first[0], seq=first[1], pm25=1.0)
    two = reading(second[0], seq=second[1], pm25=2.0)
    if together:
        written = await store.write(Writes(readings=[one, two]))
        assert (written.readings_new, written.readings_duplicate) == (1 + new, 1 - new)
    else:
        await store.write(Writes(readings=[one]))
        written = await store.write(Writes(readings=[two]))
        assert (written.readings_new, written.readings_duplicate) == (new, 1 - new)
    kept = await every_page(store, 10)
    assert kept == ([one, two] if new else [one])  # the first one stays as it was
    assert [total.readings for total in await store.totals()] == [1 + new]


@pytest.mark.parametrize(
    ("again", "new"),
    [
        pytest.param({}, 0, id="sent again"),
        pytest.param({"pm25": 2.0}, 1, id="other values: the robot began to count again"),
        pytest.param({"ts": 2_000 + 86_400_000, "rts": 2_000 + 86_400_000}, 1, id="a day later"),
        pytest.param({"rts": 3_000}, 1, id="with a clock"),
    ],
)
async def test_a_robot_without_a_clock_may_send_again(
    store: RecordStore, again: dict[str, float], new: int
) -> None:
    first = ReadingRow(robot="r1", ts=1_000, rts=1_000, seq=7, pm25=1.0)
    second = msgspec.structs.replace(first, **{"ts": 2_000, "rts": 2_000, **again})
    await store.write(Writes(readings=[first]))
    written = await store.write(Writes(readings=[second]))
    assert (written.readings_new, written.readings_duplicate) == (new, 1 - new)


async def test_the_same_time_of_another_robot_is_another_reading(store: RecordStore) -> None:
    written = await store.write(Writes(readings=[reading(7, "r1"), reading(7, "r2")]))
    assert written.readings_new == 2


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_give_every_reading_once_in_order(store: RecordStore, limit: int) -> None:
    rows = [reading(ts, seq=seq) for ts in (3, 1, 2) for seq in (2, 0, 1)]
    await store.write(Writes(readings=rows))
    got = await every_page(store, limit)
    assert [(row.ts, row.seq) for row in got] == [(t, s) for t in (1, 2, 3) for s in (0, 1, 2)]


async def test_a_range_has_its_start_and_not_its_end(store: RecordStore) -> None:
    await store.write(Writes(readings=[reading(ts) for ts in (9, 10, 19, 20)]))
    page = await store.readings("r1", 10, 20, limit=10, cursor=None)
    assert ([row.ts for row in page.rows], page.cursor) == ([10, 19], None)


@pytest.mark.parametrize(
    "cursor", ["", "x", "!!", "MS4", "MS4yLjM", "é", "OTk5OTk5OTk5OTk5OTk5OTk5OTkuMQ"]
)
async def test_a_foreign_cursor_is_refused(store: RecordStore, cursor: str) -> None:
    with pytest.raises(InvalidInput):
        await store.readings("r1", 0, 10, limit=1, cursor=cursor)
    with pytest.raises(InvalidInput):
        await store.dead_letters(limit=1, cursor=cursor)


async def test_buckets_align_to_their_width_and_leave_out_the_empty(store: RecordStore) -> None:
    rows = [
        reading(0, pm25=1.0),
        reading(MINUTE - 1, pm25=4.0),
        reading(MINUTE, co2=400.0),  # has no pm25: does not count towards its average
        reading(3 * MINUTE, pm25=7.0),
        reading(4 * MINUTE, "r2", pm25=9.0),
        reading(5 * MINUTE),  # has nothing at all
    ]
    await store.write(Writes(readings=rows))
    got = await store.buckets("r1", 0, 10 * MINUTE, metrics=["pm25", "co2"], edges_ms=MINUTE)
    assert got == Bucket(
        [0, MINUTE, 3 * MINUTE],
        {
            "pm25": ([1.0, None, 7.0], [2.5, None, 7.0], [4.0, None, 7.0]),
            "co2": ([None, 400.0, None], [None, 400.0, None], [None, 400.0, None]),
        },
    )


async def test_buckets_see_only_the_range(store: RecordStore) -> None:
    await store.write(Writes(readings=[reading(ts, pm25=float(ts)) for ts in (10, 20, 30, 40)]))
    for edges in (25, [0, 25, 50]):
        got = await store.buckets("r1", 20, 40, metrics=["pm25"], edges_ms=edges)
        assert got == Bucket([0, 25], {"pm25": ([20.0, 30.0], [20.0, 30.0], [20.0, 30.0])})


async def test_buckets_between_given_edges(store: RecordStore) -> None:
    await store.write(Writes(readings=[reading(ts, pm25=float(ts)) for ts in (5, 10, 29, 95)]))
    got = await store.buckets("r1", 0, 100, metrics=["pm25"], edges_ms=[0, 10, 30, 90, 100])
    assert got == Bucket(
        [0, 10, 90], {"pm25": ([5.0, 10.0, 95.0], [5.0, 19.5, 95.0], [5.0, 29.0, 95.0])}
    )


@pytest.mark.parametrize(
    ("start", "hours"),
    [
        pytest.param(1_774_738_800_000, 23, id="spring"),  # 29 March 2026 in Berlin
        pytest.param(1_792_879_200_000, 25, id="autumn"),  # 25 October 2026
    ],
)
async def test_a_day_is_as_long_as_its_zone_says(
    store: RecordStore, start: int, hours: int
) -> None:
    end = start + hours * 60 * MINUTE
    edges = days_of(start, end + 1, ZoneInfo("Europe/Berlin"))
    assert edges[:2] == [start, end]
    times = [start - 1, start, end - 1, end]
    await store.write(Writes(readings=[reading(ts, pm25=float(n)) for n, ts in enumerate(times)]))
    got = await store.buckets("r1", start, end + 1, metrics=["pm25"], edges_ms=edges)
    assert got == Bucket([start, end], {"pm25": ([1.0, 3.0], [1.5, 3.0], [2.0, 3.0])})


async def test_buckets_of_nothing(store: RecordStore) -> None:
    for edges in (10, [0, 10]):
        got = await store.buckets("r1", 0, 10, metrics=METRIC_NAMES, edges_ms=edges)
        assert got == Bucket([], {name: ([], [], []) for name in METRIC_NAMES})


async def test_latest_is_the_newest_by_device_time(store: RecordStore) -> None:
    newest = reading(20, seq=2, pm25=3.0)
    await store.write(Writes(readings=[newest, reading(20, seq=1), reading(30, "r2")]))
    await store.write(Writes(readings=[reading(10, seq=9)]))  # arrived late
    assert await store.latest_reading("r1") == newest
    assert await store.latest_readings() == [newest, reading(30, "r2")]
    assert await store.latest_reading("nobody") is None


async def test_totals_follow_what_was_really_new(store: RecordStore) -> None:
    await store.write(Writes(readings=[reading(10, seq=1), reading(20, seq=2), reading(7, "r2")]))
    await store.write(Writes(readings=[reading(10, seq=1), reading(5, seq=3)]))
    assert await store.totals() == [
        RobotTotals("r1", readings=3, first_ts=5, last_ts=20),
        RobotTotals("r2", readings=1, first_ts=7, last_ts=7),
    ]


async def test_what_is_not_said_of_a_robot_stays(store: RecordStore) -> None:
    whole = RobotRow(
        id="r1",
        last_seen=10,
        connection="online",
        connection_ts=9,
        state="error",
        state_ts=8,
        battery=50.0,
        fan=3,
        filter=80.0,
        error="stuck",
        name="Robi",
        model="A1",
        firmware="1.0",
        map_id="f1",
        pose='{"x":1}',
    )
    await store.write(Writes(robots=[whole]))
    await store.write(Writes(robots=[RobotRow(id="r1", last_seen=12)]))
    assert await store.robot("r1") == msgspec.structs.replace(whole, last_seen=12)
    await store.write(Writes(robots=[RobotRow(id="r1", last_seen=11, battery=49.0)]))
    assert await store.robot("r1") == msgspec.structs.replace(whole, last_seen=12, battery=49.0)


async def test_a_new_state_ends_an_error(store: RecordStore) -> None:
    await store.write(Writes(robots=[RobotRow(id="r1", last_seen=1, state="error", error="E1")]))
    await store.write(Writes(robots=[RobotRow(id="r1", last_seen=2, state="idle")]))
    row = await store.robot("r1")
    assert row is not None
    assert (row.state, row.error) == ("idle", None)


async def test_robots_by_id(store: RecordStore) -> None:
    rows = [RobotRow(id=name, last_seen=1) for name in ("b", "a", "C")]
    await store.write(Writes(robots=rows))
    assert [row.id for row in await store.robots()] == ["C", "a", "b"]
    assert await store.robot("nobody") is None


async def test_events_and_letters_that_come_again_change_nothing(store: RecordStore) -> None:
    event = EventRow(offset=4, robot="r1", ts=1, rts=2, code="STUCK", level="warning")
    changes = Writes(events=[event], dead_letters=[letter(3)])
    assert (await store.write(changes)).dead_letters_new == 1
    assert (await store.write(changes)).dead_letters_new == 0
    assert (await store.dead_letters(limit=10, cursor=None)).total == 1


async def test_letters_are_paged_newest_first(store: RecordStore) -> None:
    await store.write(Writes(dead_letters=[letter(number) for number in (1, 2, 3, 4, 5)]))
    first = await store.dead_letters(limit=2, cursor=None)
    assert ([item.id for item in first.items], first.total) == ([5, 4], 5)
    second = await store.dead_letters(limit=2, cursor=first.cursor)
    third = await store.dead_letters(limit=2, cursor=second.cursor)
    assert [item.id for item in second.items + third.items] == [3, 2, 1]
    assert third.cursor is None
    assert third.items[0] == letter(1)


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        pytest.param([1] * 7, [7, 6, 5, 4, 3], id="count"),
        pytest.param([400, 400, 400], [3, 2], id="bytes"),
        pytest.param([1, 1, 996], [3], id="one fills it"),
    ],
)
async def test_over_the_bound_the_oldest_letters_go_and_are_counted(
    store: RecordStore, sizes: list[int], kept: list[int]
) -> None:
    letters = [letter(number, size=size) for number, size in enumerate(sizes, start=1)]
    written = await store.write(Writes(dead_letters=letters))
    assert written.dead_letters_new == len(sizes)
    assert written.dead_letters_evicted == len(sizes) - len(kept)
    page = await store.dead_letters(limit=10, cursor=None)
    assert ([item.id for item in page.items], page.total) == (kept, len(kept))


async def test_a_number_given_out_again_replaces_its_letter(store: RecordStore) -> None:
    await store.write(Writes(dead_letters=[letter(1, at=10)]))
    written = await store.write(Writes(dead_letters=[letter(1, at=99)]))
    assert (written.dead_letters_new, written.dead_letters_evicted) == (1, 1)
    assert [row.at for row in await store.take_dead_letters(None)] == [99]


async def test_letters_are_taken_oldest_first_and_stay_until_deleted(store: RecordStore) -> None:
    await store.write(Writes(dead_letters=[letter(number) for number in (2, 1, 3)]))
    assert [row.id for row in await store.take_dead_letters(None)] == [1, 2, 3]
    assert [row.id for row in await store.take_dead_letters([3, 99, 1, 3])] == [1, 3]
    assert await store.delete_dead_letters([1, 99]) == 1
    assert await store.delete_dead_letters([]) == 0
    assert await store.delete_dead_letters(None) == 2
    assert (await store.dead_letters(limit=10, cursor=None)).total == 0


async def test_a_transaction_is_all_or_nothing(store: RecordStore) -> None:
    bad = RobotRow(id=None, last_seen=1)  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"(?i)null"):
        await store.write(Writes(readings=[reading(1)], robots=[bad]))
    assert await every_page(store, 10) == []
    assert await store.totals() == []
    await store.ping()


async def test_the_identity_stays(store: RecordStore) -> None:
    assert await store.identity() == await store.identity() != ""


async def test_while_cut_off_every_call_is_refused_and_then_it_heals(store: RecordStore) -> None:
    await store.write(Writes(readings=[reading(1)]))
    store.sever(True)
    for call in (
        store.ping(),
        store.identity(),
        store.robots(),
        store.totals(),
        store.latest_readings(),
        store.write(Writes(readings=[reading(2)])),
        store.delete_dead_letters(None),
    ):
        with pytest.raises(Unavailable, match="drill") as caught:
            await call
        assert caught.value.dependency == "records"
    store.sever(True)
    store.sever(False)
    async with asyncio.timeout(60):
        while True:
            try:
                await store.write(Writes(readings=[reading(3)]))
            except Unavailable:
                await asyncio.sleep(0.01)
            else:
                break
    assert [row.ts for row in await every_page(store, 10)] == [1, 3]
