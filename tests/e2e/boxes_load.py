"""Very many poses into boxes, and what of them a third party finds in Kafka."""

import itertools
import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from bench.packets import Run, build
from bench.publisher import Connection, drive


class Record:
    """A record of Kafka as a third party sees it."""

    def __init__(self, raw: Any) -> None:
        assert raw.error() is None, raw.error()
        self.robot: str = raw.key().decode()
        self.partition: int = raw.partition()
        self.value: bytes = raw.value()
        self.headers: dict[str, str] = {name: v.decode() for name, v in raw.headers() or ()}
        self.box = self.headers.get("box", "")


def read_topic(servers: str, topic: str) -> list[Record]:
    """Return all that is in ``topic`` now, in the order of each partition."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": uuid.uuid4().hex})
    try:
        known = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        places = [TopicPartition(topic, number, 0) for number in known]
        left = sum(consumer.get_watermark_offsets(place, timeout=30)[1] for place in places)
        consumer.assign(places)
        found: list[Record] = []
        while left > len(found):
            raw = consumer.consume(min(10_000, left - len(found)), 30)
            assert raw, f"{left - len(found)} records of {topic} do not come"
            found += map(Record, raw)
        return found
    finally:
        consumer.close()


class Load:
    """Poses of ``robots`` robots with QoS 1, each robot on a connection of its own."""

    def __init__(self, robots: int, count: int) -> None:
        each = count // robots
        self.runs: dict[str, Run] = {}
        self.seqs: dict[str, list[int]] = {}
        for number in range(robots):
            run = build(range(number, number + 1), each, qos=1, first=number * each)
            bodies = [run.data[n * run.size : (n + 1) * run.size] for n in range(each)]
            robot = f"robot-{number:04d}"
            self.runs[robot] = run
            self.seqs[robot] = [_body(data)["seq"] for data in bodies]
        self.count = each * robots

    def newest(self) -> dict[str, int]:
        return {robot: seqs[-1] for robot, seqs in self.seqs.items()}

    def publish(self, ports: Sequence[int], *, window: int = 100) -> float:
        """Publish all, the robots in turn to ``ports``; return the seconds to the last PUBACK."""
        connections = [
            Connection(port, f"load-{robot}", run, window=window, version=4)
            for (robot, run), port in zip(self.runs.items(), itertools.cycle(ports), strict=False)
        ]
        try:
            first, last = drive(connections)
        finally:
            for connection in connections:
                connection.sock.close()
        return last - first


def _body(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(data[data.index(b'{"') :])
    return found


def repeats(records: Iterable[Record], sent: dict[str, list[int]]) -> int:
    """Return how many came again. Each of ``sent`` must be there, in order but for those."""
    by_robot: dict[str, dict[int, None]] = defaultdict(dict)
    repeated = 0
    for record in records:
        seq = _body(record.value)["seq"]
        firsts = by_robot[record.robot]
        repeated += seq in firsts
        firsts.setdefault(seq)
    assert {robot: list(firsts) for robot, firsts in by_robot.items()} == sent
    return repeated
