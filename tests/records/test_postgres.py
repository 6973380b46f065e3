"""What PostgreSQL history does beyond the port's promises: months, boxes, versions, bad text."""

import asyncio
import json
import math
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import asyncpg
import msgspec
import pytest

from gateway.config.model import ConfigError, PostgresRecords
from gateway.core.errors import Unavailable
from gateway.records.open import open_records
from gateway.records.port import (
    DeadLetterRow,
    EventRow,
    ReadingRow,
    RecordStore,
    RobotRow,
    Writes,
)
from gateway.records.postgres.schema import migrations
from gateway.records.postgres.store import open_store
from tests.services.postgres import Postgres

DAY = 86_400_000
NEWEST_SCHEMA = len(migrations())


def ms(year: int, month: int, day: int = 1) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1000


def reading(ts: int, robot: str = "r1", seq: int | None = 1) -> ReadingRow:
    return ReadingRow(robot=robot, ts=ts, rts=ts + 5, seq=seq, pm25=1.5)


async def times(store: RecordStore, robot: str = "r1") -> list[int]:
    page = await store.readings(robot, 0, 2**62, limit=1_000_000, cursor=None)
    return [row.ts for row in page.rows]


async def asked(dsn: str, sql: str) -> list[tuple[object, ...]]:
    client = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await client.fetch(sql)]
    finally:
        await client.close()


async def partitions(dsn: str) -> dict[str, int]:
    rows = await asked(
        dsn, "SELECT tableoid::regclass::text, count(*)::int FROM edge_gateway.readings GROUP BY 1"
    )
    return {str(name).removeprefix("edge_gateway."): int(str(count)) for name, count in rows}


async def test_every_time_has_a_place_and_a_month_its_own(postgres_database: str) -> None:
    now = ms(2026, 11, 23)
    stamps = [
        0,
        ms(2019, 12, 31),
        ms(2020, 1),
        ms(2026, 11) - 1,
        ms(2026, 11),
        ms(2026, 12, 31),
        ms(2027, 1),
        8_640_000_000_000_000,  # the last one that a robot may send
        2**63 - 1,
    ]
    async with open_store(PostgresRecords(dsn=postgres_database), "a", now_ms=lambda: now) as store:
        written = await store.write(Writes(readings=[reading(ts) for ts in stamps[:-1]]))
        assert written.readings_new == len(stamps) - 1
        await store.write(
            Writes(readings=[ReadingRow(robot="r1", ts=stamps[-1], rts=stamps[-1], seq=2)])
        )
        assert await partitions(postgres_database) == {
            "readings_other": 5,
            "readings_2020_01": 1,
            "readings_2026_10": 1,
            "readings_2026_11": 1,
            "readings_2026_12": 1,
        }
        assert await times(store) == stamps[:-1]  # the end of a range is not in it
        newest = await store.latest_reading("r1")
        assert newest is not None
        assert newest.ts == stamps[-1]


async def test_what_came_too_early_moves_into_its_month(postgres_database: str) -> None:
    config = PostgresRecords(dsn=postgres_database)
    early = [reading(ms(2027, 3) + n, seq=n) for n in range(50)]
    async with open_store(config, "a", now_ms=lambda: ms(2026, 11)) as store:
        await store.write(Writes(readings=early))
        assert await partitions(postgres_database) == {"readings_other": 50}
    async with open_store(config, "a", now_ms=lambda: ms(2027, 3)) as store:
        again = await store.write(Writes(readings=[*early, reading(ms(2027, 3), seq=99)]))
        assert (again.readings_new, again.readings_duplicate) == (1, 50)
        assert await partitions(postgres_database) == {"readings_2027_03": 51}


async def test_boxes_that_make_the_same_month_at_once(postgres_database: str) -> None:
    config = PostgresRecords(dsn=postgres_database)
    now = ms(2026, 11)
    async with AsyncExitStack() as stack:
        boxes = [
            await stack.enter_async_context(open_store(config, f"b{n}", now_ms=lambda: now))
            for n in range(4)
        ]
        async with asyncio.TaskGroup() as tasks:
            for n, box in enumerate(boxes):
                rows = [reading(ms(2026, month), f"r{n}") for month in (11, 10, 9)]
                tasks.create_task(box.write(Writes(readings=rows)))
    names = {f"readings_2026_{month:02}": 4 for month in (9, 10, 11)}
    assert await partitions(postgres_database) == names


