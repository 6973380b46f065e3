"""Other boxes' robots on this box's live view, and this box's on theirs where no stream goes."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from gateway.aio.supervisor import Supervisor
from gateway.config.model import Live as LiveConfig
from gateway.config.model import MemoryState, RedisState
from gateway.core.errors import Unavailable
from gateway.core.kinds import LABEL, Kind
from gateway.core.payloads import Event, Pose, Sensor, State
from gateway.core.shared import CHANNEL, TTL_S, Shared, decode_all, encode, encode_all
from gateway.services import share as share_module
from gateway.services.ledger import Line
from gateway.services.live import Live
from gateway.services.live_poses import Update
from gateway.services.once import MAX_EVENTS, Once
from gateway.services.relay import MAX_ROBOTS, Relay
from gateway.services.share import MAX_VALUES, Share
from gateway.state.memory import MemoryStateStore
from gateway.state.open import open_state
from gateway.state.port import Newest, StateStore
from tests.services.redis import Redis

T = 1_790_000_000_000


async def until(what: str, holds: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(20):
            while not holds():  # noqa: ASYNC110 - what holds has no event
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


def message(kind: int, robot: str, ts: int, *, rts: int = 0, box: str = "b", **body: Any) -> Shared:
    return Shared(kind, robot, ts, rts or ts, box, msgspec.json.encode({"ts": ts, **body}))


def pose(robot: str, ts: int, seq: int | None = None, *, rts: int = 0, box: str = "b") -> Shared:
    return message(Kind.POSE, robot, ts, rts=rts, box=box, seq=seq, x=float(seq or 0), y=0.0)


def balance(lines: Any) -> Line:
    ((_, _, line),) = lines
    assert isinstance(line, Line)
    assert line.unaccounted == 0, line
    return line


class Far:
    """The other boxes: what they put and say."""

    def __init__(self, store: StateStore) -> None:
        self.store = store

    async def put(self, value: Shared) -> None:
        seq = msgspec.json.decode(value.payload).get("seq")
        newest = Newest(value.robot, value.ts, -1 if seq is None else seq, value.rts, encode(value))
        await self.store.put_newest(LABEL[value.kind], [newest], ttl_s=TTL_S)

    async def say(self, *values: Shared) -> None:
        await self.store.publish(CHANNEL, encode_all(values))


class Rig:
    """A hub, and the relay before it."""

    def __init__(self, store: StateStore, box: str = "a") -> None:
        self.live = Live(LiveConfig())
        self.shown: list[Update] = []
        self.homecomers: list[Shared] = []
        self.far = Far(store)
        self.once = Once(self.publish, box=box)
        self.relay = Relay(
            store, self.publish, box=box, once=self.once, came_home=self.homecomers.append
        )

    def publish(self, updates: list[Update]) -> int:
        self.shown += updates
        return self.live.publish(updates)

    @property
    def count(self) -> int:
        """Values that were dealt with."""
        return balance(self.relay.lines()).entered

    def seq(self, robot: str) -> int | None:
        known = self.live.robot(robot)
        return None if known is None or known.pose is None else known.pose["seq"]


@asynccontextmanager
async def relaying(store: StateStore, box: str = "a") -> AsyncIterator[Rig]:
    rig = Rig(store, box)
    async with Supervisor() as tasks:
        tasks.spawn("relay", rig.relay.run)
        await until("the keys were read", lambda: rig.relay.figures()["loads"] >= 1)
        yield rig


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[StateStore]:
    config: MemoryState | RedisState = MemoryState()
    if request.param == "redis":
        server: Redis = request.getfixturevalue("redis_server")
        config = RedisState(url=server.url, prefix=f"relay-{secrets.token_hex(8)}")
    async with open_state(config) as opened:
        yield opened


async def test_a_start_shows_every_box_s_robots(store: StateStore) -> None:
    far = Far(store)
    await far.put(pose("r1", T, 1))
    await far.put(pose("mine", T, 2, box="a"))
    await far.put(message(Kind.SENSOR, "r1", T, pm25=3.5))
    await far.put(message(Kind.STATE, "r1", T, state="docked"))
    async with relaying(store) as rig:
        assert (rig.seq("r1"), rig.seq("mine")) == (1, 2)
        robot = rig.live.robot("r1")
        assert robot is not None
        assert isinstance(robot.sensor, Sensor)
        assert isinstance(robot.state, State)
        assert (robot.sensor.pm25, robot.state.state) == (3.5, "docked")
        assert balance(rig.relay.lines()).delivered == 4


async def test_the_channel_brings_others_and_not_ourselves(store: StateStore) -> None:
    async with relaying(store) as rig:
        canary = Shared(Kind.CANARY, "canary", T, T, "a", b"1")
        foreign = Shared(Kind.CANARY, "canary", T, T, "b", b"2")
        await rig.far.say(
            pose("r1", T, 1),
            pose("mine", T, 1, box="a"),
            canary,
            foreign,
            message(Kind.EVENT, "r1", T, code="STUCK"),
            pose("nobody", T, 7, box=""),  # put into the stream by another program
        )
        await until("all six came", lambda: rig.count == 6)
        assert [update[:2] for update in rig.shown] == [
            (Kind.POSE, "r1"),
            (Kind.EVENT, "r1"),
            (Kind.POSE, "nobody"),
        ]
        assert rig.homecomers == [canary]
        assert balance(rig.relay.lines()).dropped == {"own": 2, "ignored": 1}


async def test_what_cannot_be_read_stops_nothing(store: StateStore) -> None:
    await store.put_newest("pose", [Newest("bad", T, 1, T, b"\xff")], ttl_s=60)
    async with relaying(store) as rig:
        await store.publish(CHANNEL, b"\x93 no message")
        await rig.far.say(
            Shared(Kind.POSE, "r1", T, T, "b", b"{"),
            Shared(Kind.EVENT, "r1", T, T, "b", b"[]"),
            Shared(99, "r1", T, T, "b", b"{}"),
            pose("r2", T, 4),
        )
        await until("the good one is shown", lambda: rig.seq("r2") == 4)
        assert balance(rig.relay.lines()).dropped == {"unreadable": 4, "ignored": 1}


async def test_a_backlog_never_takes_a_robot_back(store: StateStore) -> None:
    """Also for a browser that came with a restart: keys first, then an old part of the stream."""
    await Far(store).put(pose("r1", T + 60_000, 600))
    async with relaying(store) as rig:
        for n in range(0, 600, 7):
            await rig.far.say(pose("r1", T + n * 100, n))
        await rig.far.say(pose("r1", T + 60_100, 601))
        await until("the newest is shown", lambda: rig.seq("r1") == 601)
        assert [update[3] for update in rig.shown] == [T + 60_000, T + 60_100]
        assert balance(rig.relay.lines()).dropped["stale"] == 86


async def test_a_backlog_from_before_a_clock_was_set_back_is_old(store: StateStore) -> None:
    hour = 3_600_000
    async with relaying(store) as rig:
        await rig.far.say(pose("r1", T + hour, 100, rts=T))
        await rig.far.say(pose("r1", T + 9_000, 1, rts=T + 9_000))  # not believed yet
        await rig.far.say(pose("r1", T + 10_000, 2, rts=T + 10_000))
        await rig.far.say(pose("r1", T + hour + 500, 105, rts=T + 500))  # the stream drains
        await rig.far.say(pose("r1", T + 10_100, 3, rts=T + 10_100))
        await until("the newest is shown", lambda: rig.seq("r1") == 3)
        assert [update[2].seq for update in rig.shown if isinstance(update[2], Pose)] == [100, 2, 3]
        assert rig.live.stale[Kind.POSE] == 0  # hub and relay agree about what is old


async def test_a_robot_that_moves_to_another_box_goes_on(store: StateStore) -> None:
    async with relaying(store) as rig:
        rig.live.publish([(Kind.POSE, "r1", Pose(x=0, y=0, seq=1, ts=T), T, T)])  # it was ours
        await rig.far.say(pose("r1", T + 100, 2), pose("r1", T + 200, 3, box="c"))
        await until("it is seen through the others", lambda: rig.seq("r1") == 3)
        rig.live.publish([(Kind.POSE, "r1", Pose(x=0, y=0, seq=5, ts=T), T + 400, T + 400)])
        await rig.far.say(pose("r1", T + 300, 4), pose("r9", T, 9))  # late, after it came home
        await until("the late one was looked at", lambda: rig.seq("r9") == 9)
        assert rig.seq("r1") == 5


async def test_an_event_is_told_once(store: StateStore) -> None:
    """Directly while the stream was behind, and again when it drained: other bytes, same event."""
    direct = Shared(
        Kind.EVENT, "r1", T, T, "b", msgspec.json.encode(Event(code="STUCK", level="warning", ts=T))
    )
    drained = message(Kind.EVENT, "r1", T, code="STUCK", level="warning")
    assert direct.payload != drained.payload
    async with relaying(store) as rig:
        await rig.far.say(direct, drained, message(Kind.EVENT, "r1", T + 1, code="STUCK"))
        await until("all came", lambda: rig.count == 3)
        assert [update[3] for update in rig.shown] == [T, T + 1]
        await rig.far.say(
            *(message(Kind.EVENT, "r2", T + n, code="X") for n in range(MAX_EVENTS)), drained
        )
        await until("it was forgotten", lambda: rig.count == MAX_EVENTS + 4)
        assert rig.shown[-1][1] == "r1"


def events(rig: Rig, robot: str) -> list[int]:
    return [ts for kind, id_, _, ts, _ in rig.shown if kind == Kind.EVENT and id_ == robot]


async def test_an_event_that_two_boxes_took_in_is_told_once(store: StateStore) -> None:
    """Clients of one broker: the same bytes, received at other times."""

    def own(robot: str, ts: int, rts: int, *, believed: bool = True) -> None:
        rig.once.publish(
            [
                (Kind.POSE, robot, Pose(x=0, y=0, ts=ts), ts, rts),
                (Kind.EVENT, robot, Event(code="STUCK", ts=ts if believed else 5), ts, rts),
            ]
        )

    async with relaying(store) as rig:
        own("r1", T, T + 3)
        await rig.far.say(message(Kind.EVENT, "r1", T, rts=T + 9, code="STUCK"))
        await rig.far.say(message(Kind.EVENT, "r1", T, rts=T + 9, box="c", code="STUCK"))
        await rig.far.say(message(Kind.EVENT, "r2", T, rts=T + 9, code="STUCK"))
        await until("all came", lambda: rig.count == 3)
        own("r2", T, T + 70_000)  # the broker kept it for us
        own("r2", T + 1, T + 70_000)
        assert (events(rig, "r1"), events(rig, "r2")) == ([T], [T, T + 1])
        assert rig.live.robot("r2") is not None
        own("r3", T + 2, T + 2, believed=False)  # the box's clock: two of them may be two
        await rig.far.say(
            Shared(Kind.EVENT, "r3", T + 2, T + 2, "b", b'{"code":"STUCK","ts":5}'),
            message(Kind.EVENT, "r1", T, rts=T + 10, box="a", code="STUCK"),
        )
        await until("all came", lambda: rig.count == 5)
        assert events(rig, "r3") == [T + 2, T + 2]
    (line,) = (line for _, _, line in rig.once.lines())
    assert (line.entered, line.delivered, line.dropped["repeated"]) == (4, 3, 1)


async def test_after_a_gap_the_keys_are_read_again(store: StateStore) -> None:
    async with relaying(store) as rig:
        await rig.far.say(message(Kind.STATE, "r1", T, state="docked"))
        await rig.far.put(message(Kind.STATE, "r1", T, state="docked"))
        await rig.far.put(message(Kind.STATE, "r2", T, state="idle"))
        await rig.far.put(message(Kind.STATE, "mine", T, state="idle", box="a"))
        await until("the first is shown", lambda: len(rig.shown) == 1)
        store.sever(True)
        store.sever(False)
        await until("they were read again", lambda: rig.relay.figures()["loads"] == 2)
        # r1 is known: nobody hears its state twice; ours the hub knows better than the state
        assert [update[1] for update in rig.shown] == ["r1", "r2"]


class Reluctant(MemoryStateStore):
    """Its keys cannot be read, or written, so many times."""

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self.refusals = refusals
        self.told: list[list[Shared]] = []

    def _refuse(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("not now", dependency="state")

    async def newest(self, group: str) -> Any:
        self._refuse()
        return await super().newest(group)

    async def publish(self, channel: str, payload: bytes) -> None:
        self._refuse()  # after the keys were written
        self.told.append(decode_all(payload))
        await super().publish(channel, payload)


async def test_keys_that_cannot_be_read_are_read_later() -> None:
    store = Reluctant(2)
    await Far(store).put(pose("r1", T, 1))
    async with relaying(store) as rig:
        assert rig.relay.figures()["load_failures"] == 2
        assert rig.relay.failing == ""
        assert rig.seq("r1") == 1


async def test_what_is_remembered_is_bounded(store: StateStore) -> None:
    async with relaying(store) as rig:
        for part in _batches(MAX_ROBOTS + 1, 1_000):
            await rig.far.say(*(pose(f"r{n}", T, 1) for n in part))
        await until("all came", lambda: rig.count == MAX_ROBOTS + 1)
        assert len(rig.relay._times[Kind.POSE]) == 1


def _batches(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


# The direct way.


class Behind:
    """A stream that is behind, or not."""

    def __init__(self, now: bool) -> None:
        self.now = now

    def __call__(self) -> bool:
        return self.now


@asynccontextmanager
async def sharing(
    store: StateStore, *, behind: Callable[[], bool] = lambda: True
) -> AsyncIterator[tuple[Share, list[Update]]]:
    shown: list[Update] = []

    def hub(updates: list[Update]) -> int:
        shown.extend(updates)
        return 0

    share = Share(store, hub, box="b", behind=behind)
    async with Supervisor() as tasks:
        tasks.spawn("share", share.run)
        yield share, shown


def update(robot: str, ts: int, seq: int | None = 1, *, rts: int = 0) -> Update:
    return (Kind.POSE, robot, Pose(x=1.5, y=0, ts=ts, seq=seq), ts, rts or ts)


async def test_two_boxes_without_a_stream_see_each_other(store: StateStore) -> None:
    async with relaying(store, "a") as rig, sharing(store) as (share, shown):
        event = Event(code="STUCK", level="warning", ts=T)
        batch: list[Update] = [
            update("r1", T),
            (Kind.SENSOR, "r1", Sensor(pm25=4.5, ts=T), T, T),
            (Kind.STATE, "r1", State(state="cleaning", battery=80.5, ts=T), T, T),
            (Kind.EVENT, "r1", event, T, T),
        ]
        assert share.publish(batch) == 0
        assert shown == batch  # at once, on this box
        await until("the other box shows all four", lambda: len(rig.shown) == 4)
        assert sorted(rig.shown, key=lambda one: one[0]) == batch
        assert rig.seq("r1") == 1
        await until("nothing waits", lambda: balance(share.lines()).delivered == 4)


async def test_while_the_stream_is_in_time_nothing_is_shared() -> None:
    store, behind = Reluctant(0), Behind(False)
    async with sharing(store, behind=behind) as (share, shown):
        share.publish([update("r1", T)])
        behind.now = True
        await until("it looked", lambda: share.figures()["active"] == 1)
        share.publish([update("r2", T)])
        await until("it was told", lambda: bool(store.told))
        behind.now = False
        await until("it looked again", lambda: share.figures()["active"] == 0)
        share.publish([update("r3", T)])
        assert [value.robot for told in store.told for value in told] == ["r2"]
        assert [one[1] for one in shown] == ["r1", "r2", "r3"]
        assert balance(share.lines()).entered == 1


async def test_an_outage_keeps_the_newest_and_every_event() -> None:
    store = Reluctant(0)
    async with relaying(store) as rig, sharing(store) as (share, _):
        store.refusals = 3
        share.publish([update("r1", T, 1), (Kind.EVENT, "r1", Event(code="A", ts=T), T, T)])
        await until("the state refused", lambda: share.figures()["failures"] >= 1)
        assert share.failing == "not now"
        share.publish([update("r1", T + 100, 2), update("r1", T + 50, 9), update("r2", T, 1)])
        share.publish([(Kind.EVENT, "r1", Event(code="B", ts=T + 1), T + 1, T + 1)])
        await until("all is told", lambda: rig.seq("r1") == 2 and rig.seq("r2") == 1)
        await until("also the events", lambda: rig.live.applied[Kind.EVENT] == 2)
        codes = [one[2].code for one in rig.shown if isinstance(one[2], Event)]
        assert codes == ["A", "B"]
        await until("the round ended", lambda: balance(share.lines()).pending == 0)
        line = balance(share.lines())
        assert (line.entered, line.dropped) == (6, {"conflated": 1, "stale": 1})


async def test_what_was_stored_but_not_told_is_told() -> None:
    """The keys took it, then the connection broke: the next round finds nothing newer to store."""
    store = Reluctant(0)
    async with relaying(store) as rig, sharing(store) as (share, _):
        store.refusals = 1
        share.publish([update("r1", T, 1)])
        await until("it is shown all the same", lambda: rig.seq("r1") == 1)


async def test_the_oldest_go_when_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_VALUES > 1_000
    store = Reluctant(0)
    store.sever(True)
    monkeypatch.setattr(share_module, "MAX_VALUES", 3)
    monkeypatch.setattr(share_module, "MAX_EVENTS", 2)
    async with sharing(store) as (share, _):
        share.publish([update(f"r{n}", T) for n in range(5)])
        await until("the state refused", lambda: share.figures()["failures"] >= 1)
        share.publish([update("r5", T)])
        share.publish([(Kind.EVENT, "r", Event(code=f"E{n}", ts=T), T, T) for n in range(3)])
        await until("refused again", lambda: share.figures()["failures"] >= 3)
        store.sever(False)
        await until("the rest is told", lambda: balance(share.lines()).pending == 0)
        told = [value.robot for part in store.told for value in part if value.kind == Kind.POSE]
        assert told == ["r3", "r4", "r5"]
        line = balance(share.lines())
        assert (line.entered, line.delivered, line.dropped) == (9, 5, {"full": 4})


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([update("r", T, 5), update("r", T + 1, 1)], 1),
        ([update("r", T, 5), update("r", T - 1, 6)], 0),
        ([update("r", T, 5), update("r", T, 6)], 1),
        ([update("r", T, 5), update("r", T, 5, rts=T + 1)], 0),
        ([update("r", T, None), update("r", T, None, rts=T + 1)], 1),
        ([update("r", T, 5), update("r", T - 9_000, 1, rts=T + 10_000)], 1),
    ],
    ids=["later", "earlier", "next", "again", "no number", "clock set back"],
)
async def test_of_one_round_the_newest_goes(values: Sequence[Update], kept: int) -> None:
    store = Reluctant(0)
    async with sharing(store) as (share, _):
        share.publish(list(values))
        await until("a round was made", lambda: bool(store.told))
        ((told,),) = store.told
        assert (told.ts, told.rts) == (values[kept][3], values[kept][4])
        assert balance(share.lines()).entered == 2


async def test_two_boxes_over_a_redis_that_is_killed(own_redis: Redis) -> None:
    """Meanwhile each box goes on; what is newest afterwards reaches the other by itself."""
    config = RedisState(url=own_redis.url, prefix="boxes", timeout_s=0.5)
    async with (
        open_state(config) as ours,
        open_state(config) as theirs,
        relaying(ours, "a") as rig,
        sharing(theirs) as (share, shown),
    ):
        share.publish([update("r1", T, 1)])
        await until("it is seen on the other box", lambda: rig.seq("r1") == 1)
        own_redis.kill()
        for n in range(2, 50):
            share.publish([update("r1", T + n, n)])
        share.publish([(Kind.EVENT, "r1", Event(code="STUCK", ts=T), T, T)])
        await until("the state is away", lambda: bool(share.failing))
        assert len(shown) == 50  # nobody waited
        own_redis.start()
        await until("the newest is seen there", lambda: rig.seq("r1") == 49)
        await until("and the event", lambda: rig.live.applied[Kind.EVENT] == 1)
        await until("nothing waits", lambda: balance(share.lines()).pending == 0)
        assert balance(share.lines()).dropped["conflated"] >= 46
