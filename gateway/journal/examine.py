"""Look at a journal from outside, also while a gateway writes it. Nothing is locked or changed."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.core.record import HEADER_BYTES, Header, Row, decode_header, seed
from gateway.journal.catalog import IDENTITY
from gateway.journal.cursor import FOLDER, decode_cursor
from gateway.journal.disk import Disk
from gateway.journal.segment import (
    Survey,
    base_of,
    opened,
    quarantined_base,
    read_chunk,
    read_header,
    survey,
)

_disk: Final = Disk()


class NotAJournal(Exception):
    """The folder holds no journal, or nothing in it says what its records are checked with."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One segment. ``problem`` is "" for an intact one.

    A torn end is no problem in the last segment: it is being written, or the next start cuts it;
    nor where no record is missing: a write failed there, and was done again in the next segment.
    """

    name: str
    bytes: int
    found: Survey
    torn: int
    problem: str


@dataclass(frozen=True, slots=True)
class Position:
    """A cursor file. ``next_offset`` is None if it is damaged or belongs to another journal."""

    name: str
    next_offset: int | None


@dataclass(frozen=True, slots=True)
class Extent:
    """What is there, without reading all of it. ``bytes`` includes quarantined files."""

    first: int
    end: int  # the offset after the last record
    segments: int
    bytes: int


class Examination:
    """A journal folder, opened for reading."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        identity = self._identity()
        if identity is None:
            raise NotAJournal(f"no journal in {folder}")
        self.epoch = identity.epoch
        self._seed = seed(identity.salt)

    def _identity(self) -> Header | None:
        if (path := self.folder / IDENTITY).is_file():
            stored = decode_header(path.read_bytes())
            if stored is not None:
                return stored
        headers = (read_header(_disk, path)[0] for _, path in reversed(self.segments()))
        return next((header for header in headers if header is not None), None)

    def segments(self) -> list[tuple[int, Path]]:
        """Return (base offset, path) in order."""
        if not self.folder.is_dir():
            return []
        found = ((base_of(path.name), path) for path in self.folder.iterdir())
        return sorted((base, path) for base, path in found if base is not None)

    def quarantined(self) -> list[Path]:
        """Return the files that hold damage, kept as evidence."""
        return sorted(p for p in self.folder.iterdir() if quarantined_base(p.name) is not None)

    def cursors(self) -> list[Position]:
        """Return where each named reader was when its cursor was last saved."""
        folder = self.folder / FOLDER
        result: list[Position] = []
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name.endswith(".part"):
                continue
            cursor = decode_cursor(path.read_bytes())
            mine = cursor is not None and cursor[0] == self.epoch
            result.append(Position(path.name, cursor[1] if cursor and mine else None))
        return result

    def extent(self) -> Extent:
        """Return how far the journal reaches; only its last segment is read."""
        segments, total = self.segments(), 0
        for path in [path for _, path in segments] + self.quarantined():
            with suppress(FileNotFoundError):
                total += path.stat().st_size
        for base, path in reversed(segments):
            with suppress(FileNotFoundError):
                end = survey(_disk, path, base, self._seed).end
                return Extent(segments[0][0], end, len(segments), total)
        return Extent(0, 0, 0, total)

    def verify(self) -> Iterator[Verdict]:
        """Read every byte of every segment."""
        segments = self.segments()
        for number, (base, path) in enumerate(segments):
            last = number == len(segments) - 1
            limit = 2**63 if last else segments[number + 1][0]
            try:
                header, size = read_header(_disk, path)
                found = survey(_disk, path, base, self._seed, limit=limit)
            except FileNotFoundError:  # retention was faster
                continue
            problem = self._problem(header, size, found, None if last else limit)
            yield Verdict(path.name, size, found, found.torn, problem)

    def _problem(
        self, header: Header | None, size: int, found: Survey, following: int | None
    ) -> str:
        if header is None and not (following is None and size < HEADER_BYTES):
            return "damaged header"
        if header is not None and header.epoch != self.epoch:
            return "of another journal"
        if found.damage:
            skipped = sum(size for _, size in found.damage)
            return f"{skipped} damaged bytes from byte {found.damage[0][0]}"
        if found.torn and following is not None and found.end < following:
            return f"{found.torn} damaged bytes at the end"
        return ""

    def newest(self, count: int, wanted: Callable[[Row], bool]) -> list[Row]:
        """Return the last ``count`` records that are ``wanted``, oldest first."""
        rows: deque[Row] = deque()
        segments = self.segments()
        for number in reversed(range(len(segments))):
            limit = segments[number + 1][0] if number + 1 < len(segments) else 2**63
            base, path = segments[number]
            mine: deque[Row] = deque(maxlen=max(count - len(rows), 0))
            mine.extend(row for row in self._walk(base, path, base, limit) if wanted(row))
            rows.extendleft(reversed(mine))
            if len(rows) >= count:
                break
        return list(rows)

    def after(self, offset: int) -> Iterator[Row]:
        """Return the records from ``offset`` on that are in the files now."""
        segments = self.segments()
        for number, (base, path) in enumerate(segments):
            limit = segments[number + 1][0] if number + 1 < len(segments) else 2**63
            if limit > offset:
                yield from self._walk(base, path, max(base, offset), limit)

    def _walk(self, base: int, path: Path, offset: int, limit: int) -> Iterator[Row]:
        try:
            with opened(_disk, path) as fd:
                size, position, expect = os.fstat(fd).st_size, HEADER_BYTES, base
                while position < size:
                    chunk = read_chunk(
                        _disk, fd, position, size, self._seed, expect, skip_to=offset, limit=limit
                    )
                    if chunk.torn or chunk.position == position:
                        return
                    yield from chunk.rows
                    position, expect = chunk.position, chunk.next_offset
        except FileNotFoundError:  # retention was faster
            return
