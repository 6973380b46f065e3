"""The times in which the stream did not get the box's records at once: logged, told, remembered."""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from msgspec import Struct

from gateway.core.times import rfc3339

log = logging.getLogger(__name__)

KEPT: Final = 20  # gaps remembered; the oldest go first


class Gap(Struct, rename="camel"):
    """Records that came late. Times in Unix ms by this box's clock, None: not yet."""

    first_offset: int  # of the journal: the first record that came late
    since: int  # when this box received it
    reason: str
    until: int | None = None  # when the stream took records again
    drained: int | None = None  # when it had all
    records: int = 0  # that came late; so far, while it lasts
    lost: int = 0  # of them the journal dropped before the stream took them


class Announce(Protocol):
    """gateway.services.live.Live.announce."""

    def __call__(
        self, type_: str, robot: str | None, data: Mapping[str, Any], *, ts: int
    ) -> None: ...


class Gaps:
    """The last gaps; at most one is open."""

    def __init__(self, announce: Announce, now_ms: Callable[[], int]) -> None:
        self._announce = announce
        self._now_ms = now_ms
        self._known: deque[Gap] = deque(maxlen=KEPT)
        self.open: Gap | None = None
        self.count = self.records = 0  # since the start, closed ones

    def begin(self, first_offset: int, since: int, waiting: int, reason: str) -> None:
        """Open a gap: ``waiting`` records, from ``first_offset`` on, are late already."""
        self.open = gap = Gap(first_offset, min(since, self._now_ms()), reason, records=waiting)
        self._known.append(gap)
        log.warning(
            "the stream is behind: records=%d since=%s: %s", waiting, rfc3339(gap.since), reason
        )
        self._tell(gap)

    def waits(self, waiting: int, *, stuck: bool) -> None:
        """Note how many records wait, and whether none of them is taken now."""
        if (gap := self.open) is not None:
            gap.records = max(gap.records, waiting)
            if stuck:
                gap.until = None

    def taken(self, lost: int) -> None:
        """Note that the stream took records, and that ``lost`` of those before were not there."""
        if (gap := self.open) is not None:
            gap.lost += lost
            if gap.until is None:
                gap.until = self._now_ms()

    def end(self, next_offset: int) -> None:
        """Close the open gap: the stream has all before ``next_offset``."""
        gap, self.open = self.open, None
        if gap is None:
            return
        gap.drained = self._now_ms()
        gap.until = gap.drained if gap.until is None else gap.until
        gap.records = next_offset - gap.first_offset - gap.lost
        self.count += 1
        self.records += gap.records
        log.warning(
            "the stream has caught up: records=%d lost=%d from=%s until=%s drain_s=%.1f",
            gap.records,
            gap.lost,
            rfc3339(gap.since),
            rfc3339(gap.until),
            (gap.drained - gap.until) / 1000,
        )
        self._tell(gap)

    def _tell(self, gap: Gap) -> None:
        data = {
            "code": "STREAM_GAP",
            "level": "warning" if gap.drained is None else "info",
            "from": rfc3339(gap.since),
            "to": None if gap.until is None else rfc3339(gap.until),
            "drained": None if gap.drained is None else rfc3339(gap.drained),
            "records": gap.records,
            "lost": gap.lost,
            "reason": gap.reason,
        }
        self._announce("alert", None, data, ts=self._now_ms())

    def last(self) -> list[Gap]:
        """Return the last gaps, the oldest first; the open one is the last."""
        return list(self._known)
