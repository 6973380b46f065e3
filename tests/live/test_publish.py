"""Newest values and the counters of the ledger's hop."""

import pytest

from gateway.config.model import Live as LiveConfig
from gateway.core.kinds import Kind
from gateway.core.payloads import CommandAck, Connection, Event, Sensor, State
from gateway.services.live import Live
from gateway.services.live_poses import STEPPED_S, Poses, Update
from tests.live.rig import now_ms, pose


@pytest.fixture
def live() -> Live:
    return Live(LiveConfig())


def newest(live: Live, robot: str = "r") -> int | None:
    known = live.robot(robot)
    assert known is not None
    assert known.pose is not None
    seq: int | None = known.pose["seq"]
    return seq


@pytest.mark.parametrize(
    ("second", "stale"),
    [
        (pose("r", 1_001, 1, rts=1), False),  # later, although its number is smaller
        (pose("r", 999, 9, rts=1), True),
        (pose("r", 1_000, 6, rts=1), False),
        (pose("r", 1_000, 5, rts=1), True),  # the same message again
        (pose("r", 1_000, 4, rts=1), True),
        (pose("r", 1_000, None, rts=1), False),  # without a number the arrival decides
        (pose("q", 1, 1, rts=1), False),  # another robot
    ],
)
def test_newest_wins(live: Live, second: Update, *, stale: bool) -> None:
    assert live.publish([pose("r", 1_000, 5, rts=1)]) == 0
    assert live.publish([second]) == stale
    assert newest(live) == (5 if stale or second[1] == "q" else second[2].seq)  # type: ignore[union-attr]
    assert live.received[Kind.POSE] == 2
    assert live.stale[Kind.POSE] == stale
    assert live.applied[Kind.POSE] == 2 - stale


def test_a_robot_whose_clock_was_set_back_is_believed_after_a_while(live: Live) -> None:
    live.publish([pose("r", 9_000_000, 1, rts=0)])
    assert live.publish([pose("r", 1_000, 2, rts=STEPPED_S * 1_000 - 1)]) == 1
    assert live.publish([pose("r", 1_000, 3, rts=STEPPED_S * 1_000)]) == 0
    assert newest(live) == 3


def test_other_kinds(live: Live) -> None:
    first: list[Update] = [
        (Kind.SENSOR, "r", Sensor(co2=500, seq=2), 10, 10),
        (Kind.STATE, "r", State(state="idle", battery=50), 10, 10),
        (Kind.CONNECTION, "r", Connection(state="online"), 10, 10),
        (Kind.EVENT, "r", Event(code="A"), 10, 10),
        (Kind.ACK, "r", CommandAck(id="c", ok=True), 10, 10),
    ]
    older: list[Update] = [
        (Kind.SENSOR, "r", Sensor(co2=400, seq=1), 10, 11),
        (Kind.STATE, "r", State(state="docked"), 9, 11),
        (Kind.CONNECTION, "r", Connection(state="lost"), 9, 11),  # a will is as old as its connect
        (Kind.EVENT, "r", Event(code="B"), 9, 11),
    ]
    assert live.publish(first) == 0
    assert live.publish(older) == 2
    robot = live.robot("r")
    assert robot is not None
    assert (robot.sensor, robot.state) == (first[0][2], first[1][2])
    assert robot.connection == older[2][2]
    assert (robot.pose, robot.last_seen, robot.online) == (None, 11, False)
    for kind in Kind:
        assert live.received[kind] == live.applied[kind] + live.stale[kind] + live.refused[kind]
    assert live.stale[Kind.SENSOR] == live.stale[Kind.STATE] == 1


def test_online_without_a_connection_message(live: Live) -> None:
    now = now_ms()
    live.publish([pose("seen", 1, rts=now), pose("long ago", 1, rts=now - 61_000)])
    assert [robot.online for robot in live.robots()] == [True, False]


def test_robots_beyond_the_limit_are_refused_and_counted() -> None:
    live = Live(LiveConfig(), max_robots=2)
    assert live.publish([pose(name, 1) for name in "abc"]) == 0
    live.publish([(Kind.STATE, "d", State(state="idle"), 1, 1), pose("a", 2)])
    assert [robot.id for robot in live.robots()] == ["a", "b"]
    assert (live.refused[Kind.POSE], live.refused[Kind.STATE]) == (1, 1)
    assert (live.applied[Kind.POSE], live.received[Kind.POSE]) == (3, 4)


@pytest.mark.parametrize("history", [1, 10, 256, 1_000])
@pytest.mark.parametrize("batch", [1, 7, 300])
def test_history_is_whole_and_bounded(history: int, batch: int) -> None:
    poses = Poses(history, {})
    total = 3_000
    for start in range(0, total, batch):
        updates = [pose("r", i + 1, i + 1) for i in range(start, min(start + batch, total))]
        poses.recent += updates
        poses.offset += len(updates)
        if poses.full:
            poses.roll()
    kept = 0
    for offset in range(total + 1):
        blocks = poses.since(offset)
        if blocks is None:
            assert kept == 0, "a later position can be resumed from, an earlier one cannot"
            continue
        got = [update[3] for block in blocks for update in block.updates]
        assert got == list(range(offset + 1, total + 1))
        kept = kept or len(got)
    assert history <= kept <= history + 512
    assert poses.since(total + 1) is None
