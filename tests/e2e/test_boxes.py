"""100,000 messages through two gateways: every one in Kafka, the newest everywhere, ledger 0.

With EDGE_LONG=1 all 100,000; else fewer, to take seconds.
"""

import json
import os
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.boxes import Box, Device, Shared, Watcher, note, until, until_all
from tests.e2e.boxes_load import Load, read_topic, repeats
from tests.services import need
from tests.services.kafka import Kafka
from tests.services.mosquitto import Mosquitto
from tests.services.redis import Redis

LONG = os.environ.get("EDGE_LONG") == "1"
ROBOTS = 200


def settle(boxes: list[Box], shared: Shared, load: Load, watchers: list[Watcher]) -> None:
    """See that all of ``load`` is where it has to be but Kafka."""
    newest = load.newest()
    until_all(boxes, "the newest of every robot", lambda box: box.seqs() == newest)
    for box in boxes:
        box.balanced()
        assert box.lines("mqtt")["pose"]["dropped"] == {}
    stored = shared.newest()
    assert {robot: seq for robot, (_, seq, _) in stored.items()} == newest
    assert {robot: body["seq"] for robot, (_, _, body) in stored.items()} == newest
    for watcher in watchers:
        watcher.until("the newest", lambda seen: seen.newest() == newest)
        watcher.never_back()


def test_each_on_its_own_bus(kafka: Kafka, redis_server: Redis, tmp_path: Path) -> None:
    load = Load(ROBOTS, 100_000 if LONG else 20_000)
    shared = Shared(kafka.servers, redis_server.url)
    with ExitStack() as stack:
        boxes = [stack.enter_context(Box(tmp_path, n, *shared.sets)) for n in ("one", "two")]
        for box in boxes:
            box.ready()
        watchers = [stack.enter_context(Watcher(box, "/ws/coordinates")) for box in boxes]
        began = time.monotonic()
        seconds = load.publish([box.mqtt for box in boxes])
        settle(boxes, shared, load, watchers)
        settled = time.monotonic() - began
        records = read_topic(kafka.servers, shared.topic("pose"))
        repeated = repeats(records, load.seqs)
        by_box = Counter(record.box for record in records)
        assert set(by_box) == {"one", "two"}
        note(
            f"{load.count} messages of {ROBOTS} robots, two boxes: acknowledged in {seconds:.1f} s,"
            f" everywhere after {settled:.1f} s, in Kafka {len(records)} ({dict(by_box)}),"
            f" {repeated} duplicates"
        )


def test_both_as_clients_of_one_broker(
    mosquitto: Mosquitto, kafka: Kafka, redis_server: Redis, tmp_path: Path
) -> None:
    """One site, client ids as they are by default: each takes in everything, and shows it once."""
    load = Load(ROBOTS, 100_000 if LONG else 5_000)
    bus = ("bus.backend=mqtt", f"bus.url={mosquitto.url}")
    shared = Shared(kafka.servers, redis_server.url, *bus)
    with ExitStack() as stack:
        boxes = [stack.enter_context(Box(tmp_path, n, *shared.sets)) for n in ("one", "two")]
        for box in boxes:
            box.ready()
        watchers = [stack.enter_context(Watcher(box, "/ws/coordinates")) for box in boxes]
        began = time.monotonic()
        seconds = load.publish([mosquitto.port])
        until_all(boxes, "all came", lambda box: box.taken("pose") >= load.count)
        settle(boxes, shared, load, watchers)
        settled = time.monotonic() - began
        records = read_topic(kafka.servers, shared.topic("pose"))
        repeated = {
            box.name: repeats((r for r in records if r.box == box.name), load.seqs) for box in boxes
        }
        note(
            f"{load.count} messages of {ROBOTS} robots, two clients of one broker: acknowledged in"
            f" {seconds:.1f} s, everywhere after {settled:.1f} s, in Kafka {len(records)},"
            f" duplicates by box {repeated}"
        )
        until("births", lambda: _statuses(mosquitto, 2) == {"one": "online", "two": "online"})
        _events_once(stack, mosquitto, boxes)
        boxes[0].kill()
        until("its will", lambda: _statuses(mosquitto, 2) == {"one": "offline", "two": "online"})
        for box in boxes:  # neither threw the other out
            taken_over = f"edge-gateway-home-{box.name} already connected"
            assert not [line for line in mosquitto.output if taken_over in line]


def _statuses(mosquitto: Mosquitto, count: int) -> dict[str, str]:
    """Return what stands at the broker of each box."""
    asked = subprocess.run(
        [
            *(str(need("mosquitto_sub")), "-p", str(mosquitto.port), "-C", str(count), "-W", "30"),
            *("-v", "-t", "smartair/v1-gateway/home/+/status"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = [line.split(" ", 1) for line in asked.stdout.splitlines()]
    return {topic.split("/")[-2]: json.loads(said)["state"] for topic, said in lines}


def _events_once(stack: ExitStack, mosquitto: Mosquitto, boxes: list[Box]) -> None:
    listeners = [stack.enter_context(Watcher(box, "/ws/events?types=event")) for box in boxes]
    codes = [f"E{number}" for number in range(20)]
    device = stack.enter_context(Device(mosquitto.port, "device"))
    for code in codes:
        device.event("r1", code)
    until_all(boxes, "all came by the bus", lambda box: box.lines("once")["event"]["in"] == 20)
    until_all(boxes, "and by Redis, or the other way round", lambda box: _repeated(box) == 20)
    for box in boxes:
        box.balanced()
    for listener in listeners:
        listener.until("all are shown", lambda seen: len(seen.codes()) >= 20)
        assert sorted(listener.codes()) == sorted(codes)


def _repeated(box: Box) -> int:
    """Return how many events the box had shown already when it met them."""
    lines = [box.lines("relay")["all"], box.lines("once")["event"]]
    return sum(int(line["dropped"].get("repeated", 0)) for line in lines)
