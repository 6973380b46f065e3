"""The thread that writes: groups of records, one fdatasync each, and what to do when it fails."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final

from gateway.core.record import HEADER_BYTES
from gateway.journal.catalog import Catalog, segment_path
from gateway.journal.segment import Segment
from gateway.journal.tail import Block

log = logging.getLogger(__name__)

RETRY_S: Final = 0.5  # between attempts while the disk is full or failing
_TICK_S: Final = 5.0  # how often age is looked at while nothing is written
_PIECE: Final = 1_048_576  # bytes joined for one write call: bounds how long the GIL is held
_SEGMENTS_PER_AGE: Final = 8  # a segment takes at most this part of max_age, so age has an effect

Blob = tuple[int, int, bytes]
"""Offset of the first record, offset after the last, their bytes."""


@dataclass(slots=True)
class Group:
    """What becomes durable together. The loop fills it, the writer only reads ``blobs``."""

    blobs: list[Blob] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    callbacks: list[Callable[[], None]] = field(default_factory=list)
    size: int = 0  # bytes
    began_s: float = 0.0  # the loop's time of the first append


class Writer:
    """Writes groups in order on a thread of its own; ``done`` is called there after each.

    A group that cannot be written is tried again every ``retry_s`` until it is, or ``give_up``.
    ``failing`` says why nothing becomes durable, "" while all is well.
    """

    def __init__(
        self, catalog: Catalog, done: Callable[[Group], None], *, retry_s: float = RETRY_S
    ) -> None:
        self._catalog = catalog
        self._disk = catalog.disk
        self._done = done
        self._retry_s = retry_s
        self._groups: SimpleQueue[Group | None] = SimpleQueue()
        self._given_up = threading.Event()
        self._fd = -1  # of the active segment
        self.failing = ""
        self.syncs = 0
        self.sync_ms_last = 0.0

    def submit(self, group: Group | None) -> None:
        """Write ``group`` after the ones before it; None ends the thread after them."""
        self._groups.put(group)

    def give_up(self) -> None:
        """End the thread soon, whether or not all is written."""
        self._given_up.set()
        self._groups.put(None)

    def run(self) -> None:
        """Work until told to end."""
        while True:
            try:
                group = self._groups.get(timeout=_TICK_S)
            except Empty:
                self.tick()
                continue
            if group is None or not self._insist(group):
                break
            self._done(group)
            del group  # or an idle thread would hold it
        self._leave()

    def tick(self) -> None:
        """Drop what is too old, also when no new records come."""
        active = self._catalog.active
        if active is not None and self._stale(active) and active.end > active.base:
            self._leave()
        self._catalog.enforce()

    def resume(self, segment: Segment) -> None:
        """Go on writing behind the last record of ``segment``; else a new one will begin."""
        try:
            self._fd = self._disk.open_at(segment.path, segment.size)
        except OSError as exc:
            log.warning("cannot append to %s: %s", segment.path.name, exc.strerror)
        else:
            self._catalog.active = segment

    def _insist(self, group: Group) -> bool:
        at = 0
        while True:
            try:
                while at < len(group.blobs):
                    at = self._write(group.blobs, at)
            except OSError as exc:
                reason = exc.strerror or str(exc)
                if reason != self.failing:
                    log.error("journal cannot write, nothing is acknowledged: %s", reason)  # noqa: TRY400
                self.failing = reason
                if self._given_up.wait(self._retry_s):
                    return False
            else:
                if self.failing:
                    log.warning("journal writes again after: %s", self.failing)
                    self.failing = ""
                return True

    def _write(self, blobs: list[Blob], at: int) -> int:
        """Make blobs durable from number ``at``, as many as fit one segment; return the next."""
        full = self._catalog.limits.segment_bytes
        segment = self._catalog.active
        if segment is None or (
            segment.end > segment.base
            and (segment.size + len(blobs[at][2]) > full or self._stale(segment))
        ):
            segment = self._begin(blobs[at][0])
        size, stop = segment.size, at
        while stop < len(blobs) and (stop == at or size + len(blobs[stop][2]) <= full):
            segment.note(blobs[stop][0], size)
            size += len(blobs[stop][2])
            stop += 1
        self._catalog.enforce(size - segment.size)
        try:
            self._put([blob[2] for blob in blobs[at:stop]])
        except OSError:
            self._cut(segment)
            raise
        began = time.perf_counter()
        try:
            self._disk.sync(self._fd)
        except OSError:
            # The kernel may have marked the lost pages clean: a second fdatasync would succeed
            # without them. Write everything again, into another file.
            self._abandon(segment)
            raise
        self.sync_ms_last = (time.perf_counter() - began) * 1e3
        self.syncs += 1
        segment.end = blobs[stop - 1][1]
        segment.written_s = self._catalog.clock.steady_s()
        segment.size = size
        return stop

    def _put(self, parts: list[bytes]) -> None:
        begin = size = 0
        for number, part in enumerate(parts):
            size += len(part)
            if size >= _PIECE or number == len(parts) - 1:
                self._disk.write_all(self._fd, b"".join(parts[begin : number + 1]))
                begin, size = number + 1, 0

    def _stale(self, segment: Segment) -> bool:
        age_s = self._catalog.clock.steady_s() - segment.created_s
        return age_s > self._catalog.limits.max_age_s / _SEGMENTS_PER_AGE

    def _begin(self, base: int) -> Segment:
        """Start a new segment; its name survives a power cut when this returns."""
        catalog, disk = self._catalog, self._disk
        self._leave()
        catalog.folder.mkdir(parents=True, exist_ok=True)
        catalog.save_identity()
        catalog.enforce(HEADER_BYTES)
        path = segment_path(catalog.folder, base)
        fd = disk.create(path)
        try:
            disk.write_all(fd, catalog.header(base))
            disk.sync_folder(catalog.folder)
        except OSError:
            disk.close(fd)  # the next attempt, or the next start, replaces the file
            raise
        now_s = catalog.clock.steady_s()
        segment = Segment(base, path, HEADER_BYTES, base, now_s, now_s)
        catalog.add(segment)
        self._fd, catalog.active = fd, segment
        return segment

    def _leave(self) -> None:
        """Close the active segment; all of it is durable."""
        if self._fd >= 0:
            fd, self._fd, self._catalog.active = self._fd, -1, None
            try:
                self._disk.close(fd)
            except OSError as exc:
                log.warning("closing a segment: %s", exc.strerror)

    def _cut(self, segment: Segment) -> None:
        """Take back a write that failed half-way."""
        self._drop_notes(segment)
        try:
            self._disk.truncate(self._fd, segment.size)
        except OSError as exc:
            log.warning("cannot cut back %s: %s", segment.path.name, exc.strerror)
            self._abandon(segment)

    def _abandon(self, segment: Segment) -> None:
        """Leave a segment whose unsynced end cannot be trusted; the durable part stays."""
        self._drop_notes(segment)
        try:
            self._disk.truncate(self._fd, segment.size)
        except OSError as exc:
            log.warning("cannot cut back %s: %s", segment.path.name, exc.strerror)
        self._leave()
        if segment.end == segment.base:
            self._catalog.forget(segment)
            try:
                self._disk.unlink(segment.path)
            except OSError as exc:
                log.warning("cannot delete %s: %s", segment.path.name, exc.strerror)

    def _drop_notes(self, segment: Segment) -> None:
        while segment.index and segment.index[-1][1] >= segment.size:
            segment.index.pop()
