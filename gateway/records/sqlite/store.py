"""The SQLite backend of RecordStore."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from gateway.aio.worker import Worker, open_worker
from gateway.core.errors import Unavailable
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
from gateway.records.rows import CUT, DEPENDENCY, Bounds
from gateway.records.sqlite import queries, writes
from gateway.records.sqlite.database import Connection, Database, Session

T = TypeVar("T")

READERS: Final = 2  # threads: a long question does not keep the short ones waiting
WAITING_READS: Final = 128
WAITING_WRITES: Final = 16  # each is a batch
READ_S: Final = 10.0
WRITE_S: Final = 30.0  # a slow disk is waited for; the caller repeats with the same keys


class SqliteRecordStore:
    """RecordStore over one writing and some reading threads. Promises: gateway.records.port."""

    def __init__(self, writer: Worker[Session], readers: Worker[Session], bounds: Bounds) -> None:
        self._writer = writer
        self._readers = readers
        self._bounds = bounds
        self._cut = False

    async def write(self, changes: Writes) -> Written:
        return await self._change(lambda c: writes.write(c, changes, self._bounds))

    async def readings(
        self, robot: str, from_ms: int, to_ms: int, *, limit: int, cursor: str | None
    ) -> Page:
        return await self._ask(lambda c: queries.readings(c, robot, from_ms, to_ms, limit, cursor))

    async def buckets(
        self,
        robot: str,
        from_ms: int,
        to_ms: int,
        *,
        metrics: Sequence[str],
        edges_ms: Sequence[int] | int,
    ) -> Bucket:
        return await self._ask(
            lambda c: queries.buckets(c, robot, from_ms, to_ms, metrics, edges_ms)
        )

    async def latest_readings(self) -> list[ReadingRow]:
        return await self._ask(queries.latest_readings)

    async def latest_reading(self, robot: str) -> ReadingRow | None:
        return await self._ask(lambda c: queries.latest_reading(c, robot))

    async def totals(self) -> list[RobotTotals]:
        return await self._ask(queries.totals)

    async def robots(self) -> list[RobotRow]:
        return await self._ask(queries.robots)

    async def robot(self, robot: str) -> RobotRow | None:
        return await self._ask(lambda c: queries.robot(c, robot))

    async def dead_letters(self, *, limit: int, cursor: str | None) -> DeadLetterPage:
        return await self._ask(lambda c: queries.dead_letters(c, limit, cursor))

    async def take_dead_letters(self, ids: Sequence[int] | None) -> list[DeadLetterRow]:
        return await self._ask(lambda c: queries.take_dead_letters(c, ids))

    async def delete_dead_letters(self, ids: Sequence[int] | None) -> int:
        return await self._change(lambda c: writes.delete_dead_letters(c, ids))

    async def identity(self) -> str:
        return await self._ask(queries.identity)

    async def ping(self) -> None:
        await self._ask(queries.identity)

    def sever(self, cut: bool) -> None:  # noqa: FBT001 - a switch
        self._cut = cut

    async def _ask(self, work: Callable[[Connection], T]) -> T:
        self._refuse_if_cut()
        return await self._readers.call(lambda session: session.run(work))

    async def _change(self, work: Callable[[Connection], T]) -> T:
        self._refuse_if_cut()
        return await self._writer.call(lambda session: session.run(work))

    def _refuse_if_cut(self) -> None:
        if self._cut:
            raise Unavailable(CUT, dependency=DEPENDENCY)


@asynccontextmanager
async def open_store(
    path: Path, bounds: Bounds, *, read_s: float = READ_S
) -> AsyncIterator[SqliteRecordStore]:
    """Open the store at ``path``. The file itself is opened by the first call that needs it.

    A question that takes longer than ``read_s`` is ended and answered with Unavailable.
    """
    database = Database(path)
    async with (
        open_worker(
            DEPENDENCY,
            partial(Session, database, writes=True, deadline_s=WRITE_S),
            capacity=WAITING_WRITES,
            deadline_s=WRITE_S,
        ) as writer,
        open_worker(
            DEPENDENCY,
            partial(Session, database, writes=False, deadline_s=read_s),
            threads=READERS,
            capacity=WAITING_READS,
            deadline_s=read_s,
        ) as readers,
    ):
        yield SqliteRecordStore(writer, readers, bounds)
