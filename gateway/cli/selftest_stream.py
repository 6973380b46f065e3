"""What a selftest's messages became in Kafka: read back from the topics, as anybody could.

A consumer of its own and no group: nothing is committed, and the gateway's consumers notice
nothing. This is the one module of the command line that knows Kafka's driver.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from gateway.config.model import KafkaStream
from gateway.core.errors import Unavailable
from gateway.core.kinds import Kind
from gateway.stream.kafka.security import DEPENDENCY, Security
from gateway.stream.kafka.topics import topic_of

_KINDS: Final = (Kind.POSE, Kind.SENSOR)
_POLL_MS: Final = 300


class _Numbered(msgspec.Struct):
    seq: int


_decode: Final = msgspec.json.Decoder(_Numbered).decode


@dataclass(slots=True)
class Carried:
    """Messages of one robot and kind, as far as they were read back."""

    seqs: set[int] = field(default_factory=set)
    newest: int = 0
    duplicates: int = 0
    disordered: int = 0  # came for the first time after a later one


class Stream:
    """Reads the topics from the moment at which it was opened."""

    def __init__(self, consumer: Any, robots: Mapping[str, object]) -> None:
        self.carried = {(kind, robot): Carried() for kind in _KINDS for robot in robots}
        self._consumer = consumer
        self._kinds: dict[str, Kind] = {}

    async def begin(self, prefix: str) -> None:
        """Note where the topics end now. Raises Unavailable."""
        consumer = self._consumer
        self._kinds = {topic_of(prefix, kind): kind for kind in _KINDS}
        consumer.subscribe(list(self._kinds))
        try:
            await consumer.start()
            await consumer.seek_to_end()
            for place in consumer.assignment():
                await consumer.position(place)  # asks where that is, or it would be told later
        except KafkaError as exc:
            raise Unavailable(f"Kafka does not answer: {exc}", dependency=DEPENDENCY) from exc

    async def read(self) -> None:
        """Take all that came meanwhile; waits a little for something. Raises Unavailable."""
        while found := await self._some():
            self._take(found)

    async def _some(self) -> Mapping[TopicPartition, Sequence[Any]]:
        try:
            found: Mapping[TopicPartition, Sequence[Any]] = await self._consumer.getmany(
                timeout_ms=_POLL_MS, max_records=5_000
            )
        except KafkaError as exc:
            raise Unavailable(f"Kafka does not answer: {exc}", dependency=DEPENDENCY) from exc
        return found

    def _take(self, found: Mapping[TopicPartition, Sequence[Any]]) -> None:
        for place, records in found.items():
            kind = self._kinds[place.topic]
            for record in records:
                carried = self.carried.get((kind, (record.key or b"").decode("utf-8", "replace")))
                if carried is not None:
                    _note(carried, _decode(record.value).seq)


def _note(carried: Carried, seq: int) -> None:
    if seq in carried.seqs:
        carried.duplicates += 1
        return
    carried.seqs.add(seq)
    if seq < carried.newest:
        carried.disordered += 1
    carried.newest = max(carried.newest, seq)


@asynccontextmanager
async def open_stream(config: KafkaStream, robots: Mapping[str, object]) -> AsyncIterator[Stream]:
    """Read ``robots`` from Kafka for the length of the block.

    Raises:
        Unavailable: it does not answer now, when nothing is cut yet.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=[server.strip() for server in config.servers.split(",")],
        group_id=None,
        enable_auto_commit=False,
        request_timeout_ms=round(config.timeout_s * 1000),
        **await Security(config).arguments(),
    )
    stream = Stream(consumer, robots)
    try:
        await stream.begin(config.prefix)
        yield stream
    finally:
        await consumer.stop()
