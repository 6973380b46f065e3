"""Third parties beside two boxes: they read our topics, and write into them."""

import base64
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.e2e.boxes import Box, Device, Shared, Watcher, now_ms, until, until_all
from tests.e2e.boxes_load import read_topic
from tests.services.kafka import Kafka
from tests.services.redis import Redis

CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
ROBOTS = [f"robot-{number}" for number in range(40)]


class Pair:
    """Two boxes on buses of their own."""

    def __init__(self, kafka: Kafka, shared: Shared, boxes: list[Box]) -> None:
        self.kafka = kafka
        self.shared = shared
        self.boxes = boxes

    def show(self, robot: str, seq: int) -> None:
        """Wait until both show this pose."""
        until_all(self.boxes, f"{robot} at {seq}", lambda box: box.seqs().get(robot) == seq)


@pytest.fixture(scope="module")
def pair(
    kafka: Kafka, redis_server: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    shared = Shared(kafka.servers, redis_server.url)
    folder = tmp_path_factory.mktemp("third")
    with Box(folder, "one", *shared.sets) as one, Box(folder, "two", *shared.sets) as two:
        one.ready()
        two.ready()
        yield Pair(kafka, shared, [one, two])
        one.balanced()
        two.balanced()


def pose(seq: int, ts: int) -> bytes:
    return json.dumps({"ts": ts, "seq": seq, "x": 1.5, "y": 2}).encode()


def test_third_parties_read_the_topics(pair: Pair) -> None:
    """librdkafka and Kafka's own: key, headers, payload; partitions as the Java client has them."""
    topic = pair.shared.topic("pose")
    sent = {robot: pose(number, now_ms()) for number, robot in enumerate(ROBOTS)}
    for box, robots in zip(pair.boxes, (ROBOTS[::2], ROBOTS[1::2]), strict=True):
        with Device(box.mqtt, "fleet") as device:
            for robot in robots:
                device.say(robot, "pose", **json.loads(sent[robot]))
    for number, robot in enumerate(ROBOTS):
        pair.show(robot, number)
    records = read_topic(pair.kafka.servers, topic)
    assert len(records) == len(ROBOTS)
    for record in records:
        body = json.loads(record.value)
        assert body == json.loads(sent[record.robot])
        first = "one" if record.robot in ROBOTS[::2] else "two"
        rts = int(record.headers.pop("rts"))
        assert body["ts"] <= rts <= now_ms()
        assert record.headers == {"site": "home", "box": first, "seq": str(body["seq"])}
    shown = _console(pair.kafka, topic, len(ROBOTS))
    assert {(key, number) for number, _, key, _ in shown} == {
        (record.robot, record.partition) for record in records
    }
    by_key = {key: (headers, value) for _, headers, key, value in shown}
    for robot, value in sent.items():
        headers, said = by_key[robot]
        assert json.loads(said) == json.loads(value)
        assert headers.startswith("site:home,box:")

    java = {robot: pose(1_000 + number, now_ms()) for number, robot in enumerate(ROBOTS)}
    lines = "".join(f"{robot}\t{value.decode()}\n" for robot, value in java.items())
    pair.kafka.tool(
        PRODUCER, "--bootstrap-server", pair.kafka.servers, "--topic", topic,
        "--property", "parse.key=true", stdin=lines,
    )  # fmt: skip
    for number, robot in enumerate(ROBOTS):
        pair.show(robot, 1_000 + number)
    chosen = defaultdict(set)
    for record in read_topic(pair.kafka.servers, topic):
        chosen[record.robot].add(record.partition)
    assert all(len(partitions) == 1 for partitions in chosen.values())
    assert len(set.union(*chosen.values())) > 1


def _console(kafka: Kafka, topic: str, count: int) -> list[tuple[int, str, str, str]]:
    """Return (partition, headers, key, value) as Kafka's console consumer shows them."""
    shown = kafka.tool(
        CONSUMER, "--bootstrap-server", kafka.servers, "--topic", topic, "--from-beginning",
        "--max-messages", str(count), "--timeout-ms", "30000",
        "--property", "print.key=true", "--property", "print.headers=true",
        "--property", "print.partition=true",
    )  # fmt: skip
    found = []
    for line in shown.splitlines():
        if line.startswith("Partition:"):
            partition, headers, key, value = line.split("\t")
            found.append((int(partition.removeprefix("Partition:")), headers, key, value))
    return found


class Other:
    """A third party's producer: no headers, its own choice of partition and time."""

    def __init__(self, pair: Pair) -> None:
        self._producer = Producer({"bootstrap.servers": pair.kafka.servers})
        self._topic = pair.shared.topic("pose")
        self._acks = threading.Semaphore(0)

    def put(self, key: str | None, value: bytes | None, **more: Any) -> None:
        """Return when Kafka has it."""
        failed: list[Any] = []
        self._producer.produce(
            self._topic, value, key, on_delivery=lambda error, _: failed.append(error), **more
        )
        assert self._producer.flush(30) == 0
        assert failed == [None]


def test_a_third_party_s_records_are_shown_and_old_ones_are_not(pair: Pair) -> None:
    other = Other(pair)
    now = now_ms()
    with (
        Watcher(pair.boxes[0], "/ws/coordinates?robotId=stray") as one,
        Watcher(pair.boxes[1], "/ws/coordinates?robotId=stray") as two,
    ):
        other.put("stray", pose(7, now), partition=2, timestamp=now)
        pair.show("stray", 7)
        other.put("stray", pose(6, now - 5_000), partition=2, timestamp=now + 1)  # a late copy
        other.put("stray", pose(5, now - 60_000), partition=2, timestamp=now - 60_000)
        other.put("marker", pose(1, now), partition=2, timestamp=now)  # read behind those
        pair.show("marker", 1)
        pair.show("stray", 7)
        # and by a box: the robot's own older message, sent again by a device
        with Device(pair.boxes[1].mqtt, "stray") as device:
            device.pose("stray", 4, ts=now - 5_000)
            device.pose("stray", 8, ts=now + 5)
        pair.show("stray", 8)
        for watcher in (one, two):
            watcher.never_back()
            assert {each["seq"] for each in watcher.poses()} == {7, 8}
    ts, seq, body = pair.shared.newest()["stray"]
    assert (ts, seq, body["seq"]) == (now + 5, 8, 8)


def test_poison_goes_to_the_dead_letters_and_stalls_nothing(pair: Pair) -> None:
    other = Other(pair)
    now = now_ms()
    poison: list[tuple[str | None, bytes | None, str]] = [
        ("p1", b"\xff\x00 no JSON", "NOT_JSON"),
        ("p1", b'{"x": "far", "y": 0}', "INVALID"),
        ("p1", None, "NOT_JSON"),  # a tombstone
        ("a/b", pose(1, now), "BAD_ROBOT_ID"),
        (None, pose(1, now), "BAD_ROBOT_ID"),
        ("p1", b'{"z":' + b"[" * 60_000, "NOT_JSON"),
        ("p1", b" " * 70_000, "TOO_LARGE"),
    ]
    for number in range(6):
        for key, value, _ in poison:
            other.put(key, value, partition=number)
        other.put(f"behind-{number}", pose(1, now), partition=number)
    for number in range(6):
        pair.show(f"behind-{number}", 1)
    found: dict[str, int] = defaultdict(int)
    for box in pair.boxes:
        box.balanced()
        page = box.get("/api/admin/dead-letters?limit=1000")
        assert page["total"] == len(page["items"])
        for item in page["items"]:
            assert item["topic"].startswith(f"{pair.shared.topic('pose')}["), item
            base64.b64decode(item["payload"], validate=True)
            found[item["reason"]] += 1
    expected: dict[str, int] = defaultdict(int)
    for _, _, reason in poison:
        expected[reason] += 6
    assert found == expected
    until(
        "the dead letters are in Kafka as well",
        lambda: len(read_topic(pair.kafka.servers, pair.shared.topic("dead-letter"))) == 42,
    )
