"""Writing to and asking a PostgreSQL history until it answers, or until it fails."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.config.model import PostgresRecords
from gateway.core.errors import Unavailable
from gateway.records.port import ReadingRow, RecordStore, RobotRow, Writes

T = TypeVar("T")

PATIENCE_S = 60.0
TIMEOUT_S = 1.0
BATCH = 7


def rows(first: int, count: int = BATCH) -> Writes:
    return Writes(
        readings=[
            ReadingRow(robot=f"r{n % 2}", ts=n, rts=n + 1, seq=n, pm25=1.0)
            for n in range(first, first + count)
        ],
        robots=[RobotRow(id="r0", last_seen=first)],
    )


def through(port: int, database: str = "postgres", **settings: float) -> PostgresRecords:
    return PostgresRecords(
        dsn=f"postgresql://edge@127.0.0.1:{port}/{database}",
        timeout_s=settings.get("timeout_s", TIMEOUT_S),
        pool=int(settings.get("pool", 3)),
    )


async def until_it_works(ask: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await ask()
            except Unavailable:
                await asyncio.sleep(0.02)


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await is_so():  # noqa: ASYNC110 - a server process is asked
            await asyncio.sleep(0.02)


async def until_it_fails(ask: Callable[[], Awaitable[object]]) -> Unavailable:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await ask()
            except Unavailable as exc:
                return exc
            await asyncio.sleep(0.02)


async def kept(store: RecordStore) -> list[int]:
    found: list[int] = []
    for robot in ("r0", "r1"):
        page = await store.readings(robot, 0, 2**62, limit=10**6, cursor=None)
        found += [row.ts for row in page.rows]
    return sorted(found)
