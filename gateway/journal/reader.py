"""A named reader: from memory while it keeps up, else from the files, on a thread."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from gateway.core.record import HEADER_BYTES
from gateway.journal.catalog import Catalog
from gateway.journal.cursor import Cursor
from gateway.journal.port import Read, Record
from gateway.journal.segment import Chunk, Segment, opened, read_chunk
from gateway.journal.tail import Tail

log = logging.getLogger(__name__)

_PAUSE_S: Final = 0.5  # before the files are tried again after an error such as EMFILE


@dataclass(frozen=True, slots=True)
class Place:
    """A position of a reader in bytes; the record there has offset ``expect`` or more."""

    segment: Segment
    position: int
    expect: int


@dataclass(frozen=True, slots=True)
class Step:
    """What one look into the files gave, and where the next one begins."""

    read: Read
    place: Place | None


def read_files(
    catalog: Catalog,
    place: Place | None,
    position: int,
    limit: int,
    *,
    kinds: frozenset[int] | None,
    max_records: int,
) -> Step:
    """Return the next records from ``position``, which is below ``limit``; moves forward always.

    Blocks: for a thread. One chunk is decoded; only looking for a position that is not in a
    segment's index takes more.
    """
    if place is not None and place.expect != position:
        place = None  # it went on from memory in between
    while True:
        if place is None or place.segment.gone:
            segment = catalog.at(position)
            if segment is None or segment.base >= limit:
                return Step(Read([], limit, 0, limit - position), None)
            if segment.base > position:
                return Step(
                    Read([], segment.base, 0, segment.base - position),
                    Place(segment, HEADER_BYTES, segment.base),
                )
            near, at = segment.near(position)
            place = Place(segment, at, near)
        segment = place.segment
        size, end = segment.size, min(segment.end, limit)
        bound = min(limit, catalog.base_after(segment))
        try:
            chunk = _chunk(catalog, place, position, size, bound, kinds, max_records)
        except FileNotFoundError:
            if not segment.gone:  # deleted by somebody else
                log.warning("segment is missing: %s", segment.path.name)
                catalog.forget(segment, "corrupt")
            place = None
            continue
        if chunk is None or (chunk.torn and place.expect >= segment.end):
            # The segment has no more for us. (It may end with what a failed write left behind.)
            if end > position:
                return Step(Read([], end, 0, end - position), None)
            place = None
            continue
        if chunk.skipped and segment is not catalog.active and not segment.damaged:
            catalog.mend(segment)
            if segment.gone:
                place = None
                continue
        place = Place(segment, chunk.position, chunk.next_offset)
        if chunk.next_offset > position:
            records = [Record(*row) for row in chunk.rows]
            read = Read(records, chunk.next_offset, chunk.passed, chunk.gaps)
            return Step(read, place)


def _chunk(
    catalog: Catalog,
    place: Place,
    position: int,
    size: int,
    bound: int,
    kinds: frozenset[int] | None,
    max_records: int,
) -> Chunk | None:
    """Return the next chunk, or None if the segment holds nothing more below ``bound``."""
    if place.position >= size:
        return None
    with opened(catalog.disk, place.segment.path) as fd:
        chunk = read_chunk(
            catalog.disk,
            fd,
            place.position,
            size,
            catalog.seed,
            place.expect,
            skip_to=position,
            limit=bound,
            max_rows=max_records,
            kinds=kinds,
        )
    return None if chunk.position == place.position else chunk


class FileReader:
    """A Reader of the journal; see gateway.journal.port."""

    def __init__(
        self,
        cursor: Cursor,
        kinds: frozenset[int] | None,
        *,
        catalog: Catalog,
        tail: Tail,
        executor: Executor,
        committed: Callable[[], int],
        changed: Callable[[], Awaitable[None]],
        moved: Callable[[], None],
    ) -> None:
        self.name = cursor.name
        self._cursor = cursor
        self._kinds = kinds
        self._mask = -1 if kinds is None else sum(1 << kind for kind in kinds)
        self._catalog = catalog
        self._tail = tail
        self._executor = executor
        self._durable = committed
        self._changed = changed
        self._moved = moved
        self._position = cursor.committed
        self._place: Place | None = None
        self._at_once = False

    async def read(self, *, max_records: int = 10_000) -> Read:
        if self._at_once:  # a reader in a hurry must not keep the loop for itself
            await asyncio.sleep(0)
        self._at_once = True
        while (limit := self._durable()) <= self._position:
            self._at_once = False
            await self._changed()
        step = self._tail.read(self._position, self._kinds, self._mask, max_records)
        if step is None:
            step = await self._from_files(limit, max_records)
        if step.lost:
            log.warning(
                "reader %s lost records: count=%d from=%d", self.name, step.lost, self._position
            )
        self._position = step.next_offset
        return step

    async def _from_files(self, limit: int, max_records: int) -> Read:
        loop = asyncio.get_running_loop()
        position, place, reported = self._position, self._place, False
        while True:
            try:
                step = await loop.run_in_executor(
                    self._executor,
                    lambda: read_files(
                        self._catalog,
                        place,
                        position,
                        limit,
                        kinds=self._kinds,
                        max_records=max_records,
                    ),
                )
            except OSError as exc:
                if not reported:
                    log.error("reader %s cannot read: %s", self.name, exc.strerror)  # noqa: TRY400
                    reported = True
                await asyncio.sleep(_PAUSE_S)
            else:
                self._place = step.place
                return step.read

    def commit(self, next_offset: int) -> None:
        if next_offset > self._position:
            raise ValueError(f"commit of {next_offset}, read only up to {self._position}")
        if next_offset > self._cursor.committed:
            self._cursor.committed = next_offset
            self._moved()

    @property
    def position(self) -> int:
        return self._position

    @property
    def committed(self) -> int:
        return self._cursor.committed
