"""The live view of one box on another: without a stream, and while Kafka is away."""

import os
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from bench.open_loop import OpenLoop, Plan
from tests.e2e.boxes import (
    Box,
    Device,
    Drive,
    Shared,
    Watcher,
    note,
    now_ms,
    until_all,
)
from tests.e2e.boxes_load import read_topic, repeats
from tests.faults.proxy import Proxy
from tests.services.kafka import Kafka
from tests.services.redis import Redis

LONG = os.environ.get("EDGE_LONG") == "1"
AWAY_S = 60 if LONG else 0.5  # from when it was noticed
ROBOTS = [f"r{number}" for number in range(20)]
EVENTS = "/ws/events?types=event"


def measure(from_: Box, to: Box, how: str) -> None:
    """Say how long a pose takes from a device of one box to a browser of the other."""
    seconds = 20.0 if LONG else 1.0
    outcome = OpenLoop(
        Plan(
            mqtt=from_.mqtt, http=to.http, rate=200, robots=50, connections=50,
            seconds=seconds, warm_s=0.5, settle_s=60,
        )
    ).run()  # fmt: skip
    assert outcome.missing == 0
    figures = ", ".join(f"{name} {value:.1f}" for name, value in outcome.latency.items())
    note(f"device of one box to WebSocket of the other {how}, 200 msg/s, ms: {figures}")


def test_two_boxes_without_a_stream(redis_server: Redis, tmp_path: Path) -> None:
    shared = Shared("", redis_server.url)
    with ExitStack() as stack:
        one, two = (stack.enter_context(Box(tmp_path, n, *shared.sets)) for n in ("one", "two"))
        one.ready()
        two.ready()
        measure(one, two, "by Redis alone")
        poses = stack.enter_context(Watcher(two, "/ws/coordinates?robotId=r1"))
        heard = stack.enter_context(Watcher(two, "/ws/events?robotId=r1"))
        device = stack.enter_context(Device(one.mqtt, "r1"))
        for number in range(50):
            device.pose("r1", number)
        device.say("r1", "sensor", ts=now_ms(), seq=3, pm25=12.5)
        device.say("r1", "state", ts=now_ms(), state="cleaning", battery=80)
        for number in range(20):
            device.event("r1", f"E{number}")
        poses.until("the last pose", lambda seen: seen.newest().get("r1") == 49)
        poses.never_back()
        heard.until("all events", lambda seen: len(seen.codes()) >= 20)
        kinds = Counter(message["type"] for message in heard.messages)
        assert kinds == {"sensor": 1, "state": 1, "event": 20}
        assert heard.codes() == [f"E{number}" for number in range(20)]
        three = stack.enter_context(Box(tmp_path, "three", *shared.sets))  # knows it from the keys
        until_all([three], "all robots", lambda box: box.seqs() == one.seqs())
        until_all([three], "its battery", lambda box: box.poses()["r1"]["battery"] == 80)
        assert len(one.seqs()) == 51
        for box in (one, two, three):
            box.balanced()


@pytest.mark.parametrize("how", ["black hole", "killed"] if LONG else ["black hole"])
def test_other_boxes_browsers_stay_live_while_kafka_is_away(
    request: pytest.FixtureRequest, redis_server: Redis, tmp_path: Path, how: str
) -> None:
    kafka: Kafka = request.getfixturevalue("own_kafka" if how == "killed" else "kafka")
    proxy: Proxy | None = None if how == "killed" else request.getfixturevalue("kafka_proxy")
    servers = kafka.proxied_servers if proxy else kafka.servers
    shared = Shared(servers, redis_server.url)
    with ExitStack() as stack:
        one, two = (stack.enter_context(Box(tmp_path, n, *shared.sets)) for n in ("one", "two"))
        one.ready()
        two.ready()
        measure(one, two, "by Kafka and Redis")
        here, there = (
            stack.enter_context(Watcher(box, f"/ws/coordinates?robotId={','.join(ROBOTS)}"))
            for box in (one, two)
        )
        heard = stack.enter_context(Watcher(two, EVENTS))
        drive = stack.enter_context(Drive(one, ROBOTS))
        device = stack.enter_context(Device(one.mqtt, "events"))
        for number in range(20):
            device.event("r0", f"before-{number}")
        there.until("robots move", partial(_beyond, 10))
        if proxy:
            proxy.black_hole()
        else:
            kafka.kill()
        went = time.monotonic()
        device.event("r0", "unnoticed")
        one.until("it is noticed", "/readyz", lambda answer: "stream" in _red(answer), 60)
        noticed = time.monotonic()
        for number in range(20):
            device.event("r0", f"during-{number}")
        while True:
            there.until("they go on", partial(_beyond, drive.seq + 25))
            if time.monotonic() - noticed > AWAY_S:
                break
        heard.until("events too", lambda seen: "during-19" in seen.codes())
        assert "stream" in _red(one.get("/readyz"))
        if proxy:
            proxy.pass_()
        else:
            kafka.start()
        came = time.monotonic()
        one.ready()
        two.ready()
        green = time.monotonic()
        for number in range(20):
            device.event("r0", f"after-{number}")
        newest = dict.fromkeys(ROBOTS, drive.stop())
        until_all((one, two), "the newest", lambda box: newest.items() <= box.seqs().items())
        one.balanced()
        two.balanced()
        healed = time.monotonic()
        names = [f"{when}-{n}" for when in ("before", "during", "after") for n in range(20)]
        heard.until("every event", lambda seen: set(seen.codes()) == {*names, "unnoticed"})
        assert len(heard.codes()) == 61
        for watcher in (here, there):
            watcher.until("the newest", lambda seen: seen.newest() == newest)
            watcher.never_back()
        assert newest.items() <= {k: seq for k, (_, seq, _) in shared.newest().items()}.items()
        records = read_topic(kafka.servers, shared.topic("pose"))
        repeated = repeats(
            (record for record in records if record.robot in newest),
            {robot: list(range(1, count + 1)) for robot, count in newest.items()},
        )
        note(
            f"Kafka away ({how}) for {came - went:.1f} s: noticed after {noticed - went:.1f} s,"
            f" green {green - came:.1f} s and all even {healed - came:.1f} s after it was back;"
            f" longest pause of a robot in the other box's browser"
            f" {there.pause_s(ROBOTS[0]):.2f} s, {repeated} duplicates in Kafka"
        )


def _beyond(seq: int, watcher: Watcher) -> bool:
    return _least(watcher) > seq


def _least(watcher: Watcher) -> int:
    """Return what is shown of the robot that is shown least of."""
    newest = watcher.newest()
    return min((newest.get(robot, 0) for robot in ROBOTS), default=0)


def _red(answer: dict[str, list[dict[str, object]]]) -> set[object]:
    return {part["name"] for part in answer["parts"] if not part["ok"]}
