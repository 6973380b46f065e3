"""The flight recorder on a real journal and a real store, by a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from gateway.bus.port import Batch
from gateway.config.model import JournalConfig, SqliteRecords
from gateway.config.model import Live as LiveConfig
from gateway.core.errors import NotFound
from gateway.core.kinds import Kind
from gateway.core.payloads import Pose
from gateway.core.times import rfc3339
from gateway.journal.open import open_journal
from gateway.records.open import open_records
from gateway.records.port import RobotRow, Writes
from gateway.services.canary_hop import Hop
from gateway.services.ingest import Ingest
from gateway.services.live import Live
from gateway.services.why import MOST, FlightRecorder
from gateway.services.why_answer import Why, WhyMessage
from gateway.services.why_checkpoints import BEFORE, EVERY_S, MEMORY_S, Checkpoints
from gateway.services.why_exceptions import Exceptions

START = 1_790_000_000_000
TREE = "smartair/v1/home"
MEMORY_MS = int(MEMORY_S * 1000)


class Positions:
    """Where two hops are, and what time it is."""

    def __init__(self) -> None:
        self.now = START
        self.next = 0
        self.at = 0
        self.points = Checkpoints(lambda: self.next, {"hop": lambda: self.at}, now_ms=self.time)

    def time(self) -> int:
        return self.now

    def sample(self, ms: int, next_: int, at: int) -> None:
        self.now, self.next, self.at = START + ms, next_, at
        self.points.sample()


def test_when_a_hop_had_passed_an_offset() -> None:
    at = Positions()
    at.sample(0, 10, 5)
    at.sample(100, 20, 5)
    at.sample(200, 30, 20)
    at.sample(300, 30, 20)  # nothing moved: nothing is kept
    at.sample(400, 30, 25)
    passed = {offset: at.points.passed("hop", offset) for offset in (4, 5, 19, 20, 24, 25)}
    assert passed == {
        4: BEFORE, 5: START + 200, 19: START + 200, 20: START + 400, 24: START + 400, 25: None,
    }  # fmt: skip
    found = [at.points.offset_at(START + ms) for ms in (-50, 0, 99, 100, 250, 9_999)]
    assert found == [10, 10, 10, 20, 30, 30]
    assert at.points.since() == START


def test_a_clock_that_is_set_back_leaves_the_times_in_order() -> None:
    at = Positions()
    at.sample(1_000, 1, 1)
    at.sample(500, 2, 2)
    at.sample(1_500, 3, 3)
    assert [at.points.passed("hop", offset) for offset in (1, 2)] == [START + 1_000, START + 1_500]


def test_the_checkpoints_are_bounded() -> None:
    at = Positions()
    most = int(MEMORY_S / EVERY_S)
    for number in range(5 * most):
        at.sample(number * 100, number, number)
        assert len(at.points._times) <= 2 * most
    assert at.points.since() == START + (5 * most - most) * 100
    assert at.points.passed("hop", 5 * most - 10) == START + (5 * most - 9) * 100
    assert at.points.passed("hop", 1) == BEFORE


def test_exceptions_forget_the_oldest() -> None:
    ring = Exceptions(most=3)
    for seq in range(5):
        ring.stale((Kind.POSE, f"r{seq % 2}", Pose(x=0, y=0, seq=seq), seq, 10 + seq), 99, None)
    assert [(miss.seq, miss.ts, miss.rts) for miss in ring.of("r0")] == [(2, 2, 12), (4, 4, 14)]
    assert [miss.seq for miss in ring.of("r1")] == [3]
    assert ring.of("r2") == []


@dataclass
class Rig:
    """A gateway without its bus. The history is where the test says."""

    ingest: Ingest
    recorder: FlightRecorder
    now: int = START
    archived: int = 0
    failing: str = ""
    home: int = 0
    stuck: str = ""

    def trouble(self, name: str) -> str:
        return self.stuck if name == "state" else ""

    async def send(self, kind: str, payload: bytes, robot: str = "r1") -> None:
        """Return when it is durable."""
        durable = asyncio.Event()
        self.ingest.take(Batch([(f"{TREE}/{robot}/{kind}", payload)], durable.set))
        async with asyncio.timeout(20):
            await durable.wait()

    def after(self, ms: int, *, archived: int | None = None, home: int | None = None) -> None:
        """Let time pass, and the hops get so far."""
        self.now += ms
        self.archived = self.archived if archived is None else archived
        self.home = self.home if home is None else home
        self.recorder.checkpoints.sample()


@asynccontextmanager
async def running(
    folder: Path, *, max_robots: int = 100, journal_config: JournalConfig | None = None
) -> AsyncIterator[Rig]:
    async with (
        open_journal(journal_config or JournalConfig(commit_ms=0), folder) as journal,
        open_records(SqliteRecords(), folder) as store,
    ):
        live = Live(LiveConfig(), max_robots=max_robots)
        rig: Rig
        hops = [
            Hop(name="journal", after="", reached=lambda: journal.stats().committed_offset),
            Hop(
                name="records",
                after="journal",
                reached=lambda: rig.archived,
                failing=lambda: rig.failing,
                kinds=frozenset({Kind.SENSOR, Kind.DEAD}),
            ),
            Hop(name="state", after="journal", kinds=frozenset({Kind.POSE, Kind.SENSOR})),
        ]
        ingest = Ingest(
            journal, live.publish, prefix="smartair/v1", site="home", now_ms=lambda: rig.now
        )

        class Home:
            @property
            def home(self) -> int:
                return rig.home

            def trouble(self, name: str) -> str:
                return rig.trouble(name)

        recorder = FlightRecorder(
            journal, hops, Home(), live=live, store=store, now_ms=lambda: rig.now
        )
        rig = Rig(ingest, recorder)
        await store.write(Writes(robots=[RobotRow(id="quiet", last_seen=1)]))
        yield rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as opened:
        opened.after(0)
        yield opened


def way(message: WhyMessage) -> dict[str, tuple[str, int | None]]:
    return {hop.hop: (hop.verdict, hop.ms) for hop in message.hops}


def reasons(message: WhyMessage) -> dict[str, str]:
    return {hop.hop: hop.reason for hop in message.hops if hop.reason}


async def test_a_message_that_went_everywhere(rig: Rig) -> None:
    rig.now += 1_000
    await rig.send("sensor", b'{"ts":1790000000500,"seq":7,"co2":600}')
    rig.after(100)
    rig.after(200, archived=1)
    rig.after(1_700, home=1)
    answer = await rig.recorder.why("r1")
    (message,) = answer.messages
    assert message.kind == "sensor"
    assert (message.seq, message.offset, message.verdict, message.reason) == (7, 0, "delivered", "")
    assert (message.ts, message.rts) == (rfc3339(START + 500), rfc3339(START + 1_000))
    assert way(message) == {
        "received": ("delivered", 0),
        "journal": ("delivered", 100),
        "live": ("delivered", 0),
        "records": ("delivered", 300),
        "state": ("delivered", 2_000),
    }
    assert list(way(message)) == ["received", "journal", "live", "records", "state"]
    assert message.hops[3].at == rfc3339(START + 1_300)
    assert (answer.robot, answer.truncated, answer.exceptions) == ("r1", False, [])
    assert answer.to == rfc3339(START + 3_000)
    assert answer.from_ == rfc3339(START + 3_000 - MEMORY_MS)
    assert answer.summary.text == "all 1 messages were delivered"
    assert [(hop.hop, hop.ok, hop.waiting) for hop in answer.hops] == [
        ("journal", True, 0), ("records", True, 0), ("state", True, 0),
    ]  # fmt: skip


async def test_a_message_passes_only_the_hops_of_its_kind(rig: Rig) -> None:
    await rig.send("event", b'{"code":"STUCK"}')
    rig.after(100)
    (message,) = (await rig.recorder.why("r1")).messages
    assert list(way(message)) == ["received", "journal", "live"]
    assert message.verdict == "delivered"


async def test_a_message_that_waits_says_for_how_long_and_why(rig: Rig) -> None:
    await rig.send("sensor", b'{"seq":7,"co2":600}')
    rig.failing = "the disk is full"
    rig.stuck = "stuck for 11 s: no answer"
    rig.after(12_500)
    answer = await rig.recorder.why("r1")
    (message,) = answer.messages
    assert way(message)["records"] == ("waiting", None)
    assert reasons(message) == {
        "records": "for 12.5 s: the disk is full",
        "state": "for 12.5 s: stuck for 11 s: no answer",
    }
    assert (message.verdict, message.reason) == ("waiting", "records: for 12.5 s: the disk is full")
    assert [(hop.hop, hop.ok, hop.waiting, hop.reason) for hop in answer.hops] == [
        ("journal", True, 0, ""),
        ("records", False, 1, "the disk is full"),
        ("state", False, 1, "stuck for 11 s: no answer"),
    ]
    rig.failing = rig.stuck = ""
    (message,) = (await rig.recorder.why("r1")).messages
    assert reasons(message)["state"] == "for 12.5 s: on its way"


async def test_a_stale_message_says_what_was_known(rig: Rig) -> None:
    await rig.send("pose", b'{"ts":1790000000900,"seq":9,"x":1,"y":2}')
    rig.after(5)
    await rig.send("pose", b'{"ts":1790000000800,"seq":8,"x":1,"y":2}')
    await rig.send("sensor", b'{"ts":1790000000900,"co2":600}')
    await rig.send("sensor", b'{"ts":1790000000700,"co2":700}')
    rig.after(100, archived=4, home=4)
    answer = await rig.recorder.why("r1")
    by_verdict = {(m.kind, m.verdict): m for m in answer.messages}
    assert set(by_verdict) == {
        ("pose", "delivered"), ("pose", "stale"), ("sensor", "delivered"), ("sensor", "stale"),
    }  # fmt: skip
    known = f"not newer than what was known: {rfc3339(START + 900)}"
    assert by_verdict["pose", "stale"].reason == f"live: {known}, seq 9"
    assert by_verdict["pose", "stale"].seq == 8
    assert by_verdict["sensor", "stale"].reason == f"live: {known}"
    assert way(by_verdict["sensor", "stale"])["records"] == ("delivered", 100)
    assert [(miss.kind, miss.seq, miss.verdict) for miss in answer.exceptions] == [
        ("sensor", None, "stale"), ("pose", 8, "stale"),
    ]  # fmt: skip
    assert answer.summary.verdicts == {"delivered": 2, "stale": 2}


async def test_a_message_that_did_not_fit_says_in_what_way(rig: Rig) -> None:
    await rig.send("sensor", b'{"co2":"a lot"}')
    await rig.send("nonsense", b"{}")
    rig.after(100, archived=2)
    misplaced, wrong = (await rig.recorder.why("r1")).messages
    assert (wrong.kind, wrong.verdict) == ("dead-letter", "dead-letter")
    assert wrong.reason.startswith("INVALID: Expected `float | null`, got `str` - at `$.co2`")
    assert wrong.reason.endswith(f"({TREE}/r1/sensor)")
    assert way(wrong) == {
        "received": ("refused", 0),
        "journal": ("delivered", 100),
        "records": ("delivered", 100),
    }
    assert misplaced.reason.startswith("UNKNOWN_TOPIC: ")


async def test_a_robot_too_many_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, max_robots=1) as rig:
        rig.after(0)
        await rig.send("pose", b'{"x":1,"y":2}', robot="first")
        await rig.send("pose", b'{"x":1,"y":2}')
        rig.after(100, home=2)
        (message,) = (await rig.recorder.why("r1")).messages
        assert message.verdict == "refused"
        assert message.reason == "live: the live view holds as many robots as it can"


async def test_what_is_older_than_15_minutes_is_left_out(rig: Rig) -> None:
    await rig.send("pose", b'{"seq":1,"x":1,"y":2}')
    await rig.send("pose", b'{"seq":1,"x":1,"y":2}')  # stale
    rig.after(MEMORY_MS - 1_000)
    await rig.send("pose", b'{"seq":2,"x":1,"y":2}')
    rig.after(1_001)
    answer = await rig.recorder.why("r1")
    assert [message.seq for message in answer.messages] == [2]
    assert answer.exceptions == []
    rig.after(MEMORY_MS)
    answer = await rig.recorder.why("r1")
    assert answer.messages == []
    assert answer.summary.text == "nothing was received from it"


async def test_of_many_the_newest_are_shown(rig: Rig) -> None:
    durable = asyncio.Event()
    items = [(f"{TREE}/r1/pose", b'{"seq":%d,"x":1,"y":2}' % n) for n in range(3 * MOST)]
    rig.ingest.take(Batch([*items, (f"{TREE}/r1/state", b'{"state":"idle"}')], durable.set))
    await durable.wait()
    rig.after(100, home=3 * MOST + 1)
    answer = await rig.recorder.why("r1")
    assert answer.truncated
    assert answer.summary.kinds == {"pose": MOST, "state": 1}
    poses = [message.seq for message in answer.messages if message.kind == "pose"]
    assert poses == list(range(3 * MOST - 1, 2 * MOST - 1, -1))


async def test_after_a_restart_the_journal_still_knows(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.send("sensor", b'{"seq":7,"co2":600}')
    async with running(tmp_path) as rig:
        rig.after(1_000, archived=1)
        await rig.send("sensor", b'{"seq":8,"co2":600}')
        rig.after(1_000, archived=2, home=2)
        newer, older = (await rig.recorder.why("r1")).messages
    assert (newer.verdict, older.seq, older.verdict) == ("delivered", 7, "unknown")
    assert way(older) == {
        "received": ("delivered", 0),
        "journal": ("delivered", None),
        "live": ("unknown", None),
        "records": ("delivered", None),
        "state": ("delivered", 2_000),
    }
    assert older.reason == "live: before this process began to look"


async def test_a_hop_says_what_the_journal_dropped_before_it_had_it(tmp_path: Path) -> None:
    small = JournalConfig(commit_ms=0, segment_bytes="4KiB", max_bytes="16KiB")
    async with running(tmp_path, journal_config=small) as rig:
        rig.after(0)
        for number in range(300):
            await rig.send("sensor", b'{"seq":%d,"co2":600}' % number)
        rig.after(100, archived=250)
        answer = await rig.recorder.why("r1")
    journal, records, state = answer.hops
    assert (journal.dropped, journal.ok, records.dropped, records.waiting) == (0, True, 0, 50)
    assert 0 < state.dropped < 250
    assert (state.dropped + state.waiting, state.ok) == (300, False)
    assert state.reason == "the journal dropped what this hop did not have yet"


async def test_a_robot_that_says_nothing_and_one_that_is_unknown(rig: Rig) -> None:
    assert (await rig.recorder.why("quiet")).messages == []
    with pytest.raises(NotFound):
        await rig.recorder.why("nobody")


async def test_a_robots_question_does_not_show_anothers_answers(rig: Rig) -> None:
    await rig.send("pose", b'{"x":1,"y":2}', robot="r1")
    await rig.send("pose", b'{"x":1,"y":2}', robot="r11")
    rig.after(100)
    assert [m.offset for m in (await rig.recorder.why("r1")).messages] == [0]
    assert [m.offset for m in (await rig.recorder.why("r11")).messages] == [1]


def test_the_answer_is_json_with_from() -> None:
    assert "from" in msgspec.json.schema(Why)["$defs"]["Why"]["properties"]
