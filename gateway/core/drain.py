"""How fast a backlog is sent after an outage, and how long the journal can hold one. Arithmetic:
the caller brings the clock. Rates are per second, times are seconds of one monotonic clock.
"""

import math
from typing import Final

LEAST_LIVE: Final = 400.0  # records/s that even an idle box is taken to make: 5 x 400 = 2,000/s
STEP_S: Final = 0.05  # what one step of the drain should be worth, so that it comes in small gulps
LEAST_STEP: Final = 64  # records
HOUR_S: Final = 3_600.0


class Rate:
    """How fast a running total grows: an average in which ``span_s`` ago counts 1/e.

    Until ``span_s`` have passed it is the mean since the first ``note``.
    """

    __slots__ = ("_at", "_began", "_span_s", "_total", "per_s")

    def __init__(self, span_s: float) -> None:
        self.per_s = 0.0
        self._span_s = span_s
        self._began: float | None = None
        self._at = self._total = 0.0

    def note(self, total: float, now: float) -> None:
        """Take the total of this moment; the first two make a rate."""
        if self._began is None:
            self._began = self._at = now
            self._total = total
            return
        passed_s = now - self._at
        if passed_s <= 0:
            return
        seen = max(0.0, total - self._total) / passed_s
        weight = 1.0 - math.exp(-passed_s / self._span_s)
        self.per_s += (seen - self.per_s) * max(weight, passed_s / (now - self._began))
        self._total, self._at = total, now


class DrainPace:
    """``factor`` times the live rate, and not a burst more after a pause.

    The highest rate seen since ``begin`` counts: a box that took so much in can also send it, and a
    drain must not become slower because the robots went to sleep.
    """

    __slots__ = ("_factor", "_free_at", "_live")

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._live = LEAST_LIVE
        self._free_at = 0.0

    def begin(self, live_per_s: float, now: float) -> None:
        """A backlog is there, while ``live_per_s`` records are appended."""
        self._live = max(live_per_s, LEAST_LIVE)
        self._free_at = now

    def live(self, per_s: float) -> None:
        """Take the live rate of this moment."""
        self._live = max(self._live, per_s)

    @property
    def per_s(self) -> float:
        """Records per second, old and new together."""
        return self._factor * self._live

    def step(self, most: int) -> int:
        """Return how many records to take at once."""
        return min(most, max(LEAST_STEP, int(self.per_s * STEP_S)))

    def pause_s(self, records: int, began: float, now: float) -> float:
        """Return how long to wait after ``records`` were sent between ``began`` and ``now``."""
        self._free_at = max(self._free_at, began) + records / self.per_s
        return max(0.0, self._free_at - now)


def waiting_share(*, first: int, end: int, position: int) -> float:
    """Return which share of the records ``first``..``end`` of a journal is not before ``position``.

    1.0 for an empty journal: whatever comes will wait.
    """
    if end <= first:
        return 1.0
    return (end - min(max(position, first), end)) / (end - first)


def hours_left(
    *,
    bytes_on_disk: int,
    waiting_bytes: float,
    bytes_per_s: float,
    waited_s: float,
    max_bytes: int,
    max_age_s: float,
    segment_bytes: int,
) -> float:
    """Return after how many hours the journal drops something that a reader has not got.

    The journal drops whole segments, the oldest first, when it is over ``max_bytes`` or when the
    last record of one is older than ``max_age_s``. What the reader has got goes before what waits,
    but for the segment in which both are: hence one segment less, which is at most so much too
    early.

    Args:
        waiting_bytes: of ``bytes_on_disk``, what the reader has not got.
        bytes_per_s: how fast the journal is written now.
        waited_s: age of the oldest record that waits; 0 if none does.
    """
    by_age_s = max(0.0, max_age_s - waited_s)
    if bytes_per_s <= 0:
        return by_age_s / HOUR_S
    before = max(0.0, bytes_on_disk - waiting_bytes - segment_bytes)
    by_size_s = max(0.0, max_bytes - bytes_on_disk + before) / bytes_per_s
    return min(by_age_s, by_size_s) / HOUR_S
