"""From the stream to the shared state: what is stored, published, buried, counted and retried."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from gateway.core.backoff import Backoff
from gateway.core.errors import Unavailable
from gateway.core.kinds import Kind
from gateway.core.shared import CHANNEL, Shared, decode, decode_all
from gateway.services.gather import MESSAGE_VALUES, SET_BACK_MS, Gather
from gateway.services.ledger import Line
from gateway.state.memory import MemoryStateStore
from gateway.state.order import CLOCK_SET_BACK_MS
from gateway.state.port import Newest
from gateway.stream.port import Arrived, StreamStatus

NOW = 1_763_000_000_000
DAY_MS = 86_400_000
PATIENCE_S = 20.0


class Reads:
    """A consumer that hands out what it is given, and comes back to it until it is committed."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Sequence[Arrived]] = asyncio.Queue()
        self.handed = 0
        self.committed = 0
        self.moved = asyncio.Event()

    async def read(self) -> Sequence[Arrived]:
        records = await self.queue.get()
        self.handed += len(records)
        return records

    async def commit(self) -> None:
        self.committed = self.handed
        self.moved.set()

    def status(self) -> StreamStatus:
        return StreamStatus(connected=True, detail="in memory")


class Shaky(MemoryStateStore):
    """A store that does what it is asked, and then may not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.put_answers_lost = 0
        self.publishes_refused_at: set[int] = set()
        self.published: list[bytes] = []
        self.attempts = 0

    async def put_newest(
        self, group: str, candidates: Sequence[Newest], *, ttl_s: float
    ) -> Sequence[bool]:
        stored = await super().put_newest(group, candidates, ttl_s=ttl_s)
        if self.put_answers_lost:
            self.put_answers_lost -= 1
            raise Unavailable("no answer in time", dependency="state")
        return stored

    async def publish(self, channel: str, payload: bytes) -> None:
        assert channel == CHANNEL
        self.attempts += 1
        if self.attempts in self.publishes_refused_at:
            raise Unavailable("no answer in time", dependency="state")
        await super().publish(channel, payload)
        self.published.append(payload)


class Rig:
    def __init__(self) -> None:
        self.reads = Reads()
        self.store = Shaky()
        self.buried: list[tuple[str, str, str, str, bytes]] = []
        self.heard: list[Sequence[Arrived]] = []
        self.gather = Gather(
            self.reads,
            self.store,
            bury=lambda *letter: self.buried.append(letter),
            now_ms=lambda: NOW,
            heard=self.heard.append,
            backoff=Backoff(base_s=0.01, cap_s=0.01),
        )

    async def feed(self, *records: Arrived) -> None:
        """Hand over ``records`` in one read, and wait until they are committed."""
        self.give(*records)
        await self.settled()

    def give(self, *records: Arrived) -> None:
        self.wanted = self.reads.handed + len(records)
        self.reads.moved.clear()
        self.reads.queue.put_nowait(records)

    async def settled(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.reads.committed < self.wanted:
                self.reads.moved.clear()
                await self.reads.moved.wait()

    def line(self, kind: str) -> Line:
        return next(
            line for hop, name, line in self.gather.lines() if (hop, name) == ("state", kind)
        )

    def channel(self) -> list[Shared]:
        return [value for message in self.store.published for value in decode_all(message)]

    async def newest(self, group: str) -> dict[str, Shared]:
        return {key: decode(value) for key, value in (await self.store.newest(group)).items()}

    def balanced(self) -> bool:
        return all(line.unaccounted == 0 for _, _, line in self.gather.lines())


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    task = asyncio.ensure_future(made.gather.run())  # noqa: TID251 - the test is its supervisor
    yield made
    assert not task.done(), task
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert made.balanced()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - whatever it is, it says nothing when it changes
            await asyncio.sleep(0.005)


def arrived(kind: int, payload: Any, *, robot: str = "r1", rts: int = NOW, **more: Any) -> Arrived:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    defaults = {"site": "home", "box": "a", "source": "t.pose[0]", "offset": 7}
    return Arrived(kind=kind, robot=robot, rts=rts, payload=body, **{**defaults, **more})


def pose(x: float, ts: int | float | None, seq: int | None = None, **more: Any) -> Arrived:
    value = {"x": x, "y": 0.5, "ts": ts, "seq": seq}
    return arrived(Kind.POSE, {k: v for k, v in value.items() if v is not None}, **more)


async def test_newest_of_each_robot_and_kind_is_stored_and_published(rig: Rig) -> None:
    await rig.feed(
        pose(1, NOW - 2, 1),
        pose(3, NOW, 3),
        pose(2, NOW - 1, 2),
        pose(9, NOW, 1, robot="r2"),
        arrived(Kind.SENSOR, {"pm25": 12, "ts": NOW}),
        arrived(Kind.STATE, {"state": "docked", "ts": NOW}),
    )
    poses = await rig.newest("pose")
    assert {robot: json.loads(value.payload)["x"] for robot, value in poses.items()} == {
        "r1": 3,
        "r2": 9,
    }
    assert poses["r1"] == Shared(
        Kind.POSE, "r1", NOW, NOW, "a", b'{"x": 3, "y": 0.5, "ts": %d, "seq": 3}' % NOW
    )
    assert set(await rig.newest("sensor")) == set(await rig.newest("state")) == {"r1"}
    assert sorted((v.kind, v.robot) for v in rig.channel()) == [
        (Kind.POSE, "r1"), (Kind.POSE, "r2"), (Kind.SENSOR, "r1"), (Kind.STATE, "r1"),
    ]  # fmt: skip
    assert (rig.line("pose").entered, rig.line("pose").delivered) == (4, 4)
    assert rig.gather.figures()["conflated"] == 2
    assert [len(records) for records in rig.heard] == [6]


async def test_what_comes_again_changes_nothing_and_is_counted_as_stale(rig: Rig) -> None:
    records = [pose(1, NOW - 2, 1), pose(2, NOW, 2)]
    await rig.feed(*records)
    await rig.feed(*records)
    await rig.feed(records[0])
    assert json.loads((await rig.newest("pose"))["r1"].payload)["x"] == 2
    assert len(rig.channel()) == 1
    line = rig.line("pose")
    assert (line.entered, line.delivered, line.dropped) == (5, 3, {"stale": 2})


async def test_equal_time_is_decided_by_seq(rig: Rig) -> None:
    await rig.feed(pose(1, NOW, 5), pose(2, NOW, 4), pose(3, NOW, 6), pose(4, NOW, 6))
    assert json.loads((await rig.newest("pose"))["r1"].payload)["x"] == 3


async def test_without_seq_the_later_of_equal_times_wins(rig: Rig) -> None:
    states = [{"state": "docked", "ts": NOW}, {"state": "cleaning", "ts": NOW}]
    await rig.feed(*(arrived(Kind.STATE, state) for state in states))
    assert json.loads((await rig.newest("state"))["r1"].payload)["state"] == "cleaning"


async def test_a_clock_that_was_set_back_is_believed_again(rig: Rig) -> None:
    assert SET_BACK_MS == CLOCK_SET_BACK_MS  # within a read as in the store
    await rig.feed(
        pose(1, NOW, 1, rts=NOW - 20_000),
        pose(2, NOW - 60_000, 2, rts=NOW - 15_000),
        pose(3, NOW - 59_000, 3, rts=NOW - 10_000),
    )
    assert json.loads((await rig.newest("pose"))["r1"].payload)["x"] == 3


@pytest.mark.parametrize(
    ("ts", "rts", "believed", "received"),
    [
        (NOW - 5, NOW, NOW - 5, NOW),
        (NOW - 5.5, NOW, NOW - 6, NOW),  # a fraction is cut
        (None, NOW - 3, NOW - 3, NOW - 3),
        (NOW - DAY_MS - 1, NOW, NOW, NOW),
        (NOW + DAY_MS + 1, NOW, NOW, NOW),
        (NOW - DAY_MS, NOW, NOW - DAY_MS, NOW),
        (NOW - 5, 0, NOW - 5, NOW),  # nobody said when it was received
        (None, 0, NOW, NOW),
        (None, NOW + DAY_MS + 1, NOW, NOW),  # a box with a broken clock
        (None, -5, NOW, NOW),
    ],
)
async def test_times_are_believed_as_on_the_way_in(
    rig: Rig, ts: float | None, rts: int, believed: int, received: int
) -> None:
    await rig.feed(pose(1, ts, rts=rts))
    value = (await rig.newest("pose"))["r1"]
    assert (value.ts, value.rts) == (believed, received)
    assert type(value.ts) is int


async def test_every_event_and_canary_goes_to_the_channel_and_nowhere_else(rig: Rig) -> None:
    events = [arrived(Kind.EVENT, {"code": "stuck", "ts": NOW}, offset=place) for place in range(3)]
    canary = arrived(Kind.CANARY, {"id": 1, "ts": NOW}, robot="box-1", box="box-1")
    await rig.feed(*events, canary)
    assert [(value.kind, value.robot, value.box) for value in rig.channel()] == [
        *[(Kind.EVENT, "r1", "a")] * 3,
        (Kind.CANARY, "box-1", "box-1"),
    ]
    assert await rig.newest("event") == {}
    assert await rig.newest("canary") == {}


async def test_what_does_not_fit_is_buried_with_its_reason_and_stalls_nothing(rig: Rig) -> None:
    bad = [
        (arrived(Kind.POSE, b"", offset=1), "NOT_JSON", "r1"),
        (arrived(Kind.POSE, b"{", offset=2), "NOT_JSON", "r1"),
        (arrived(Kind.POSE, {"x": "1", "y": 2}, offset=3), "INVALID", "r1"),
        (arrived(Kind.POSE, {"x": 1, "y": 2}, robot="", offset=4), "BAD_ROBOT_ID", ""),
        (arrived(Kind.POSE, {"x": 1, "y": 2}, robot="a/b", offset=5), "BAD_ROBOT_ID", ""),
        (arrived(Kind.POSE, {"x": 1, "y": 2}, robot="r" * 65, offset=5), "BAD_ROBOT_ID", ""),
        (arrived(Kind.SENSOR, {"ts": NOW}, offset=6), "INVALID", "r1"),
        (arrived(Kind.EVENT, b'"' + b"x" * 70_000 + b'"', offset=7), "TOO_LARGE", "r1"),
        (arrived(Kind.STATE, b"[" * 100_000, offset=8), "TOO_LARGE", "r1"),
        (arrived(Kind.STATE, b'{"x":' + b"[" * 60_000, offset=9), "NOT_JSON", "r1"),
        (arrived(Kind.EVENT, b'{"code":"\xff"}', offset=10), "NOT_JSON", "r1"),
        (arrived(Kind.CANARY, b"cuckoo", offset=11), "NOT_JSON", "r1"),
    ]
    await rig.feed(pose(1, NOW), *(record for record, _, _ in bad), pose(2, NOW))
    assert [(letter[0], letter[2], letter[1]) for letter in rig.buried] == [
        (f"t.pose[0]@{record.offset}", code, robot) for record, code, robot in bad
    ]
    assert [letter[4] for letter in rig.buried] == [record.payload for record, _, _ in bad]
    assert all(letter[3] for letter in rig.buried)
    assert json.loads((await rig.newest("pose"))["r1"].payload)["x"] == 2
    assert rig.line("pose").dropped == {"NOT_JSON": 2, "INVALID": 1, "BAD_ROBOT_ID": 3}
    assert rig.line("pose").delivered == 2


async def test_a_store_that_is_away_is_tried_until_it_is_back_and_nothing_is_committed(
    rig: Rig,
) -> None:
    rig.store.sever(True)
    rig.give(pose(1, NOW), pose(2, NOW + 1), arrived(Kind.EVENT, {"code": "stuck"}))
    await until(lambda: rig.gather.figures()["retries"] > 2)
    before = rig.gather.progress_at
    assert rig.gather.failing
    assert rig.reads.committed == 0
    assert (rig.line("pose").pending, rig.line("event").pending) == (2, 1)
    assert rig.balanced()
    rig.store.sever(False)
    await rig.settled()
    assert not rig.gather.failing
    assert rig.gather.progress_at > before
    assert rig.line("pose").pending == 0
    assert [value.kind for value in rig.channel()].count(Kind.EVENT) == 1
    assert len(rig.buried) == 0


async def test_a_write_without_an_answer_is_published_all_the_same(rig: Rig) -> None:
    rig.store.put_answers_lost = 1
    await rig.feed(pose(1, NOW, 1))
    assert [value.robot for value in rig.channel()] == ["r1"]
    assert rig.line("pose").delivered == 1


async def test_poison_is_buried_once_however_often_the_write_is_tried(rig: Rig) -> None:
    rig.store.put_answers_lost = 5
    await rig.feed(pose(1, NOW, 1), arrived(Kind.POSE, b"{"))
    assert len(rig.buried) == 1


async def test_messages_on_the_channel_are_bounded_and_a_refused_one_repeats_alone(
    rig: Rig,
) -> None:
    rig.store.publishes_refused_at = {2}
    count = 2 * MESSAGE_VALUES + 1
    await rig.feed(*(pose(1, NOW, robot=f"r{number}") for number in range(count)))
    assert [len(decode_all(message)) for message in rig.store.published] == [
        MESSAGE_VALUES, MESSAGE_VALUES, 1,
    ]  # fmt: skip
    assert len({value.robot for value in rig.channel()}) == count


async def test_messages_on_the_channel_are_bounded_in_bytes(rig: Rig) -> None:
    text = "x" * 60_000
    events = [arrived(Kind.EVENT, {"code": "a", "more": text}) for _ in range(12)]
    await rig.feed(*events)
    sizes = [len(message) for message in rig.store.published]
    assert sum(len(decode_all(message)) for message in rig.store.published) == 12
    assert len(sizes) == 3
    assert max(sizes) < 300_000


async def test_every_kind_has_a_line_from_the_start(rig: Rig) -> None:
    assert [(hop, kind) for hop, kind, _ in rig.gather.lines()] == [
        ("state", kind) for kind in ("pose", "sensor", "state", "event", "canary")
    ]
