"""From the journal to a real Kafka, over a link that breaks in every way."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from gateway.aio.supervisor import Supervisor
from gateway.config.model import JournalConfig, KafkaStream
from gateway.core.kinds import Kind
from gateway.journal.open import open_journal
from gateway.journal.port import Journal
from gateway.services.forwarder import KINDS, Forwarder
from gateway.stream.open import open_stream
from tests.faults.proxy import Proxy
from tests.services.kafka import Kafka

ROBOTS = 20
NOW = 1_790_000_000_000


@asynccontextmanager
async def forwarding(journal: Journal, config: KafkaStream) -> AsyncIterator[Forwarder]:
    def never(*what: object) -> None:
        raise AssertionError(f"nothing here is to be buried: {what}")

    async with (
        open_stream(config, site="home", box="box-1", group="unused") as stream,
        Supervisor() as tasks,
    ):
        assert stream is not None
        forwarder = Forwarder(
            journal.reader("stream", KINDS),
            stream.producer,
            bury=never,
            stats=journal.stats,
            announce=lambda *_, **__: None,
            journal=JournalConfig(),
            drain_factor=config.drain_factor,
            topics="smartair/v1/home",
        )
        tasks.spawn("forwarder", forwarder.run)
        yield forwarder
    for _, kind, line in forwarder.lines(journal.stats().committed_offset):
        assert line.unaccounted == 0, (kind, line)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - any condition, not one event
            await asyncio.sleep(0.01)


def read_all(servers: str, topic: str) -> dict[str, list[int]]:
    """Return what is in ``topic`` now: by robot the numbers in the payloads, in Kafka's order."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": uuid.uuid4().hex})
    found: dict[str, list[int]] = {}
    try:
        places = [
            TopicPartition(topic, number, 0)
            for number in consumer.list_topics(topic, timeout=30).topics[topic].partitions
        ]
        missing = sum(consumer.get_watermark_offsets(place, timeout=30)[1] for place in places)
        consumer.assign(places)
        while missing > 0:
            records = consumer.consume(missing, 30)
            assert records, f"{missing} records do not come"
            for record in records:
                assert record.error() is None, record.error()
                key, value = record.key(), record.value()
                assert key is not None
                assert value is not None
                found.setdefault(key.decode(), []).append(int(value[5:-1]))
            missing -= len(records)
    finally:
        consumer.close()
    return found


async def test_every_record_arrives_in_order_whatever_the_link_does(
    kafka: Kafka, kafka_proxy: Proxy, tmp_path: Path
) -> None:
    config = KafkaStream(
        servers=kafka.proxied_servers,
        prefix=f"t{uuid.uuid4().hex[:12]}",
        partitions=3,
        timeout_s=1.0,
        consume=False,
    )
    sent = 0

    def put(journal: Journal, count: int) -> None:
        """Append ``count`` poses of every robot, the numbers of each without a gap."""
        nonlocal sent
        for number in range(sent, sent + count):
            entries = [
                (Kind.POSE, f"r{robot}", NOW, b'{"n":%d}' % number) for robot in range(ROBOTS)
            ]
            journal.append(entries, time.time_ns() // 1_000_000, lambda: None)
        sent += count

    async with open_journal(JournalConfig(), tmp_path) as journal:
        async with forwarding(journal, config) as forwarder:
            put(journal, 20)
            await until(lambda: forwarder.committed == sent * ROBOTS)
            for fault in (kafka_proxy.reset, kafka_proxy.cut, kafka_proxy.reset):
                fault()
                put(journal, 30)
                await until(lambda: forwarder.committed == sent * ROBOTS)
            before = sent * ROBOTS
            kafka_proxy.black_hole()
            put(journal, 50)
            await until(lambda: forwarder.failing and forwarder.gaps)
            assert forwarder.gaps[-1].drained is None
            assert forwarder.behind
            assert not forwarder.status()[0]
            assert forwarder.committed == before
            put(journal, 20)
        # A stop during the outage, and a start during the outage.
        async with forwarding(journal, config) as forwarder:
            assert (forwarder.committed, forwarder.behind) == (before, True)
            put(journal, 20)
            kafka_proxy.pass_()
            await until(lambda: forwarder.committed == sent * ROBOTS)
            await until(lambda: not forwarder.behind)
            assert forwarder.status()[0]
    found = await asyncio.to_thread(read_all, kafka.servers, f"{config.prefix}.pose")
    assert sorted(found) == sorted(f"r{robot}" for robot in range(ROBOTS))
    for robot, numbers in found.items():
        assert list(dict.fromkeys(numbers)) == list(range(sent)), robot
