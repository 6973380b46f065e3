"""What the tests of the consumer share: a third party's producer, and a reader."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from gateway.aio.supervisor import Supervisor
from gateway.config.model import KafkaStream
from gateway.stream.kafka.consumer import KafkaConsumer
from gateway.stream.kafka.security import Security
from gateway.stream.port import Arrived
from tests.services.kafka import Kafka

PATIENCE_S: Final = 60.0
LABELS: Final = ("pose", "sensor", "state", "event", "canary", "dead-letter")
PARTITIONS: Final = 3


class Put(NamedTuple):
    """A record to put into the stream; its key is ``robot``."""

    label: str
    robot: str | bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, str | bytes | None]] = ()
    ms: int = 0  # its time; 0: now


def config(servers: str, **settings: Any) -> KafkaStream:
    """Return [stream] with a prefix of its own."""
    defaults = {"prefix": f"c{uuid.uuid4().hex[:12]}", "timeout_s": 5.0}
    return KafkaStream(servers=servers, **{**defaults, **settings})


async def topics(
    broker: Kafka, made: KafkaStream, labels: Iterable[str] = LABELS, partitions: int = PARTITIONS
) -> None:
    """Make the topics."""
    names = [f"{made.prefix}.{label}" for label in labels]
    await asyncio.to_thread(broker.create_topics, names, partitions=partitions)


async def put(broker: Kafka, made: KafkaStream, records: Iterable[Put], codec: str = "lz4") -> None:
    """Put ``records`` into the stream as a third party does, past any proxy; acknowledged."""
    await asyncio.to_thread(_put, broker.servers, made.prefix, list(records), codec)


def _put(servers: str, prefix: str, records: Sequence[Put], codec: str) -> None:
    failures: list[Any] = []
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "compression.type": codec,
            "enable.idempotence": True,
            "linger.ms": 5,
            "log_level": 0,
        }
    )
    for label, robot, value, headers, ms in records:
        producer.produce(
            f"{prefix}.{label}",
            key=robot,
            value=value,
            headers=list(headers),
            timestamp=ms,
            on_delivery=lambda error, _: failures.append(error) if error else None,
        )
        producer.poll(0)
    left = producer.flush(PATIENCE_S)
    assert not left, f"{left} records were not acknowledged"
    assert not failures, failures


def poses(count: int, *, start: int = 0, robots: int = 7) -> list[Put]:
    """Return poses numbered from ``start``, as our producer writes them."""
    now = str(time.time_ns() // 1_000_000)
    headers = (("site", "home"), ("rts", now), ("box", "a"), ("seq", "1"))
    return [
        Put("pose", f"r{number % robots}", b"%d" % number, headers)
        for number in range(start, start + count)
    ]


@asynccontextmanager
async def reading(made: KafkaStream, *, group: str = "", box: str = "a") -> AsyncIterator["Reader"]:
    """Keep a consumer open; ``group`` "": one of the prefix alone."""
    group = group or made.prefix
    async with KafkaConsumer(made, Security(made), group=group, box=box) as consumer:
        yield Reader(consumer)


class Reader:
    """Reads and remembers."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self.consumer = consumer
        self.records: list[Arrived] = []

    @property
    def values(self) -> list[int]:
        """The numbers of ``poses`` that came, in the order in which they came."""
        return [int(each.payload) for each in self.records]

    async def until(self, done: Callable[["Reader"], bool], *, commit: bool = True) -> "Reader":
        """Read until ``done``."""
        async with asyncio.timeout(PATIENCE_S):
            while not done(self):
                self.records += await self.consumer.read()
                if commit:
                    await self.consumer.commit()
        return self

    async def run(self) -> None:
        """Read and commit for ever."""
        while True:
            self.records += await self.consumer.read()
            await self.consumer.commit()

    async def has(self, numbers: Iterable[int], *, commit: bool = True) -> "Reader":
        """Read until every one of ``numbers`` came."""
        wanted = set(numbers)
        return await self.until(lambda reader: wanted <= set(reader.values), commit=commit)

    @property
    def partitions_now(self) -> float:
        """How many partitions are ours."""
        return self.consumer.figures()["consumer_partitions"]

    async def partitions(self, count: int) -> None:
        """Wait until so many partitions are ours."""
        await until(lambda: self.partitions_now == count)


@asynccontextmanager
async def reader_tasks(*readers: Reader) -> AsyncIterator[None]:
    """Have ``readers`` read and commit while the block lasts."""
    async with Supervisor() as tasks:
        for reader in readers:
            tasks.spawn("reader", reader.run)
        yield


async def until(true: Callable[[], bool]) -> None:
    """Wait until ``true``."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - nobody says when it changes
            await asyncio.sleep(0.02)


async def committed(broker: Kafka, made: KafkaStream) -> int:
    """Return how many records of the group's share are committed, by what the broker says."""
    return await asyncio.to_thread(_committed, broker.servers, made.prefix)


def _committed(servers: str, prefix: str) -> int:
    client = AdminClient({"bootstrap.servers": servers})
    asked = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(prefix)])
    found: Sequence[TopicPartition] = asked[prefix].result(PATIENCE_S).topic_partitions
    return sum(max(0, each.offset) for each in found if each.topic.startswith(f"{prefix}."))


def in_order(records: Iterable[Arrived]) -> bool:
    """Return whether no robot's numbers ever go back, each counted once."""
    last: dict[str, int] = {}
    for each in dict.fromkeys((each.robot, int(each.payload)) for each in records):
        robot, number = each
        if number <= last.get(robot, -1):
            return False
        last[robot] = number
    return True
