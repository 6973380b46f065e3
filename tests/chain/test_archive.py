"""From the journal to the history, with a real journal and a real SQLite."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gateway.aio.supervisor import Supervisor
from gateway.config.model import JournalConfig, SqliteRecords
from gateway.core.backoff import Backoff
from gateway.core.deadletter import DeadLetter
from gateway.core.deadletter import encode as encode_dead
from gateway.core.errors import Unavailable
from gateway.core.kinds import Kind
from gateway.core.payloads import Connection, Event, Payload, Pose, Sensor, State
from gateway.journal.open import open_journal
from gateway.journal.port import Journal
from gateway.records.open import open_records
from gateway.records.port import RecordStore, RobotRow, Writes, Written
from gateway.services.archive import KINDS, Archive

NOW = 1_790_000_000_000
ALL_TIME = (0, 2**52)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with open_journal(JournalConfig(commit_ms=1), tmp_path) as opened:
        yield opened


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[RecordStore]:
    async with open_records(SqliteRecords(), tmp_path) as opened:
        yield opened


@contextlib.asynccontextmanager
async def archiving(journal: Journal, store: RecordStore) -> AsyncIterator[Archive]:
    archive = Archive(
        journal.reader("records", KINDS),
        store,
        seen=lambda _: [RobotRow(id="passer-by", last_seen=NOW)],
        backoff=Backoff(base_s=0.01, cap_s=0.02),
    )
    async with Supervisor() as tasks:
        tasks.spawn("archive", archive.run)
        yield archive


def append(journal: Journal, *items: tuple[Kind, str, int, Payload | bytes]) -> int:
    entries = [
        (kind, robot, ts, item if isinstance(item, bytes) else msgspec.json.encode(item))
        for kind, robot, ts, item in items
    ]
    return journal.append(entries, NOW, lambda: None) + len(entries)


def assert_balanced(archive: Archive, journal: Journal) -> None:
    for hop, kind, line in archive.lines(journal.stats().committed_offset):
        assert (line.unaccounted, line.pending) == (0, 0), (hop, kind, line)


async def test_every_kind_finds_its_place(journal: Journal, store: RecordStore) -> None:
    end = append(
        journal,
        (Kind.CONNECTION, "r1", NOW - 9, Connection(state="online", fw="1.2", model="AP-1")),
        (Kind.POSE, "r1", NOW, Pose(x=1, y=2)),
        (Kind.STATE, "r1", NOW - 5, State(state="cleaning", battery=80, fan=2)),
        (Kind.SENSOR, "r1", NOW - 3, Sensor(seq=7, pm25=12.5)),
        (Kind.SENSOR, "r1", NOW - 3, Sensor(seq=7, pm25=12.5)),
        (Kind.EVENT, "r2", NOW - 1, Event(code="STUCK", level="warning")),
        (Kind.DEAD, "", NOW, encode_dead(DeadLetter("a/b", "INVALID", "why", b"\x00x"))),
        (Kind.SENSOR, "r1", NOW, b"not json"),
    )
    async with archiving(journal, store) as archive:
        assert await archive.reached(end, 5)
        assert_balanced(archive, journal)
        sensor = next(
            line
            for _, kind, line in archive.lines(journal.stats().committed_offset)
            if kind == "sensor"
        )
        assert (sensor.entered, sensor.delivered) == (3, 2)
        assert dict(sensor.dropped) == {"unreadable": 1}
        assert archive.duplicates == 1
    page = await store.readings("r1", *ALL_TIME, limit=10, cursor=None)
    assert [(row.ts, row.rts, row.seq, row.pm25) for row in page.rows] == [(NOW - 3, NOW, 7, 12.5)]
    robot = await store.robot("r1")
    assert robot is not None
    assert (robot.state, robot.battery, robot.connection, robot.firmware, robot.model) == (
        "cleaning",
        80,
        "online",
        "1.2",
        "AP-1",
    )
    assert [row.id for row in await store.robots()] == ["passer-by", "r1", "r2"]
    letters = await store.dead_letters(limit=10, cursor=None)
    assert [(x.topic, x.reason, x.payload) for x in letters.items] == [("a/b", "INVALID", b"\x00x")]


class Failing:
    """A store that is away for its first writes, in front of the real one."""

    def __init__(self, store: RecordStore, failures: int) -> None:
        self._store = store
        self.left = failures

    async def write(self, writes: Writes) -> Written:
        if self.left:
            self.left -= 1
            raise Unavailable("the store is away")
        return await self._store.write(writes)

    async def ping(self) -> None:
        await self._store.ping()


async def test_a_store_is_missed_also_when_there_is_nothing_to_write(
    journal: Journal, store: RecordStore
) -> None:
    store.sever(True)
    async with archiving(journal, store) as archive, asyncio.timeout(20):
        while not archive.failing:  # noqa: ASYNC110 - it looks now and then
            await asyncio.sleep(0.01)
        store.sever(False)
        while archive.failing:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_store_that_is_away_is_insisted_on(
    journal: Journal, store: RecordStore, caplog: pytest.LogCaptureFixture
) -> None:
    failing = Failing(store, failures=3)
    async with archiving(journal, failing) as archive:  # type: ignore[arg-type]
        end = append(journal, (Kind.SENSOR, "r1", NOW, Sensor(pm25=1.0)))
        assert await archive.reached(end, 5)
        assert_balanced(archive, journal)
    assert failing.left == 0
    assert caplog.text.count("does not take records") == 1
    assert (await store.readings("r1", *ALL_TIME, limit=10, cursor=None)).rows


async def test_the_cursor_stays_while_the_store_is_away(
    journal: Journal, store: RecordStore
) -> None:
    async with archiving(journal, Failing(store, failures=10**6)) as archive:  # type: ignore[arg-type]
        end = append(journal, (Kind.SENSOR, "r1", NOW, Sensor(pm25=1.0)))
        assert not await archive.reached(end, 0.2)
        assert archive.failing == "the store is away"
    async with archiving(journal, store) as archive:
        assert await archive.reached(end, 5)
    assert (await store.readings("r1", *ALL_TIME, limit=10, cursor=None)).rows


async def test_many_come_in_order_and_once(journal: Journal, store: RecordStore) -> None:
    async with archiving(journal, store) as archive:
        end = 0
        for start in range(0, 5_000, 100):
            end = append(
                journal,
                *(
                    (Kind.SENSOR, f"r{n % 3}", NOW + n, Sensor(seq=n, co2=400.0 + n % 50))
                    for n in range(start, start + 100)
                ),
            )
            await asyncio.sleep(0)
        assert await archive.reached(end, 20)
        assert_balanced(archive, journal)
    rows = []
    for robot in ("r0", "r1", "r2"):
        page = await store.readings(robot, *ALL_TIME, limit=10_000, cursor=None)
        seqs = [row.seq for row in page.rows if row.seq is not None]
        assert seqs == sorted(seqs)
        rows += seqs
    assert sorted(rows) == list(range(5_000))


async def test_a_canary_asks_the_store_and_leaves_nothing(
    journal: Journal, store: RecordStore
) -> None:
    canary = b'{"id":1,"ts":2}'
    deaf = Deaf(store)
    async with archiving(journal, deaf) as archive:  # type: ignore[arg-type]
        end = append(journal, (Kind.EVENT, "r1", NOW, Event(code="FIRST")))
        assert await archive.reached(end, 20)  # whom the live view saw was written with it
        end = append(
            journal, (Kind.POSE, "r1", NOW, Pose(x=1, y=2)), (Kind.CANARY, "b1", NOW, canary)
        )
        await deaf.asked(2)
        assert archive.failing == "it does not answer"
        assert not await archive.reached(end, 0.0)
        deaf.hears = True
        assert await archive.reached(end, 20)
        assert_balanced(archive, journal)
        assert archive.failing == ""
    assert [row.id for row in await store.robots()] == ["passer-by", "r1"]


class Deaf:
    """A store that takes what is written, which is nothing, and answers no ping at first."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self.hears = False
        self._pings = 0
        self._pinged = asyncio.Condition()

    async def asked(self, times: int) -> None:
        async with asyncio.timeout(20), self._pinged:
            await self._pinged.wait_for(lambda: self._pings >= times)

    async def write(self, writes: Writes) -> Written:
        return await self._store.write(writes)

    async def ping(self) -> None:
        async with self._pinged:
            self._pings += 1
            self._pinged.notify_all()
        if not self.hears:
            raise Unavailable("it does not answer", dependency="records")
        await self._store.ping()