async def test_boxes_that_start_at_once_migrate_once(
    postgres_database: str, tmp_path: Path
) -> None:
    config = PostgresRecords(dsn=postgres_database, pool=2)

    async def start(box: str) -> str:
        async with open_records(config, tmp_path, box=box) as store:
            async with asyncio.timeout(60):
                while True:
                    try:
                        return await store.identity()
                    except Unavailable:
                        await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as tasks:
        found = [tasks.create_task(start(f"b{n}")) for n in range(8)]
    assert len({each.result() for each in found}) == 1
    assert await asked(postgres_database, "SELECT schema FROM edge_gateway.store") == [
        (NEWEST_SCHEMA,)
    ]


async def test_two_boxes_share_readings_and_keep_their_letters_apart(
    postgres_database: str, tmp_path: Path
) -> None:
    config = PostgresRecords(dsn=postgres_database, dead_letters=2)
    event = EventRow(offset=7, robot="r1", ts=1, rts=2, code="STUCK", level="warning")

    def letter(number: int, topic: str) -> DeadLetterRow:
        return DeadLetterRow(id=number, topic=topic, payload=b"", reason="", detail="", at=number)

    async with (
        open_records(config, tmp_path, box="a") as a,
        open_records(config, tmp_path, box="b") as b,
    ):
        assert await a.identity() == await b.identity()
        for box, name in ((a, "of a"), (b, "of b")):
            letters = [letter(1, name), letter(2, name)]
            written = await box.write(
                Writes(readings=[reading(5)], events=[event], dead_letters=letters)
            )
            assert (written.dead_letters_new, written.dead_letters_evicted) == (2, 0)
        assert [row.readings for row in await a.totals()] == [1]  # the same one over both boxes
        rows = await asked(
            postgres_database, 'SELECT box, "offset" FROM edge_gateway.events ORDER BY 1'
        )
        assert rows == [("a", 7), ("b", 7)]
        evicted = await a.write(Writes(dead_letters=[letter(3, "of a")]))
        assert evicted.dead_letters_evicted == 1
        assert await a.delete_dead_letters([2]) == 1
        assert [(row.id, row.topic) for row in await a.take_dead_letters(None)] == [(3, "of a")]
        page = await b.dead_letters(limit=10, cursor=None)
        assert [(row.id, row.topic) for row in page.items] == [(2, "of b"), (1, "of b")]
        assert await a.delete_dead_letters(None) == 1
        assert (await b.dead_letters(limit=10, cursor=None)).total == 2


async def test_two_boxes_write_the_same_robots_at_once(
    postgres_database: str, tmp_path: Path
) -> None:
    config = PostgresRecords(dsn=postgres_database)
    robots = [f"r{n}" for n in range(20)]

    def batch(rng: Random, round_: int) -> Writes:
        some = rng.sample(robots, 12)
        rows = [
            reading(round_ * 10 + n % 10, name, seq=rng.choice([None, 1]))
            for n in range(3)
            for name in some
        ]
        seen = [RobotRow(id=name, last_seen=round_) for name in some]
        rng.shuffle(rows)
        return Writes(readings=rows, robots=seen)

    async def fill(box: str, seed: int) -> int:
        rng = Random(seed)
        async with open_records(config, tmp_path, box=box) as store:
            new = 0
            for round_ in range(30):
                while True:
                    try:
                        new += (await store.write(batch(rng, round_))).readings_new
                    except Unavailable as exc:
                        assert "another box" not in exc.detail  # a deadlock  # noqa: PT017
                        continue
                    break
            return new

    async with asyncio.TaskGroup() as tasks:
        found = [tasks.create_task(fill(box, seed)) for seed, box in enumerate("abc")]
    counted = await asked(
        postgres_database,
        "SELECT (SELECT count(*) FROM edge_gateway.readings)::int,"
        " (SELECT sum(readings) FROM edge_gateway.reading_totals)::int,"
        " (SELECT count(*) FROM (SELECT 1 FROM edge_gateway.readings GROUP BY robot, ts"
        "  HAVING count(*) > 1 AND bool_or(seq = -1) AND NOT bool_or(seq = 1)) d)::int",
    )
    total = sum(each.result() for each in found)
    assert counted == [(total, total, 0)]


