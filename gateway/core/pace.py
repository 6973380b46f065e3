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
MOST_PATIENCE: Final = 32
MOST_FRAMES: Final = 4  # under way to a reader that reads in gulps, more than a second apart
SURE: Final = 3  # quick answers in a row that make a reader fast again


class PongPace:
    """Pace by round trips: every frame is followed by a ping with a number of its own."""

    __slots__ = (
        "_bunch",
        "_drained",
        "_frames",
        "_marks",
        "_measured",
        "_next_at",
        "_patience",
        "_quick_s",
        "_sent_at",
        "acked",
        "base_s",
        "quick",
        "rate",
        "sample",
        "sent",
        "streak",
    )

    def __init__(self, sent: int, *, quick_s: float) -> None:
        """``sent`` bytes are taken as read."""
        self.base_s = 0.0  # round trip of the bare network; 0: not known yet
        self.rate = FIRST_RATE
        self.sample = 0.0  # the last measured rate
        self.quick = 0  # answers in a row that took less than ``quick_s``
        self.streak = 0  # bytes that they answered
        self.sent = self.acked = sent
        self._quick_s = quick_s
        self._measured = False
        self._next_at = 0.0
        self._bunch: tuple[float, int, int] | None = None
        self._frames = 2  # that may be under way, however slow it seems
        self._drained = 0  # bunches in a row that left nothing
        self._patience = 2  # of them, before one frame more is tried
        self._sent_at = 0.0
        self._marks: deque[tuple[int, int, float, int]] = deque()

    def current(self, now: float) -> bool:
        """Return whether nothing is under way but what the network needs time for."""
        return not self._marks or now - self._marks[0][2] <= self.base_s + self._quick_s

    def sent_frame(self, number: int, size: int, now: float) -> None:
        """Note that ``size`` bytes went out, with the ping ``number`` at their end."""
        self.sent += size
        self._marks.append((number, self.sent, now, self.acked))
        self._next_at = now + size / self.rate
        self._sent_at = now

    def heard(self, number: int) -> bool:
        """Note the pong of ``number``: all up to it was read. Call ``settle`` after the last one.

        Returns whether the pong was the first of its bunch. A reader that reads in gulps answers
        many pings at once; only the bunch as a whole says how fast it reads.
        """
        first = self._bunch is None
        while self._marks and self._marks[0][0] <= number:
            _, self.acked, at, before = self._marks.popleft()
            if self._bunch is None:
                self._bunch = (at, before, 1)
            else:
                self._bunch = (*self._bunch[:2], self._bunch[2] + 1)
        return first and self._bunch is not None

    def is_quick(self, now: float) -> bool:
        """Return whether the oldest frame answered since ``settle`` was answered quickly."""
        return self._bunch is not None and now - self._bunch[0] - self.base_s < self._quick_s

    def settle(self, now: float) -> None:
        """Learn from the pongs since the last call."""
        if self._bunch is None:
            return
        quick = self.is_quick(now)
        (at, before, frames), self._bunch = self._bunch, None
        self.quick = self.quick + 1 if quick else 0
        self.streak = self.streak + self.acked - before if quick else 0
        took = max(now - at - self.base_s, 0.0005)
        size = self.acked - before
        if size < MEANINGFUL:
            return
        self.sample = size / took
        careful = CAUTION * self.sample
        drained = not self._marks or now - self._marks[0][2] <= self.base_s
        self._try_frames(frames, took, drained=drained)
        if not self._measured:
            self.rate = max(careful, FLOOR)
            self._measured = True
        elif drained:  # it could have read more: nothing was left to read
            most = careful if self.quick >= SURE else self.rate * 1.25
            self.rate = max(self.rate * 1.05, min(careful, most))
        else:
            self.rate = max(min(self.rate, careful), FLOOR)
        if self.quick:
            self._next_at = now  # no need to wait for a reader that answers at once

    def _try_frames(self, frames: int, took: float, *, drained: bool) -> None:
        """Find out whether the reader takes several frames at once, because it reads in gulps."""
        if not drained:
            if frames < self._frames:
                self._frames = frames
                self._patience = min(self._patience * 2, MOST_PATIENCE)
            self._drained = 0
        elif frames >= self._frames and took > SLICE_S:
            self._drained += 1
            if self._drained >= self._patience and self._frames < MOST_FRAMES:
                self._frames += 1
                self._drained = 0

    def room(self, now: float) -> int:
        """Return how many bytes the next frame should have, 0: not yet.

        A frame may be larger, because a pose cannot be cut: the next one then comes later.
        """
        slice_bytes = int(self.rate * SLICE_S) or 1
        flying = self.sent - self.acked
        if flying == 0:  # it has read everything: nothing is gained by waiting
            return slice_bytes
        if 0 < len(self._marks) < self._frames and now - self._sent_at >= SLICE_S:
            return slice_bytes
        if now < self._next_at:
            return 0
        limit = self.rate * (HORIZON_S + self.base_s)
        if not self._measured or flying + slice_bytes > limit:
            return 0
        if now - self._marks[0][2] > STALLED_S + self.base_s:
            return 0
        return slice_bytes


