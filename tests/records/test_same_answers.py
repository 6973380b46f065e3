"""SQLite and PostgreSQL give the same answers to the same questions."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import msgspec
import pytest

from gateway.config.model import PostgresRecords, SqliteRecords
from gateway.records.open import open_records
from gateway.records.port import (
    METRIC_NAMES,
    DeadLetterRow,
    ReadingRow,
    RecordStore,
    RobotRow,
    Writes,
)

DAY = 86_400_000


def reading(ts: int) -> ReadingRow:
    return ReadingRow(robot="r1", ts=ts, rts=ts + 5, seq=1, pm25=1.5)


async def both(tmp_path: Path, dsn: str, stack: AsyncExitStack) -> list[RecordStore]:
    configs: list[SqliteRecords | PostgresRecords] = [
        SqliteRecords(dead_letters=20, dead_letter_bytes="4000B"),
        PostgresRecords(dsn=dsn, dead_letters=20, dead_letter_bytes="4000B"),
    ]
    return [await stack.enter_async_context(open_records(each, tmp_path)) for each in configs]


def some_writes(rng: Random) -> Writes:
    """Return a transaction in which keys meet again and again, also within it."""
    readings = []
    for _ in range(rng.randrange(12)):
        ts = rng.choice([rng.randrange(6), DAY + rng.randrange(6), 3 * DAY // 2])
        readings.append(
            ReadingRow(
                robot=rng.choice(["r1", "r2"]),
                ts=ts,
                rts=ts + rng.choice([0, 0, 1]),
                seq=rng.choice([None, 0, 1, 2]),
                pm25=rng.choice([None, 0.1, 2.0, 1e-300]),
                temp=rng.choice([None, -40.0, 21.700000000000003]),
                room=rng.choice([None, "k", "침실"]),
            )
        )
    robots = [
        RobotRow(
            id=rng.choice(["r1", "r2", "R3"]),
            last_seen=rng.randrange(100),
            state=rng.choice([None, "idle", "error"]),
            error=rng.choice([None, "stuck"]),
            battery=rng.choice([None, 12.25]),
            fan=rng.choice([None, 3]),
        )
        for _ in range(rng.randrange(4))
    ]
    letters = [
        DeadLetterRow(
            id=rng.randrange(40),
            topic="é" * rng.randrange(9),
            payload=rng.randbytes(rng.randrange(300)),
            reason="INVALID",
            detail="d",
            at=rng.randrange(3),
        )
        for _ in range(rng.randrange(4))
    ]
    return Writes(readings=readings, robots=robots, dead_letters=letters)


async def test_both_backends_give_the_same_answers(postgres_database: str, tmp_path: Path) -> None:
    rng = Random(11)
    async with AsyncExitStack() as stack:
        stores = await both(tmp_path, postgres_database, stack)

        async def agree(ask: Callable[[RecordStore], object]) -> None:
            answers = [await ask(store) for store in stores]  # type: ignore[misc]
            assert answers[0] == answers[1]

        for _ in range(150):
            changes = some_writes(rng)
            await agree(lambda store, changes=changes: store.write(changes))  # type: ignore[misc]
        for name in ("robots", "totals", "latest_readings"):
            await agree(lambda store, name=name: getattr(store, name)())  # type: ignore[misc]
        for ids in (None, [], [5, 1, 1, 39]):
            await agree(lambda store, ids=ids: store.take_dead_letters(ids))  # type: ignore[misc]
        await agree(lambda store: store.dead_letters(limit=7, cursor=None))
        for robot in ("r1", "r2", "none"):
            await agree(lambda s, r=robot: s.readings(r, 2, DAY + 4, limit=5, cursor=None))  # type: ignore[misc]
            await agree(lambda s, r=robot: s.readings(r, 0, 2**62, limit=999, cursor=None))  # type: ignore[misc]
            await agree(lambda s, r=robot: s.latest_reading(r))  # type: ignore[misc]
        page = await stores[0].readings("r1", 0, 2**62, limit=3, cursor=None)
        for store in stores:  # a cursor of one is good for the other
            rest = await store.readings("r1", 0, 2**62, limit=3, cursor=page.cursor)
            assert rest.rows[0].ts >= page.rows[-1].ts


@pytest.mark.parametrize("edges", [10_000, [0, 1_000, 9_500, 9_501, 60_000], [5], []])
async def test_both_backends_count_the_same(
    postgres_database: str, tmp_path: Path, edges: list[int] | int
) -> None:
    rng = Random(5)
    rows = [
        msgspec.structs.replace(reading(n * 37), pm25=rng.uniform(0, 1000), x=rng.random())
        for n in range(2_000)
    ]
    async with AsyncExitStack() as stack:
        found = []
        for store in await both(tmp_path, postgres_database, stack):
            await store.write(Writes(readings=rows))
            found.append(
                await store.buckets("r1", 40, 50_000, metrics=METRIC_NAMES, edges_ms=edges)
            )
    ours, theirs = found
    assert ours.t == theirs.t
    assert bool(ours.t) == (edges not in ([5], []))
    for name in METRIC_NAMES:
        low, mean, high = ours.values[name]
        low2, mean2, high2 = theirs.values[name]
        assert (low, high) == (low2, high2)
        for one, other in zip(mean, mean2, strict=True):  # sums are rounded in another order
            assert one == other or one == pytest.approx(other, rel=1e-13)
