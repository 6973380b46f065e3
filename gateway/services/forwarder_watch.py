"""What the forwarder knows of the way out: rates, lateness, gaps, how long the journal lasts."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from gateway.config.model import JournalConfig
from gateway.core.drain import DrainPace, Rate, hours_left, waiting_share
from gateway.core.units import age_s, size_bytes
from gateway.journal.port import JournalStats
from gateway.services.forwarder_gaps import Gaps
from gateway.services.insist import Insist
from gateway.stream.port import Producer

TICK_S: Final = 0.25
BEHIND_S: Final = 0.3  # records that wait for longer reach other boxes late
GAP_S: Final = 1.0  # and this is worth telling: it is no hiccup
AWAY_S: Final = 2.0  # without an acknowledgement for so long the stream counts as away
CAUGHT_UP_S: Final = 0.25  # of live traffic, or
CAUGHT_UP: Final = 100  # records that wait are no backlog
MINUTE: Final = int(60 / TICK_S)
ACK_WEIGHT: Final = 0.05  # of the newest acknowledgement in the average


@dataclass(frozen=True, slots=True)
class Clock:
    """Times, and waiting for them; given by tests."""

    steady_s: Callable[[], float] = time.monotonic
    unix_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Watch:
    """The forwarder says what happens, ``look`` looks at the rest, the others answer."""

    def __init__(
        self,
        acked: int,
        producer: Producer,
        insist: Insist,
        *,
        stats: Callable[[], JournalStats],
        gaps: Gaps,
        journal: JournalConfig,
        drain_factor: float,
        clock: Clock,
    ) -> None:
        self.acked = acked  # the stream has all before this journal offset
        self.progress_at = clock.steady_s()
        self.gaps = gaps
        self.pace = DrainPace(drain_factor)
        self.resent = self.delivered = 0
        self._producer = producer
        self._insist = insist
        self._stats = stats
        self._max_bytes = size_bytes(journal.max_bytes)
        self._max_age_s = age_s(journal.max_age)
        self._segment_bytes = min(size_bytes(journal.segment_bytes), self._max_bytes // 2)
        self._clock = clock
        self._began: float | None = None  # when the step under way was read; None: nothing is
        self._oldest_ms = 0  # receive time of the oldest record under way
        self._live = Rate(5.0)  # records appended
        self._usual = Rate(60.0)  # the same, for a forecast
        self._sent = Rate(5.0)
        self._marks: deque[tuple[float, int]] = deque()  # how far the journal was, and when
        self._late_ticks = 0
        self._ack_s = self._worst_s = 0.0
        self._worst: deque[float] = deque(maxlen=MINUTE)  # of each tick

    # What the forwarder says.

    def begin(self, rts: int, began: float) -> None:
        """Records are about to be sent; the oldest was received at ``rts``."""
        self._began, self._oldest_ms = began, rts

    def acknowledged(self, count: int, took_s: float) -> None:
        """Note an answer of the stream to ``count`` records."""
        self.delivered += count
        self._ack_s += (took_s - self._ack_s) * ACK_WEIGHT
        self._worst_s = max(self._worst_s, took_s)

    def settled(self, offset: int, lost: int, *, all_sent: bool) -> None:
        """Note that all before ``offset`` is done with, and ``lost`` records were not there."""
        self.acked = offset
        self.progress_at = self._clock.steady_s()
        if all_sent:
            self._began = None
        if self.gaps.open is not None:
            self.gaps.taken(lost)
            if self.waiting() <= max(CAUGHT_UP, self._live.per_s * CAUGHT_UP_S):
                self.gaps.end(offset)

    def begin_gap(self, since: int, reason: str) -> None:
        """Mark what waits as late."""
        self.pace.begin(self._live.per_s, self._clock.steady_s())
        self.gaps.begin(self.acked, since, self.waiting(), reason)

    # What there is to see.

    def look(self) -> None:
        """Measure, and mark a gap where one began; every TICK_S."""
        now, end = self._clock.steady_s(), self._stats().committed_offset
        self._live.note(end, now)
        self._usual.note(end, now)
        self._sent.note(self.delivered, now)
        self.pace.live(self._live.per_s)
        self._worst.append(self._worst_s)
        self._worst_s = 0.0
        marks = self._marks
        marks.append((now, end))
        while len(marks) > 1 and marks[1][0] <= now - GAP_S:
            marks.popleft()
        at, was = marks[0]
        late = at <= now - GAP_S and self.acked < was
        self._late_ticks = self._late_ticks + 1 if late else 0
        if self.gaps.open is not None:
            self.gaps.waits(end - self.acked, stuck=self._waited_s() > GAP_S)
        elif self._late_ticks > 1:  # twice: the loop itself may have been late once
            since = self._clock.unix_ms() if self._began is None else self._oldest_ms
            self.begin_gap(since, self.away() or "slower than the live data")

    def waiting(self) -> int:
        """Return how many durable records the stream has not got."""
        return self._stats().committed_offset - self.acked

    def _waited_s(self) -> float:
        return 0.0 if self._began is None else self._clock.steady_s() - self._began

    def idle(self) -> bool:
        """Return whether there is nothing to send."""
        return self._began is None and self.waiting() <= 0

    def away(self) -> str:
        """Return why nothing is acknowledged now, or an empty string."""
        if self._insist.failing:
            return self._insist.failing
        status = self._producer.status()
        if not status.connected:
            return status.detail or "not connected"
        silent_s = self._clock.steady_s() - self.progress_at
        if self._waited_s() > AWAY_S and silent_s > AWAY_S:
            return f"no acknowledgement for {silent_s:.0f} s"
        return ""

    def behind(self) -> bool:
        """Return whether the stream does not carry at once what this box receives."""
        if self.gaps.open is not None or self._waited_s() > BEHIND_S:
            return True
        return not self._producer.status().connected

    def hours_left(self) -> float:
        """Return after how long, at the present rate, the journal drops what the stream has not."""
        stats = self._stats()
        first, end = stats.first_offset, stats.committed_offset
        share = waiting_share(first=first, end=end, position=self.acked)
        waited_s = 0.0
        if self._began is not None:
            waited_s = max(0.0, (self._clock.unix_ms() - self._oldest_ms) / 1000)
        return hours_left(
            bytes_on_disk=stats.bytes_on_disk,
            waiting_bytes=stats.bytes_on_disk * share,
            bytes_per_s=self._usual.per_s * stats.bytes_on_disk / max(1, end - first),
            waited_s=waited_s,
            max_bytes=self._max_bytes,
            max_age_s=self._max_age_s,
            segment_bytes=self._segment_bytes,
        )

    def status(self) -> tuple[bool, str]:
        """Return (ok, detail) for /readyz."""
        wait = f"{self.waiting():,} records wait"
        if away := self.away():
            return (
                False,
                f"away: {away}; {wait}, {_span(self.hours_left())} left at the present rate",
            )
        if self.gaps.open is not None:
            return True, f"draining: {wait}"
        return True, wait

    def figures(self) -> dict[str, int | float]:
        """Return what /metrics shows."""
        gap = self.gaps.open
        return {
            "behind": int(self.behind()),
            "backlog": self.waiting(),
            "live_per_second": self._live.per_s,
            "sent_per_second": self._sent.per_s,
            "drain_per_second": 0.0 if gap is None else self.pace.per_s,
            "delivered": self.delivered,
            "resent": self.resent,
            "gaps": self.gaps.count + (gap is not None),
            "gap_records": self.gaps.records + (0 if gap is None else gap.records),
            "ack_seconds": self._ack_s,
            "ack_seconds_worst": max([*self._worst, self._worst_s]),
            "offline_hours_left": self.hours_left(),
        }


def _span(hours: float) -> str:
    return f"{hours:,.0f} h" if hours >= 2 else f"{hours * 60:.0f} min"
