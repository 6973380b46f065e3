"""One segment file: its name, what is known about it, and reading it in bounded steps."""

import os
import re
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.core.record import HEADER_BYTES, Header, Row, decode_header, resync, scan
from gateway.journal.disk import Disk

CHUNK: Final = 262_144  # bytes read and decoded in one step: a few milliseconds
_WINDOW: Final = 32 * 2**20  # holds at least one whole record of the largest size
_INDEX_STEP: Final = 262_144  # bytes between two entries of a segment's index
_NAME: Final = re.compile(r"([0-9]{20})\.log")
_QUARANTINED: Final = re.compile(r"([0-9]{20})\.log(\.[0-9]+)?\.corrupt")


def segment_name(base: int) -> str:
    return f"{base:020d}.log"


def base_of(name: str) -> int | None:
    """Return the base offset in the name of a segment file, None for other files."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def quarantined_base(name: str) -> int | None:
    """Return the base offset in the name of a quarantined file, None for other files."""
    match = _QUARANTINED.fullmatch(name)
    return int(match[1]) if match else None


@dataclass(slots=True, eq=False)
class Segment:
    """What the process knows about one file.

    ``size`` counts durable bytes and ``end`` is the offset after the last durable record; the
    writer moves them, readers on other threads only look (``size`` first, it is set last).
    ``missing``: offsets between base and end that damage took. ``written_s``: when the last record
    came, on the clock of the catalog. ``gone``: deleted, or replaced after damage.
    """

    base: int
    path: Path
    size: int
    end: int
    written_s: float
    created_s: float
    missing: int = 0
    gone: bool = False
    damaged: bool = False  # known, and it could not be replaced
    index: list[tuple[int, int]] = field(default_factory=list)  # (offset, position), ascending

    def note(self, offset: int, position: int) -> None:
        """Remember that the record ``offset`` begins at ``position``, if that helps a search."""
        if position - (self.index[-1][1] if self.index else HEADER_BYTES) >= _INDEX_STEP:
            self.index.append((offset, position))

    def near(self, offset: int) -> tuple[int, int]:
        """Return the closest known (offset, position) at or before ``offset``."""
        found = bisect_right(self.index, offset, key=lambda entry: entry[0])
        return self.index[found - 1] if found else (self.base, HEADER_BYTES)


@dataclass(slots=True)
class Chunk:
    """One step through a segment; the next one begins at ``position`` and expects ``next_offset``.

    ``skipped`` bytes held no intact record (then there are no rows). ``torn``: they reach the end
    of the segment. ``passed`` and ``gaps`` as in ``Scan``.
    """

    rows: list[Row]
    position: int
    next_offset: int
    passed: int = 0
    gaps: int = 0
    skipped: int = 0
    torn: bool = False


@dataclass(slots=True)
class Survey:
    """A whole segment, read once: what it holds and where it is damaged.

    ``size``: where the last intact record ends. ``torn``: bytes after that, in front of the end of
    the file. ``damage``: (position, bytes) of what is no record, in front of ``size``.
    ``missing``: offsets between base and ``end`` without a record.
    """

    base: int
    end: int
    size: int = HEADER_BYTES
    records: int = 0
    torn: int = 0
    damage: list[tuple[int, int]] = field(default_factory=list)
    index: list[tuple[int, int]] = field(default_factory=list)

    @property
    def missing(self) -> int:
        return self.end - self.base - self.records


def survey(disk: Disk, path: Path, base: int, start: int, *, limit: int = 2**63) -> Survey:
    """Read the segment in full. Records with offset ``limit`` and larger ones are not counted."""
    result = Survey(base, base)
    with opened(disk, path) as fd:
        size, position = os.fstat(fd).st_size, HEADER_BYTES
        while position < size:
            chunk = read_chunk(
                disk, fd, position, size, start, result.end, limit=limit, kinds=frozenset()
            )
            if chunk.torn:
                result.torn = chunk.skipped
                break
            if chunk.skipped:
                result.damage.append((position, chunk.skipped))
            elif chunk.position == position:
                break
            else:
                result.index.append((result.end, position))
                result.records += chunk.passed
                result.end = chunk.next_offset
                result.size = chunk.position
            position = chunk.position
    return result


@contextmanager
def opened(disk: Disk, path: Path) -> Iterator[int]:
    """Open ``path`` for reading."""
    fd = disk.open(path)
    try:
        yield fd
    finally:
        disk.close(fd)


def read_header(disk: Disk, path: Path) -> tuple[Header | None, int]:
    """Return the header, None if it is damaged, and the size of the file."""
    with opened(disk, path) as fd:
        return decode_header(disk.read(fd, HEADER_BYTES, 0)), os.fstat(fd).st_size


def read_chunk(
    disk: Disk,
    fd: int,
    position: int,
    size: int,
    start: int,
    expect: int,
    *,
    skip_to: int = 0,
    limit: int = 2**63,
    max_rows: int = 2**63,
    kinds: frozenset[int] | None = None,
) -> Chunk:
    """Return the records from ``position``, a record's begin, or what damage has to be skipped.

    Args:
        size: read nothing at or after this position.
        start: see gateway.core.record.seed. The others: see gateway.core.record.scan.
    """
    data = disk.read(fd, min(CHUNK, size - position), position)
    while True:
        found = scan(
            data, start, expect, skip_to=skip_to, limit=limit, max_rows=max_rows, kinds=kinds
        )
        if found.used or not found.need:
            break
        data = disk.read(fd, min(found.need, size - position), position)
        if len(data) < found.need:
            found.damaged = True  # its length leads out of the segment
            break
    if found.damaged and not found.used:
        return _skip(disk, fd, position, size, start, expect)
    return Chunk(found.rows, position + found.used, found.next_offset, found.passed, found.gaps)


def _skip(disk: Disk, fd: int, position: int, size: int, start: int, expect: int) -> Chunk:
    """Look for the next intact record after damage, in windows that grow."""
    begin, width = position, CHUNK
    while True:
        data = disk.read(fd, min(width, size - begin), begin)
        at = resync(data, start, expect)
        if at >= 0:
            return Chunk([], begin + at, expect, skipped=begin + at - position)
        if begin + len(data) >= size or len(data) < min(width, size - begin):
            return Chunk([], size, expect, skipped=size - position, torn=True)
        if width < _WINDOW:
            width *= 2
        else:
            begin += _WINDOW // 2
