"""Which segments there are, how much they may take, and what became of damaged ones."""

import errno
import logging
import os
import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.core.record import HEADER_BYTES, Header, encode_header, seed
from gateway.journal.disk import Disk
from gateway.journal.segment import Segment, opened, read_chunk, segment_name, survey

log = logging.getLogger(__name__)

IDENTITY: Final = "identity"
NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall time for what is written, a steady clock for how long ago it was."""

    unix_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    steady_s: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the journal. ``max_bytes`` covers all its segments, quarantined ones included."""

    segment_bytes: int
    max_bytes: int
    max_age_s: float


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A damaged file, kept under another name as evidence until its room or age is up."""

    path: Path
    size: int
    since_s: float


class Catalog:
    """The segments in order of their offsets.

    ``segments`` is a tuple that is replaced, never changed, so any thread may look at it. The
    methods that change something block and are called on threads.
    """

    def __init__(
        self, folder: Path, disk: Disk, clock: Clock, limits: Limits, identity: Header
    ) -> None:
        self.folder = folder
        self.disk = disk
        self.clock = clock
        self.limits = limits
        self.epoch = identity.epoch
        self.salt = identity.salt
        self.seed = seed(identity.salt)
        self.segments: tuple[Segment, ...] = ()
        self.quarantined: tuple[Quarantined, ...] = ()
        self.active: Segment | None = None
        self.dropped = {"age": 0, "size": 0, "corrupt": 0, "torn": 0}
        self._identity = identity
        self._lock = threading.Lock()  # for the tuples and counters: never held over I/O
        self._mending = threading.Lock()  # one repair at a time

    @property
    def bytes_on_disk(self) -> int:
        return sum(s.size for s in self.segments) + sum(q.size for q in self.quarantined)

    def header(self, base: int, age_s: float = 0.0) -> bytes:
        """Return the header of a segment begun ``age_s`` ago."""
        mine, created_ms = self._identity, self.clock.unix_ms() - int(age_s * 1000)
        return encode_header(Header(base, mine.epoch, mine.salt, created_ms))

    def save_identity(self) -> None:
        """Write epoch and salt to a file of their own, unless it is there."""
        path = self.folder / IDENTITY
        if not path.exists():
            self.disk.store(path, encode_header(self._identity))

    def at(self, offset: int) -> Segment | None:
        """Return the first segment that ends after ``offset``."""
        segments = self.segments
        found = bisect_right(segments, offset, key=lambda segment: segment.end)
        return segments[found] if found < len(segments) else None

    def base_after(self, segment: Segment) -> int:
        """Return the base of the next segment. From there on, that one counts, not ``segment``."""
        segments = self.segments
        found = bisect_right(segments, segment.base, key=lambda other: other.base)
        return segments[found].base if found < len(segments) else 2**63

    def add(self, segment: Segment) -> None:
        with self._lock:
            self.segments = (*self.segments, segment)

    def forget(self, segment: Segment, reason: str = "") -> None:
        """Take ``segment`` off the list; with a ``reason`` its records count as dropped."""
        with self._lock:
            if segment not in self.segments:
                return
            segment.gone = True
            self.segments = tuple(s for s in self.segments if s is not segment)
            if reason:
                self.dropped[reason] += segment.end - segment.base - segment.missing

    def count(self, reason: str, records: int) -> None:
        with self._lock:
            self.dropped[reason] += records

    def enforce(self, incoming: int = 0) -> None:
        """Delete the oldest files until the bounds hold, with ``incoming`` bytes to come."""
        now_s = self.clock.steady_s()
        over = self.bytes_on_disk + incoming - self.limits.max_bytes
        while self.quarantined:
            oldest = self.quarantined[0]
            if over <= 0 and now_s - oldest.since_s <= self.limits.max_age_s:
                break
            if not self._unlink(oldest.path):
                break
            over -= oldest.size
            with self._lock:
                self.quarantined = self.quarantined[1:]
        while self.segments and (first := self.segments[0]) is not self.active:
            if over > 0:
                reason = "size"
            elif now_s - first.written_s > self.limits.max_age_s:
                reason = "age"
            else:
                break
            if not self._unlink(first.path):
                break
            over -= first.size
            self.forget(first, reason)
            log.info("segment dropped: %s reason=%s", first.path.name, reason)

    def _unlink(self, path: Path) -> bool:
        try:
            self.disk.unlink(path)
        except OSError as exc:
            log.warning("cannot delete %s: %s", path.name, exc.strerror)
            return False
        return True

    def set_aside(self, path: Path) -> None:
        """Rename a file that cannot be read at all to ``*.corrupt``."""
        target = _free_name(path)
        self.disk.replace(path, target)
        self.disk.sync_folder(self.folder)
        self.hold(target)
        log.warning("segment quarantined: %s", target.name)

    def hold(self, path: Path) -> None:
        """Count a quarantined file from now on."""
        held = Quarantined(path, path.stat().st_size, self.clock.steady_s())
        with self._lock:
            self.quarantined = (*self.quarantined, held)

    def mend(self, segment: Segment) -> None:
        """Replace a damaged segment by one with its intact records; keep the old as ``*.corrupt``.

        The records that are gone are counted. Without room for the copy the segment stays as it is,
        ``damaged``, and readers step over the damage. Not for the active segment.
        """
        with self._mending:
            if segment.gone or segment.damaged:
                return
            try:
                mended = self._copy_intact(segment)
            except OSError as exc:
                log.warning("%s is damaged, no copy: %s", segment.path.name, exc.strerror)
                segment.damaged = True
                return
        with self._lock:
            listed = segment in self.segments
            segment.gone = True
            lost = mended.missing - segment.missing
            if listed:
                self.segments = tuple(mended if s is segment else s for s in self.segments)
                self.dropped["corrupt"] += lost
        if listed:
            log.warning("segment mended: %s records_lost=%d", segment.path.name, lost)
        else:  # retention was faster
            self._unlink(mended.path)

    def _copy_intact(self, segment: Segment) -> Segment:
        path, disk = segment.path, self.disk
        limit = self.base_after(segment)
        found = survey(disk, path, segment.base, self.seed, limit=limit)
        part = path.with_name(f"{path.name}.part")
        target = disk.create(part)
        try:
            age_s = self.clock.steady_s() - segment.created_s
            disk.write_all(target, self.header(segment.base, age_s))
            with opened(disk, path) as fd:
                position, expect = HEADER_BYTES, segment.base
                while position < found.size:
                    chunk = read_chunk(
                        disk, fd, position, found.size, self.seed, expect, limit=limit
                    )
                    if not chunk.skipped:
                        data = disk.read(fd, chunk.position - position, position)
                        disk.write_all(target, data)
                    position, expect = chunk.position, chunk.next_offset
            disk.sync(target)
            size = os.fstat(target).st_size
            self._swap(part, path)
        except OSError:
            disk.unlink(part)
            raise
        finally:
            disk.close(target)
        return Segment(
            segment.base,
            path,
            size,
            segment.end,
            segment.written_s,
            segment.created_s,
            missing=segment.end - segment.base - found.records,
        )

    def _swap(self, part: Path, path: Path) -> None:
        """Let ``part`` take the place of ``path``; at no time is there no file of that name."""
        evidence = _free_name(path)
        try:
            self.disk.link(path, evidence)
        except PermissionError:  # a file system without links
            self.disk.replace(path, evidence)
        self.disk.replace(part, path)
        self.disk.sync_folder(self.folder)
        self.hold(evidence)


def _free_name(path: Path) -> Path:
    target, number = path.with_name(f"{path.name}.corrupt"), 0
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.{number}.corrupt")
    return target


def segment_path(folder: Path, base: int) -> Path:
    return folder / segment_name(base)
