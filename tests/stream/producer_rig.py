"""What the tests of the producer share: messages, and a third party's consumer."""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from gateway.config.model import KafkaStream
from gateway.core.errors import Unavailable
from gateway.core.kinds import Kind
from gateway.stream.port import Message

SITE: Final = "home"
BOX: Final = "box-1"
PATIENCE_S: Final = 40.0
RTS: Final = time.time_ns() // 1_000_000
"""About now: Kafka deletes what is older than its retention."""


def config(servers: str, **settings: Any) -> KafkaStream:
    """Return [stream] with topics of its own and short timeouts."""
    prefix = f"t{uuid.uuid4().hex[:12]}"
    defaults = {"prefix": prefix, "consume": False, "partitions": 3, "timeout_s": 3.0}
    return KafkaStream(servers=servers, **{**defaults, **settings})


def message(
    offset: int, robot: str = "r1", kind: int = Kind.POSE, payload: bytes | None = None
) -> Message:
    """Return a message with ``seq`` = its offset."""
    body = json.dumps({"ts": 1, "seq": offset, "x": 1.5}).encode() if payload is None else payload
    return (offset, kind, robot, 1, RTS + offset, body)


class Record:
    """A record as confluent-kafka shows it."""

    def __init__(self, raw: Any) -> None:
        self.topic: str = raw.topic()
        self.partition: int = raw.partition()
        self.offset: int = raw.offset()
        self.key: bytes = raw.key()
        self.value: bytes = raw.value()
        self.time: tuple[int, int] = raw.timestamp()
        self.headers: dict[str, str] = {
            name: value.decode("ascii") for name, value in raw.headers() or ()
        }

    @property
    def seq(self) -> int:
        """The payload's number."""
        return int(self.headers["seq"])


def _read(servers: str, topic: str, count: int) -> list[Record]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": uuid.uuid4().hex,
                         "enable.auto.commit": False, "fetch.wait.max.ms": 50})  # fmt: skip
    try:
        known = consumer.list_topics(topic, timeout=PATIENCE_S).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in known])
        records: list[Record] = []
        until = time.monotonic() + PATIENCE_S
        while len(records) < count and time.monotonic() < until:
            for raw in consumer.consume(1000, 0.2):
                assert raw.error() is None, raw.error()
                records.append(Record(raw))
        for raw in consumer.consume(1000, 0.3):  # and nothing more
            assert raw.error() is None, raw.error()
            records.append(Record(raw))
        return records
    finally:
        consumer.close()


async def read(servers: str, topic: str, count: int) -> list[Record]:
    """Return what is in a topic, once there are ``count`` records, ordered per partition."""
    return await asyncio.to_thread(_read, servers, topic, count)


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for a condition."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


async def insist(send: Callable[[], Awaitable[Any]]) -> Any:
    """Do as the forwarder does: the same again until it is taken."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await send()
            except Unavailable:
                await asyncio.sleep(0.05)
