"""The newest records of one robot, found backwards, without decoding what is not its own.

Readers go forward and decode everything; a look at one robot must not cost that. The bytes are
searched for the beginning of a record with the robot's name; the checksum, which is computed over a
secret salt, then tells a record from what only looks like one.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

import google_crc32c

from gateway.core.record import FIXED, FIXED_BYTES, MARK, MAX_ROBOT
from gateway.journal.catalog import Catalog
from gateway.journal.port import Record
from gateway.journal.segment import Segment, opened

WINDOW: Final = 262_144  # bytes searched in one step: about a millisecond
LARGEST: Final = 196_608  # bytes of a record that are looked at; ingest makes none that is larger
_OVERLAP: Final = FIXED_BYTES + MAX_ROBOT  # behind a window: the begin of a record must be whole


class Tracer:
    """One search, newest first. ``records`` grows with every ``step``, which blocks: for a thread.

    Among ``records`` are the newest ``most`` of each kind from offset ``since`` up to ``limit``, in
    segments to which something was written in the last ``age_s``.
    ``more``: there are older ones that were left out, for ``most`` or for ``budget`` bytes.
    """

    def __init__(
        self,
        catalog: Catalog,
        robot: str,
        *,
        since: int,
        limit: int,
        age_s: float,
        most: int,
        budget: int,
    ) -> None:
        self.records: list[Record] = []
        self.more = False
        self._catalog = catalog
        self._robot = robot
        self._since = since
        self._limit = limit
        self._written_s = catalog.clock.steady_s() - age_s
        self._most = most
        self._budget = budget
        name = robot.encode()
        self._name_bytes = len(name)
        # Looked at from each mark, so that one that is not a record's hides none behind it.
        self._begin = re.compile(
            re.escape(bytes((MARK,)))
            + b"(?=[^\0]"
            + re.escape(bytes((len(name),)))
            + b"\0.{%d}" % (FIXED_BYTES - 8)
            + re.escape(name)
            + b")",
            re.DOTALL,
        )
        self._kept: Counter[int] = Counter()
        self._windows = self._all_windows()

    def step(self) -> bool:
        """Search one window; return False when there is nothing more to search."""
        for segment, bound, begin, end in self._windows:
            if self._budget <= 0:
                self.more = True
                return False
            try:
                self._search(segment, bound, begin, end)
            except FileNotFoundError:
                continue  # retention was faster
            return True
        return False

    def _all_windows(self) -> Iterator[tuple[Segment, int, int, int]]:
        for segment in reversed(self._catalog.segments):
            if segment.base >= self._limit:
                continue
            if segment.end <= self._since or segment.written_s < self._written_s:
                return
            bound = min(self._limit, self._catalog.base_after(segment))
            first, end = segment.near(self._since)[1], segment.size
            while end > first:
                begin = max(first, end - WINDOW)
                yield segment, bound, begin, end
                end = begin

    def _search(self, segment: Segment, bound: int, begin: int, end: int) -> None:
        disk = self._catalog.disk
        with opened(disk, segment.path) as fd:
            data = disk.read(fd, min(end + _OVERLAP, segment.size) - begin, begin)
            self._budget -= len(data)
            starts = [match.start() - 4 for match in self._begin.finditer(data)]
            for start in reversed(starts):
                if not 0 <= start < end - begin:
                    continue  # it begins in the window before, or in the one after
                kind, payload_bytes = data[start + 5], FIXED.unpack_from(data, start)[4]
                size = FIXED_BYTES + self._name_bytes + payload_bytes
                if size > LARGEST:
                    continue
                if self._kept[kind] >= self._most:
                    self.more = True
                    continue
                raw = data[start : start + size]
                if len(raw) < size:
                    raw = disk.read(fd, size, begin + start)
                    self._budget -= size
                self._keep(raw, size, bound)

    def _keep(self, raw: bytes, size: int, bound: int) -> None:
        if len(raw) < size:
            return
        crc, _, kind, _, _, offset, ts, rts = FIXED.unpack_from(raw)
        if google_crc32c.extend(self._catalog.seed, raw[4:]) != crc:
            return
        if self._since <= offset < bound:
            self._kept[kind] += 1
            payload = raw[FIXED_BYTES + self._name_bytes :]
            self.records.append(Record(offset, kind, self._robot, ts, rts, payload))