LOOK_S: Final = 0.15  # from a frame to what the window then says; while it is low, ask this often
TRIAL: Final = 1_800  # bytes sent at once to see whether they are read at once; then the double
UNDECIDED: Final = 600.0  # rate for a reader that has shown nothing yet
LEARNED: Final = 0.8  # share of a measured rate that is used
EASED: Final = 0.85  # share of a rate that was too much
MOST_REST_S: Final = 0.5
STEADY_S: Final = 10.0  # after a reader fell behind: how long not to try more


def noise(full: int) -> int:
    """Return how far a window may be from its largest, ``full``, with nothing unread.

    Linux counts whole buffers and does not take a window back; seen on 6.x with small frames.
    """
    return 650 if full >= 8_000 else min(900, full // 2)


class WindowPace:
    """Pace by the reader's kernel: unacknowledged bytes and the window that it offers.

    Coarser than pongs: a receive buffer that grows by itself hides what is unread in it. The window
    is only told with an acknowledgement, so while it is low a bare ping goes out now and then.

    A first trial shows a small buffer that fills: the time it takes to empty tells the rate, and
    from then on frames go out at a share of it. Larger trials follow only after ``trust_at``,
    because a slow reader that does answer pings may just not have got to the first one.
    """

    __slots__ = ("_began", "_bytes", "_draining", "_fell", "_full", "_good", "_left", "_next_at",
                 "_steady_until", "_trial", "_trust_at", "ask", "rate")  # fmt: skip

    def __init__(self, *, full: int, now: float, trust_at: float, sent: int = 0) -> None:
        """``full`` is the largest window seen; of ``sent`` bytes nothing may have been read."""
        self.rate = 0.0  # bytes per second that it is known to read
        self.ask = False  # after ``room`` said 0: send a bare ping to learn the window
        self._full = full
        self._trial = TRIAL
        self._left = max(TRIAL - sent, 0)
        self._bytes = sent
        self._began = now
        self._draining = self._fell = False
        self._good = 0
        self._next_at = now
        self._steady_until = self._trust_at = trust_at

    def fell_behind(self, waiting: int, now: float) -> None:
        """Note that ``waiting`` bytes are unread: nothing is sent until they are read."""
        self._draining = True
        self._trial = 0
        self._bytes = waiting
        self._began = now
        self._next_at = now + LOOK_S

    def sent_frame(self, size: int, now: float) -> None:
        """Note that ``size`` bytes went out."""
        if self._trial:
            self._left -= size
            self._bytes += size
            self._next_at = now if self._left > 0 else now + LOOK_S
        else:
            self._next_at = now + size / max(self.rate, FLOOR)

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
        behind = queued > 0 or self._full - window > noise(self._full)
        if self._draining:
            return self._drain(now, queued=queued, behind=behind)
        if self._trial:
            return self._try(now, behind=behind)
        if behind:
            self.fell_behind(queued + self._full - window, now)
            return 0
        self._good += 1
        if self._good >= SURE and now >= self._steady_until:
            if not self._fell:
                self._begin_trial(now)
                return self._left
            self.rate *= 1.02
        return int(self.rate * SLICE_S) or 1

    def _begin_trial(self, now: float) -> None:
        self._trial = self._left = max(2 * int(self.rate * LOOK_S), TRIAL)
        self._bytes = 0
        self._began = now

    def _try(self, now: float, *, behind: bool) -> int:
        if self._left > 0:
            return self._left
        if behind:
            self.rate = 0.0  # to be measured
            self._trial = 0
            self._draining = True
            self._next_at = now + LOOK_S
            return 0
        if now < self._trust_at:
            self._trial = 0
            self.rate = UNDECIDED
            return int(self.rate * SLICE_S)
        self.rate = self._trial / LOOK_S
        self._begin_trial(now)
        return self._left

    def _drain(self, now: float, *, queued: int, behind: bool) -> int:
        if behind:
            self._next_at = now + LOOK_S
            self.ask = not queued
            return 0
        if now - self._began <= 2 * LOOK_S:  # a hiccup, or a late acknowledgement
            self._draining = False
            if now < self._trust_at:
                self.rate = min(self.rate, UNDECIDED) or UNDECIDED
                return int(self.rate * SLICE_S)
            self._begin_trial(now)
            return self._left
        rest = noise(self._full)  # may still be unread
        if self.rate:  # it has become slower, or was never so fast
            self.rate = max(self.rate * EASED, FLOOR)
        else:
            seen = max(self._bytes - rest, 0) / max(now - self._began, LOOK_S)
            self.rate = max(seen * LEARNED, FLOOR)
        self._draining = False
        self._fell = True
        self._good = 0
        self._steady_until = now + STEADY_S
        self._next_at = now + min(rest / self.rate, MOST_REST_S)
        return 0
