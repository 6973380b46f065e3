"""The arithmetic of slow readers, against readers made of arithmetic. Time is a variable."""

from collections import deque

import pytest

from gateway.core.pace import FLOOR, LOOK_S, PongPace, WindowPace

STEP_S = 0.01
FRAME = 300


class Reader:
    """Reads ``rate`` bytes per second, ``every`` so many seconds; answers what it has read."""

    def __init__(self, rate: float, every: float) -> None:
        self.rate, self.every = rate, every
        self.last = 0.0
        self.waiting: deque[tuple[int, float, int]] = deque()  # ping, sent at, bytes left

    def unread(self) -> int:
        return sum(item[2] for item in self.waiting)

    def read(self, now: float) -> list[tuple[int, float]]:
        """Return (ping, age) of the frames read to their end by now."""
        if now - self.last < self.every - 1e-9:
            return []
        room = int(self.rate * (now - self.last))
        self.last = now
        done = []
        while self.waiting and room > 0:
            number, at, left = self.waiting.popleft()
            if left > room:
                self.waiting.appendleft((number, at, left - room))
                break
            room -= left
            done.append((number, now - at))
        return done


def drive(pace: PongPace, reader: Reader, seconds: float) -> list[float]:
    """Return the ages of the frames when they were read, those of the first 5 s left out."""
    ages = []
    number = 0
    for i in range(int(seconds / STEP_S)):
        now = 100 + i * STEP_S
        reader.last = reader.last or now
        for ping, age in reader.read(now):
            pace.heard(ping)
            if i * STEP_S > 5:
                ages.append(age)
        pace.settle(now)
        if pace.room(now):
            number += 1
            pace.sent_frame(number, FRAME, now)
            reader.waiting.append((number, now, FRAME))
    return ages


@pytest.mark.parametrize("every", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("rate", [600, 1_000, 2_500, 20_000])
def test_a_steady_slow_reader_gets_young_frames_all_the_time(rate: float, every: float) -> None:
    ages = drive(PongPace(0, quick_s=0.01), Reader(rate, every), 40)
    assert max(ages) <= 2 * FRAME / rate + 2 * every + 0.05
    assert len(ages) >= min(0.7 * rate * 35 / FRAME, 35 / 0.5)


def test_a_reader_in_gulps_gets_several_frames_a_gulp() -> None:
    ages = drive(PongPace(0, quick_s=0.01), Reader(1_000, 1.0), 60)
    last = ages[len(ages) // 2 :]
    assert len(last) > 1.5 * 27.5  # frames in as many gulps
    assert sorted(last)[len(last) // 2] < 0.8


def test_nothing_is_sent_while_nothing_is_answered() -> None:
    pace = PongPace(0, quick_s=0.05)
    sent = 0
    for i in range(10_000):
        now = 100 + i * STEP_S
        if pace.room(now):
            sent += 1
            pace.sent_frame(sent, FRAME, now)
    assert sent <= 2


def test_a_quick_reader_is_known_by_its_answers() -> None:
    pace = PongPace(0, quick_s=0.05)
    now = 100.0
    for number in range(1, 4):
        assert pace.room(now) > 0
        pace.sent_frame(number, FRAME, now)
        now += 0.002
        assert pace.heard(number)
        assert pace.is_quick(now)
        pace.settle(now)
    assert pace.quick == 3
    assert pace.rate > 0.8 * FRAME / 0.002


def test_the_network_is_not_taken_for_the_reader() -> None:
    pace = PongPace(0, quick_s=0.05)
    pace.base_s = 0.6  # by satellite
    now = 100.0
    for number in range(1, 4):
        assert pace.room(now) > 0
        pace.sent_frame(number, FRAME, now)
        now += 0.61
        pace.heard(number)
        pace.settle(now)
    assert pace.quick == 3


def mute(rate: float, seconds: float, *, full: int = 16_384) -> tuple[list[float], WindowPace]:
    """Drive a WindowPace against a reader whose kernel tells its window after every frame."""
    pace = WindowPace(full=full, now=100.0, trust_at=105.0)
    reader = Reader(rate, 0.02)
    window, ages, tell_at = full, [], 0.0
    for i in range(int(seconds / STEP_S)):
        now = 100 + i * STEP_S
        reader.last = reader.last or now
        for _, age in reader.read(now):
            if i * STEP_S > 5:
                ages.append(age)
        room = pace.room(now, queued=0, window=window)
        if room:
            size = min(max(room, FRAME), 5 * FRAME)
            pace.sent_frame(size, now)
            reader.waiting.append((0, now, size))
        if room or pace.ask:
            tell_at = now + 0.04  # a delayed acknowledgement
        if tell_at and now >= tell_at:
            window, tell_at = full - reader.unread(), 0.0
    return ages, pace


def test_a_mute_slow_reader_is_paced_below_its_rate() -> None:
    ages, pace = mute(1_000, 30)
    assert 400 < pace.rate < 1_100
    assert sorted(ages)[int(len(ages) * 0.95)] < 1.0


def test_a_mute_fast_reader_is_found_to_be_fast() -> None:
    _, pace = mute(1_000_000, 8)
    assert pace.rate > 50_000


def test_a_mute_reader_that_takes_nothing_is_asked_not_fed() -> None:
    pace = WindowPace(full=16_384, now=100.0, trust_at=100.0)
    pace.fell_behind(5_000, 100.0)
    asked = 0
    for i in range(1_000):
        assert pace.room(100 + i * STEP_S, queued=0, window=11_000) == 0
        asked += pace.ask
    assert asked == pytest.approx(10 / (LOOK_S + STEP_S / 2), rel=0.1)
    assert pace.room(111.0, queued=0, window=16_384) == 0
    assert pace.room(112.0, queued=0, window=16_384) > 0
    assert pace.rate >= FLOOR


def test_what_was_read_late_does_not_hold_back_what_comes_next() -> None:
    """A snapshot of 20 kB whose pong takes 0.3 s: not quick, but everything was read."""
    pace = PongPace(0, quick_s=0.125)
    pace.sent_frame(1, 20_000, 100.0)
    assert pace.room(100.2) == 0
    assert pace.heard(1)
    pace.settle(100.3)
    assert pace.room(100.3) > 0
