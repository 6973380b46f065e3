"""From the journal to the stream: a real journal, and a stream in memory that can fail."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.aio.supervisor import Supervisor
from gateway.config.model import JournalConfig
from gateway.core.backoff import Backoff
from gateway.core.deadletter import decode as decode_dead
from gateway.core.kinds import Kind
from gateway.journal.open import open_journal
from gateway.journal.port import Journal
from gateway.services.forwarder import KINDS, MOST, Forwarder
from gateway.services.forwarder_gaps import KEPT, Gaps
from gateway.services.forwarder_watch import Clock
from gateway.services.ingest import Ingest
from tests.chain.memory_stream import MemoryStream

FAST = JournalConfig(commit_ms=1)
NOW = 1_790_000_000_000


class TestClock:
    """A clock that stands still until the test moves it."""

    __test__ = False

    def __init__(self) -> None:
        self.now = 1_000.0
        self._sleeping: dict[asyncio.Future[None], float] = {}

    def clock(self) -> Clock:
        return Clock(lambda: self.now, self.unix_ms, self._sleep)

    def unix_ms(self) -> int:
        return NOW + int((self.now - 1_000.0) * 1000)

    async def _sleep(self, delay_s: float) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._sleeping[waiter] = self.now + delay_s
        try:
            await waiter
        finally:
            del self._sleeping[waiter]

    @property
    def sleeping(self) -> int:
        return sum(not waiter.done() for waiter in self._sleeping)

    def wake_next(self) -> None:
        """Move on to the next one that sleeps."""
        waiter = min(
            (waiter for waiter in self._sleeping if not waiter.done()),
            key=self._sleeping.__getitem__,
        )
        self.now = max(self.now, self._sleeping[waiter])
        waiter.set_result(None)

    async def advance(self, delay_s: float, step_s: float = 0.05) -> None:
        """Let time pass; whoever slept goes on."""
        end = self.now + delay_s
        while self.now < end:
            self.now = min(end, self.now + step_s)
            for waiter, due in list(self._sleeping.items()):
                if due <= self.now and not waiter.done():
                    waiter.set_result(None)
            for _ in range(5):
                await asyncio.sleep(0)


class Box:
    """What surrounds a forwarder."""

    def __init__(self, journal: Journal, config: JournalConfig = FAST) -> None:
        self.journal = journal
        self.config = config
        self.stream = MemoryStream()
        self.time = TestClock()
        self.told: list[Mapping[str, Any]] = []
        self.ingest = Ingest(
            journal, len, prefix="smartair/v1", site="home", now_ms=self.time.unix_ms
        )
        self._put = 0

    def put(self, count: int, kind: int = Kind.POSE, *, rts: int | None = None) -> int:
        """Append records whose payload tells their number; return the offset after the last."""
        entries = [
            (kind, f"r{n % 7}", NOW, b'{"n":%d}' % n) for n in range(self._put, self._put + count)
        ]
        self._put += count
        return self.journal.append(entries, rts or self.time.unix_ms(), lambda: None) + count

    def announce(self, type_: str, robot: str | None, data: Mapping[str, Any], *, ts: int) -> None:
        assert (type_, robot, data["code"], ts) == (
            "alert", None, "STREAM_GAP", self.time.unix_ms(),
        )  # fmt: skip
        self.told.append(data)

    @contextlib.asynccontextmanager
    async def forwarding(
        self, *, drain_factor: float = 5.0, patience_s: float = 60.0, real: bool = True
    ) -> AsyncIterator[Forwarder]:
        forwarder = Forwarder(
            self.journal.reader("stream", KINDS),
            self.stream,
            bury=self.ingest.bury,
            stats=self.journal.stats,
            announce=self.announce,
            journal=self.config,
            drain_factor=drain_factor,
            topics="smartair/v1/home",
            patience_s=patience_s,
            clock=Clock(unix_ms=self.time.unix_ms) if real else self.time.clock(),
            backoff=Backoff(base_s=0.001, cap_s=0.002),
        )
        balance = self.stream.on_send

        def on_send(count: int) -> None:
            balance(count)
            assert_balanced(forwarder, self.journal)

        self.stream.on_send = on_send
        try:
            async with Supervisor() as tasks:
                tasks.spawn("forwarder", forwarder.run)
                yield forwarder
        finally:
            self.stream.on_send = balance
            assert_balanced(forwarder, self.journal)


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with open_journal(FAST, tmp_path) as journal:
        yield Box(journal)


def assert_balanced(forwarder: Forwarder, journal: Journal) -> None:
    for hop, kind, line in forwarder.lines(journal.stats().committed_offset):
        assert hop == "stream"
        assert (line.unaccounted, line.pending >= 0) == (0, True), (kind, line)


def line(forwarder: Forwarder, journal: Journal, kind: str) -> tuple[int, int, int, dict[str, int]]:
    lines = {name: line for _, name, line in forwarder.lines(journal.stats().committed_offset)}
    found = lines[kind]
    return found.entered, found.delivered, found.pending, dict(found.dropped)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - any condition, not one event
            await asyncio.sleep(0.002)


async def test_what_the_journal_holds_comes_in_order(box: Box) -> None:
    kinds = [Kind.POSE, Kind.SENSOR, Kind.STATE, Kind.CONNECTION, Kind.EVENT, Kind.ACK,
             Kind.CANARY, Kind.DEAD]  # fmt: skip
    async with box.forwarding() as forwarder:
        end = 0
        for n in range(400):
            end = box.put(3, kinds[n % 8])
            if n % 50 == 0:
                await asyncio.sleep(0)
        await until(lambda: forwarder.committed == end)
        wanted = [n for n in range(1_200) if kinds[n // 3 % 8] in KINDS]
        assert [message[5] for message in box.stream.taken] == [b'{"n":%d}' % n for n in wanted]
        assert box.stream.taken[0] == (0, Kind.POSE, "r0", NOW, box.time.unix_ms(), b'{"n":0}')
        assert line(forwarder, box.journal, "pose") == (150, 150, 0, {})
        assert line(forwarder, box.journal, "canary") == (150, 150, 0, {})
        assert line(forwarder, box.journal, "backlog") == (1_200, 1_200, 0, {})
        assert (forwarder.position, forwarder.gaps) == (end, [])
        assert forwarder.status() == (True, "0 records wait")
        assert not forwarder.behind


async def test_records_that_come_one_by_one_share_a_send(box: Box) -> None:
    async with box.forwarding(real=False) as forwarder:
        end = box.put(1)
        await until(lambda: box.stream.taken)  # at once, after a pause
        for _ in range(20):
            end = box.put(1)
            await box.journal.flush()
        await until(lambda: box.time.sleeping == 2)
        assert len(box.stream.attempts) == 1
        await box.time.advance(0.02)
        await until(lambda: forwarder.committed == end)
        assert len(box.stream.attempts) == 2


async def test_what_was_not_acknowledged_comes_again_first_and_in_order(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    box.stream.away = "Connection refused"
    box.stream.takes_before_failing = 3
    async with box.forwarding() as forwarder:
        first = box.put(10)
        await until(lambda: len(box.stream.attempts) > 3)
        assert forwarder.failing == "Connection refused"
        assert (forwarder.committed, forwarder.behind) == (0, True)
        end = box.put(10)
        await until(lambda: box.journal.stats().committed_offset == end)
        ok, detail = forwarder.status()
        assert not ok
        assert detail.startswith("away: Connection refused; 20 records wait, ")
        assert detail.endswith(" left at the present rate")
        failed = len(box.stream.attempts)
        box.stream.away = ""
        await until(lambda: forwarder.committed == end)
        assert forwarder.failing == ""
        assert forwarder.figures()["resent"] >= failed * first
    assert all(attempt == list(range(10)) for attempt in box.stream.attempts[:failed])
    fresh = [n for at, n in enumerate(box.stream.offsets) if n not in box.stream.offsets[:at]]
    assert fresh == list(range(20))
    assert box.stream.offsets[-20:] == list(range(20))
    assert caplog.text.count("the stream does not take records") == 1
    assert caplog.text.count("the stream takes records again") == 1


async def test_a_refused_record_becomes_a_dead_letter_and_the_rest_goes_on(box: Box) -> None:
    box.stream.refuses = lambda message: "TOO_LARGE" if message[0] == 4 else ""
    async with box.forwarding() as forwarder:
        end = box.put(10)
        await until(lambda: forwarder.committed == end + 1)
        assert box.stream.offsets == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
        assert line(forwarder, box.journal, "pose") == (10, 9, 0, {"TOO_LARGE": 1})
        assert line(forwarder, box.journal, "dead-letter") == (1, 1, 0, {})
    letter = decode_dead(box.stream.taken[-1][5])
    assert (letter.topic, letter.reason, letter.payload) == (
        "smartair/v1/home/r4/pose", "TOO_LARGE", b'{"n":4}',
    )  # fmt: skip
    assert letter.detail == "7 bytes do not fit"


async def test_a_refused_dead_letter_is_not_buried_again(box: Box) -> None:
    box.stream.refuses = lambda _: "TOO_LARGE"
    async with box.forwarding() as forwarder:
        box.put(2)
        await until(lambda: forwarder.committed == 4)
        end = box.put(1, Kind.DEAD)
        await until(lambda: forwarder.committed == end)
        assert line(forwarder, box.journal, "pose") == (2, 0, 0, {"TOO_LARGE": 2})
        assert line(forwarder, box.journal, "dead-letter") == (3, 0, 0, {"TOO_LARGE": 3})
        assert box.journal.stats().next_offset == end == 5
    assert box.stream.taken == []


async def test_the_cursor_waits_until_a_dead_letter_is_durable(tmp_path: Path) -> None:
    slow = JournalConfig(commit_ms=10_000)
    async with open_journal(slow, tmp_path) as journal:
        box = Box(journal)
        box.stream.refuses = lambda message: "TOO_LARGE" if message[1] != Kind.DEAD else ""
        async with box.forwarding() as forwarder:
            box.put(1)
            await journal.flush()
            await until(lambda: line(forwarder, journal, "pose")[3])
            assert (forwarder.position, forwarder.committed) == (1, 0)
            await journal.flush()
            await until(lambda: forwarder.committed == 2)


async def test_a_stop_in_the_middle_leaves_the_cursor_at_the_last_acknowledgement(
    tmp_path: Path,
) -> None:
    async with open_journal(FAST, tmp_path) as journal:
        box = Box(journal)
        async with box.forwarding() as forwarder:
            end = box.put(100)
            await until(lambda: forwarder.committed == end)
            box.stream.answers.clear()
            box.put(50)
            await until(lambda: forwarder.position == 150)
        assert forwarder.committed == 100
    async with open_journal(FAST, tmp_path) as journal:
        again = Box(journal)
        async with again.forwarding() as forwarder:
            await until(lambda: forwarder.committed == 150)
        assert again.stream.offsets == list(range(100, 150))


async def test_a_stream_that_hangs_is_behind_and_the_gap_is_marked(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    async with box.forwarding(real=False) as forwarder:
        box.stream.answers.clear()
        since = box.time.unix_ms()
        box.put(5)
        await until(lambda: box.stream.attempts)
        assert not forwarder.behind
        await box.time.advance(0.5)
        assert (forwarder.behind, forwarder.gaps) == (True, [])
        await until(lambda: box.time.sleeping)
        await box.time.advance(5.0)
        assert [gap.drained for gap in forwarder.gaps] == [None]
        assert forwarder.progress_at < box.time.now - 5
        ok, detail = forwarder.status()
        assert (ok, "no acknowledgement for 6 s; 5 records wait" in detail) == (False, True)
        assert [(told["from"][:19], told["to"], told["records"]) for told in box.told] == [
            ("2026-09-21T14:13:20", None, 5)
        ]
        end = box.put(20)
        await until(lambda: box.journal.stats().committed_offset == end)
        returned = box.time.unix_ms()
        box.stream.answers.set()
        await until(lambda: box.time.sleeping == 2 or forwarder.committed == end)
        await box.time.advance(2.0)
        await until(lambda: forwarder.committed == end)
        (gap,) = forwarder.gaps
        assert (gap.first_offset, gap.since, gap.lost) == (0, since, 0)
        assert gap.until == returned
        assert gap.drained is not None
        assert 5 <= gap.records <= 25
        assert [told["drained"] is None for told in box.told] == [True, False]
        await until(lambda: not forwarder.behind)
        assert forwarder.progress_at == box.time.now
        assert forwarder.figures()["gaps"] == 1
    assert caplog.text.count("the stream is behind") == 1
    assert caplog.text.count("the stream has caught up") == 1


async def test_an_idle_box_without_a_stream_says_so(box: Box) -> None:
    async with box.forwarding() as forwarder:
        box.stream.away = "Name or service not known"
        assert forwarder.behind
        assert forwarder.status()[1].startswith("away: Name or service not known; 0 records wait")


async def test_what_was_left_over_goes_out_at_the_pace_and_is_marked(box: Box) -> None:
    end = box.put(3_000, rts=box.time.unix_ms() - 3_600_000)
    await box.journal.flush()
    sends: list[tuple[float, int]] = []
    box.stream.on_send = lambda count: sends.append((box.time.now, count))
    async with box.forwarding(real=False) as forwarder:
        await until(lambda: forwarder.gaps)
        async with asyncio.timeout(60):
            while forwarder.committed < end:
                if box.time.sleeping == 2:  # both wait for time to pass, nothing else goes on
                    box.time.wake_next()
                await asyncio.sleep(0)
        (gap,) = forwarder.gaps
        assert (gap.reason, gap.since) == (
            "left over from before the start", box.time.unix_ms() - 3_600_000 - int(
                (box.time.now - 1_000) * 1_000
            ),
        )  # fmt: skip
        assert box.told[0]["records"] == 3_000
    assert box.stream.offsets == list(range(3_000))
    took_s = sends[-1][0] - sends[0][0]
    # 400 records/s count as live on an idle box, times 5; only the last step is not waited for
    assert took_s == pytest.approx((3_000 - sends[-1][1]) / 2_000, abs=0.06)
    assert max(count for _, count in sends) == 100


async def test_a_large_drain_factor_is_as_good_as_no_pace(box: Box) -> None:
    end = box.put(20_000, rts=box.time.unix_ms() - 60_000)
    await box.journal.flush()
    async with box.forwarding(drain_factor=1_000) as forwarder:
        await until(lambda: forwarder.committed == end)
    assert box.stream.offsets == list(range(20_000))
    assert max(map(len, box.stream.attempts)) == MOST


async def test_a_link_that_is_too_slow_for_much_gets_little(box: Box) -> None:
    box.stream.fails_over = 100

    def takes_long(_: int) -> None:
        box.time.now += min(len(box.stream.attempts[-1]) / 50, 2.0)

    box.stream.on_send = takes_long
    async with box.forwarding(real=False) as forwarder:
        end = box.put(1_000)
        await until(lambda: forwarder.committed >= 64)
        async with asyncio.timeout(30):
            while forwarder.committed < end:
                if box.time.sleeping == 2:
                    box.time.wake_next()
                await asyncio.sleep(0.001)
    sizes = [len(attempt) for attempt in box.stream.attempts]
    assert max(sizes) > 100
    assert sum(size > 100 for size in sizes) <= 5  # halved until it fits, and then left there
    assert box.stream.offsets == list(range(1_000))  # each once: what failed took nothing


async def test_a_producer_that_never_answers_is_given_up_and_asked_again(box: Box) -> None:
    box.stream.answers.clear()
    async with box.forwarding(patience_s=0.05) as forwarder:
        end = box.put(5)
        await until(lambda: len(box.stream.attempts) > 2)
        assert forwarder.failing == "the producer does not answer"
        box.stream.answers.set()
        await until(lambda: forwarder.committed == end)
    assert box.stream.offsets == list(range(5))


async def test_what_retention_took_is_counted(tmp_path: Path) -> None:
    tiny = JournalConfig(
        commit_ms=0, segment_bytes="4KiB", max_bytes="16KiB", memory_bytes="1B", commit_bytes=512
    )
    async with open_journal(tiny, tmp_path) as journal:
        box = Box(journal, tiny)
        box.stream.away = "Connection refused"
        async with box.forwarding() as forwarder:
            box.put(1)
            await until(lambda: box.stream.attempts)
            end = 0
            for _ in range(100):
                end = box.put(20)
                await journal.flush()
            await until(lambda: forwarder.gaps)
            assert forwarder.offline_hours_left() < 1
            box.stream.away = ""
            await until(lambda: forwarder.committed == end)
            entered, handed, pending, dropped = line(forwarder, journal, "backlog")
            assert (entered, pending, set(dropped)) == (2_001, 0, {"retention"})
            assert handed == len(set(box.stream.offsets)) == 2_001 - dropped["retention"]
            (gap,) = forwarder.gaps
            assert gap.lost == dropped["retention"] > 0
    assert sorted(set(box.stream.offsets)) == list(dict.fromkeys(box.stream.offsets))


def test_gaps_are_remembered_but_not_all() -> None:
    told: list[Any] = []
    gaps = Gaps(lambda _type, _robot, data, *, ts: told.append((data["records"], ts)), lambda: NOW)
    for n in range(KEPT + 5):
        gaps.begin(10 * n, NOW - 5_000, 3, "away")
        gaps.taken(1)
        gaps.end(10 * n + 10)
    assert [gap.first_offset for gap in gaps.last()] == [10 * n for n in range(5, KEPT + 5)]
    assert (gaps.count, gaps.records, gaps.open) == (KEPT + 5, 9 * (KEPT + 5), None)
    assert told[:2] == [(3, NOW), (9, NOW)]


def test_a_clock_that_was_set_back_makes_no_gap_from_the_future() -> None:
    gaps = Gaps(lambda *_, **__: None, lambda: NOW)
    gaps.begin(0, NOW + 60_000, 1, "away")
    assert gaps.last()[0].since == NOW