async def test_tables_of_a_newer_version_are_left_alone(
    postgres_database: str, tmp_path: Path
) -> None:
    config = PostgresRecords(dsn=postgres_database)
    async with open_records(config, tmp_path) as store:
        await store.write(Writes(readings=[reading(1)]))
        await asked(postgres_database, "UPDATE edge_gateway.store SET schema = 99")
        assert await times(store) == [1]  # who runs goes on
    with pytest.raises(ConfigError, match="schema 99"):
        async with open_records(config, tmp_path):
            pytest.fail("opened tables that it does not understand")


async def test_a_database_that_is_not_utf_8_is_refused_with_the_reason(
    postgres: Postgres, tmp_path: Path
) -> None:
    await asyncio.to_thread(
        postgres.psql,
        "CREATE DATABASE old_text ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
    )
    async with open_records(PostgresRecords(dsn=postgres.dsn("old_text")), tmp_path) as store:
        with pytest.raises(Unavailable, match="LATIN1"):
            await store.ping()
    await asyncio.to_thread(postgres.drop_database, "old_text")


async def test_what_postgresql_cannot_hold_is_replaced_and_stops_nothing(
    postgres_database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = "a\0b\ud800c\U0001f600"
    good = "a\ufffdb\ufffdc\U0001f600"
    whole = Writes(
        readings=[
            msgspec.structs.replace(reading(1), robot=bad, room=bad),
            ReadingRow(robot="r1", ts=2**70, rts=2**70, seq=2**80, x=math.inf, y=-math.inf),
            reading(3),
        ],
        robots=[RobotRow(id=bad, last_seen=-(2**70), state=bad, error=bad, fan=2**64, name="é")],
        events=[EventRow(offset=2**70, robot=bad, ts=1, rts=1, code=bad, level=bad, room=bad)],
        dead_letters=[
            DeadLetterRow(id=4, topic=bad, payload=b"\0\xff", reason=bad, detail=bad, at=1)
        ],
    )
    async with open_records(PostgresRecords(dsn=postgres_database), tmp_path) as store:
        for fields in ("readings", "robots", "events", "dead_letters"):  # each of them alone, too
            await store.write(Writes(**{fields: getattr(whole, fields)}))
        again = await store.write(whole)
        assert (again.readings_duplicate, again.dead_letters_new) == (3, 0)
        assert (await store.readings(bad, 0, 10, limit=9, cursor=None)).rows[0].room == good
        assert await times(store) == [3]
        row = await store.robot(bad)
        assert row is not None
        assert (row.id, row.error, row.fan, row.name) == (good, good, 2**63 - 1, "é")
        assert [each.id for each in await store.robots()] == [good]
        (letter,) = await store.take_dead_letters(None)
        assert (letter.topic, letter.payload) == (good, b"\0\xff")
        assert await store.take_dead_letters([2**70, -(2**70)]) == []
    assert "5 rows changed" in caplog.text


async def test_a_pose_comes_back_as_the_text_it_was(postgres_database: str, tmp_path: Path) -> None:
    pose = json.dumps({"x": 0.1, "map": "\0"})  # escaped: text that is no NUL
    async with open_records(PostgresRecords(dsn=postgres_database), tmp_path) as store:
        await store.write(Writes(robots=[RobotRow(id="r1", last_seen=1, pose=pose)]))
        row = await store.robot("r1")
        assert row is not None
        assert row.pose == pose


def test_migrations_have_no_gap_and_are_in_the_package() -> None:
    assert [sql for sql in migrations() if "CREATE TABLE readings (" in sql] == migrations()[:1]
