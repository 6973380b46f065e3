"""The PostgreSQL backend of RecordStore."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from gateway.aio.supervisor import Supervisor
from gateway.config.model import PostgresRecords
from gateway.core.errors import Unavailable
from gateway.core.units import size_bytes
from gateway.records.port import (
    Bucket,
    DeadLetterPage,
    DeadLetterRow,
    Page,
    ReadingRow,
    RobotRow,
    RobotTotals,
    Writes,
    Written,
)
from gateway.records.postgres import queries, writes
from gateway.records.postgres.link import Link, Session
from gateway.records.postgres.plain import storable, text
from gateway.records.postgres.pool import NotStorable, Pool
from gateway.records.postgres.schema import Months, migrate, migrations
from gateway.records.rows import Bounds, position_of

log = logging.getLogger(__name__)

T = TypeVar("T")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class PostgresRecordStore:
    """RecordStore over a few connections. Promises: gateway.records.port."""

    def __init__(
        self, pool: Pool, months: Months, scope: writes.Scope, now_ms: Callable[[], int]
    ) -> None:
        self._pool = pool
        self._months = months
        self._scope = scope
        self._now_ms = now_ms

    async def write(self, changes: Writes) -> Written:
        try:
            return await self._write(changes)
        except NotStorable:
            changes, replaced = storable(changes)
            log.warning("history cannot hold some text or number: %d rows changed", replaced)
            return await self._write(changes)

    async def _write(self, changes: Writes) -> Written:
        async def work(session: Session) -> Written:
            times = (row.ts for row in changes.readings)
            if missing := self._months.missing(times, self._now_ms()):
                await self._months.make(session.connection, missing)
            return await writes.write(session, changes, self._scope)

        return await self._pool.run(work, writes=True)

    async def readings(
        self, robot: str, from_ms: int, to_ms: int, *, limit: int, cursor: str | None
    ) -> Page:
        if cursor is not None:
            position_of(cursor)  # refused before a connection is taken
        name = text(robot)
        return await self._pool.run(
            lambda s: queries.readings(s, name, from_ms, to_ms, limit, cursor)
        )

    async def buckets(
        self,
        robot: str,
        from_ms: int,
        to_ms: int,
        *,
        metrics: Sequence[str],
        edges_ms: Sequence[int] | int,
    ) -> Bucket:
        name = text(robot)
        return await self._pool.run(
            lambda s: queries.buckets(s, name, from_ms, to_ms, metrics, edges_ms)
        )

    async def latest_readings(self) -> list[ReadingRow]:
        return await self._pool.run(queries.latest_readings)

    async def latest_reading(self, robot: str) -> ReadingRow | None:
        return await self._pool.run(lambda s: queries.latest_reading(s, text(robot)))

    async def totals(self) -> list[RobotTotals]:
        return await self._pool.run(queries.totals)

    async def robots(self) -> list[RobotRow]:
        return await self._pool.run(queries.robots)

    async def robot(self, robot: str) -> RobotRow | None:
        return await self._pool.run(lambda s: queries.robot(s, text(robot)))

    async def dead_letters(self, *, limit: int, cursor: str | None) -> DeadLetterPage:
        if cursor is not None:
            position_of(cursor)
        box = self._scope.box
        return await self._pool.run(lambda s: queries.dead_letters(s, box, limit, cursor))

    async def take_dead_letters(self, ids: Sequence[int] | None) -> list[DeadLetterRow]:
        box = self._scope.box
        return await self._pool.run(lambda s: queries.take_dead_letters(s, box, ids))

    async def delete_dead_letters(self, ids: Sequence[int] | None) -> int:
        box = self._scope.box
        return await self._pool.run(lambda s: writes.delete_dead_letters(s, box, ids), writes=True)

    async def identity(self) -> str:
        return await self._pool.run(queries.identity)

    async def ping(self) -> None:
        try:
            await self._pool.run(queries.identity)
        except Unavailable as exc:
            if self._pool.newer is not None:  # refused at a start; one that runs goes on without
                raise self._pool.newer from exc
            raise

    def sever(self, cut: bool) -> None:  # noqa: FBT001 - a switch
        self._pool.sever(cut=cut)


@asynccontextmanager
async def open_store(
    config: PostgresRecords, box: str, *, now_ms: Callable[[], int] = _now_ms
) -> AsyncIterator[PostgresRecordStore]:
    """Open the store; the server need not be there.

    Args:
        box: the name under which this box's events and dead letters are kept apart from those of
            others; it must stay the same over restarts.
        now_ms: Unix ms; decides which months get a partition.
    Raises:
        ConfigError: the dsn cannot be used.
    """
    link = Link(config, box)
    steps = await asyncio.to_thread(migrations)
    months = Months()

    async def prepare(session: Session) -> None:
        await migrate(session.connection, steps)
        await months.load(session.connection)

    pool = Pool(link.open, prepare, size=config.pool, timeout_s=config.timeout_s)
    bounds = Bounds(config.dead_letters, size_bytes(config.dead_letter_bytes))
    failed: Exception | None = None
    async with Supervisor() as tasks:
        tasks.spawn("connection to history", pool.keep)
        try:
            yield PostgresRecordStore(pool, months, writes.Scope(box, bounds), now_ms)
        except Exception as exc:  # noqa: BLE001 - raised below, where no group wraps it
            failed = exc
        finally:
            pool.close()
    if failed is not None:
        raise failed
