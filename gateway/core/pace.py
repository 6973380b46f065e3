"""How much a reader that cannot keep up is sent, and when. Arithmetic: the caller brings the clock.

What was sent cannot be replaced by something newer, so as little as possible may be under way: the
newest pose is then as young as the reader's own speed allows. Two ways to know what a reader has
read: its pongs (``PongPace``), or, if it never answers a ping, what its kernel lets through
(``WindowPace``). Rates are bytes per second, times are seconds of one monotonic clock.
"""

from collections import deque
from typing import Final

FIRST_RATE: Final = 1_000.0  # before anything was measured
FLOOR: Final = 100.0  # a reader is offered at least this, or it could never be seen to recover
SLICE_S: Final = 0.3  # what one frame should take to be read
HORIZON_S: Final = 0.9  # what may be under way to a reader that reads in gulps
STALLED_S: Final = 1.0  # no answer for so long: nothing more until there is one
CAUTION: Final = 0.9  # share of the measured rate that is used
MEANINGFUL: Final = 64  # bytes; a smaller sample says nothing about a rate
SURE: Final = 3  # quick answers in a row that make a reader fast again


class PongPace:
    """Pace by round trips: every frame is followed by a ping with a number of its own."""

    __slots__ = (
        "_bunch",
        "_marks",
        "_measured",
        "_next_at",
        "_quick_s",
        "acked",
        "base_s",
        "quick",
        "rate",
        "sample",
        "sent",
    )

    def __init__(self, sent: int, *, quick_s: float) -> None:
        """``sent`` bytes are taken as read."""
        self.base_s = 0.0  # round trip of the bare network; 0: not known yet
        self.rate = FIRST_RATE
        self.sample = 0.0  # the last measured rate
        self.quick = 0  # answers in a row that took less than ``quick_s``
        self.sent = self.acked = sent
        self._quick_s = quick_s
        self._measured = False
        self._next_at = 0.0
        self._bunch: tuple[float, int] | None = None
        self._marks: deque[tuple[int, int, float, int]] = deque()

    def current(self, now: float) -> bool:
        """Return whether nothing is under way but what the network needs time for."""
        return not self._marks or now - self._marks[0][2] <= self.base_s + self._quick_s

    def sent_frame(self, number: int, size: int, now: float) -> None:
        """Note that ``size`` bytes went out, with the ping ``number`` at their end."""
        self.sent += size
        self._marks.append((number, self.sent, now, self.acked))
        self._next_at = now + size / self.rate

    def heard(self, number: int) -> bool:
        """Note the pong of ``number``: all up to it was read. Call ``settle`` after the last one.

        Returns whether the pong was the first of its bunch. A reader that reads in gulps answers
        many pings at once; only the bunch as a whole says how fast it reads.
        """
        first = self._bunch is None
        while self._marks and self._marks[0][0] <= number:
            _, self.acked, at, before = self._marks.popleft()
            if self._bunch is None:
                self._bunch = (at, before)
        return first and self._bunch is not None

    def settle(self, now: float) -> None:
        """Learn from the pongs since the last call."""
        if self._bunch is None:
            return
        (at, before), self._bunch = self._bunch, None
        took = max(now - at - self.base_s, 0.0005)
        self.quick = self.quick + 1 if took < self._quick_s else 0
        size = self.acked - before
        if size < MEANINGFUL:
            return
        self.sample = size / took
        careful = CAUTION * self.sample
        drained = not self._marks or now - self._marks[0][2] <= self.base_s
        if not self._measured or (drained and self.quick >= SURE):
            self.rate = max(careful, FLOOR)
            self._measured = True
        elif drained:  # it could have read more: nothing was left to read
            self.rate = max(self.rate * 1.05, min(careful, self.rate * 1.25))
        else:
            self.rate = max(min(self.rate, careful), FLOOR)
        if self.quick:
            self._next_at = now  # no need to wait for a reader that answers at once

    def room(self, now: float) -> int:
        """Return how many bytes the next frame should have, 0: not yet.

        A frame may be larger, because a pose cannot be cut: the next one then comes later.
        """
        if now < self._next_at:
            return 0
        flying = self.sent - self.acked
        slice_bytes = int(self.rate * SLICE_S) or 1
        if flying == 0:
            return slice_bytes
        limit = self.rate * (HORIZON_S + self.base_s)
        if not self._measured or flying + slice_bytes > limit:
            return 0
        if now - self._marks[0][2] > STALLED_S + self.base_s:
            return 0
        return slice_bytes


LOW_WINDOW: Final = 0.75  # of the largest window seen: below it, unread bytes wait at the reader
BLOCKED_RETRY_S: Final = 0.05
LOOK_S: Final = 0.25  # while the window is low, ask this often
PUNISH_S: Final = 0.5  # the rate is lowered at most this often


class WindowPace:
    """Pace by the reader's kernel: unacknowledged bytes and the window that it offers.

    Coarser than pongs: a large receive buffer hides what is unread in it. The window is only told
    with an acknowledgement, so while it is low a bare ping goes out now and then to ask.
    """

    __slots__ = ("_full", "_good", "_last_at", "_next_at", "_punish_at", "ask", "rate")

    def __init__(self, *, full: int, now: float) -> None:
        """``full`` is the largest window seen so far."""
        self.rate = FIRST_RATE
        self.ask = False  # after ``room`` said 0: send a bare ping to learn the window
        self._full = full
        self._good = 0
        self._last_at = now
        self._next_at = now
        self._punish_at = now + PUNISH_S

    def sent_frame(self, size: int, now: float) -> None:
        """Note that ``size`` bytes went out."""
        self._last_at = now
        self._next_at = now + size / self.rate

    def room(self, now: float, *, queued: int, window: int) -> int:
        """Return how many bytes the next frame should have, 0: not yet.

        Args:
            queued: bytes that the reader's kernel has not acknowledged.
            window: bytes that it said it would take.
        """
        self.ask = False
        if now < self._next_at:
            return 0
        self._full = max(self._full, window)
        if queued == 0 and window >= self._full * LOW_WINDOW:
            self._good += 1
            if self._good >= SURE:
                self.rate *= 1.2
            return int(self.rate * SLICE_S)
        self._good = 0
        if now >= self._punish_at:
            self.rate = max(self.rate * 0.8, FLOOR)
            self._punish_at = now + PUNISH_S
        if queued:
            self._next_at = now + BLOCKED_RETRY_S
        else:
            self._next_at = now + LOOK_S
            self.ask = True
        return 0
