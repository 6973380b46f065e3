"""The Kafka that other tests rely on does what they rely on."""

import asyncio
import uuid

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.faults.proxy import Proxy
from tests.services.kafka import Kafka


async def _send(servers: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        await producer.send_and_wait(topic, value)


async def _first(servers: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest")
    async with consumer, asyncio.timeout(30):
        return [(await consumer.getone()).value for _ in range(count)]


async def test_the_shared_broker_keeps_what_it_is_sent(kafka: Kafka) -> None:
    topic = f"services.{uuid.uuid4().hex}"
    kafka.create_topics([topic])
    await _send(kafka.servers, topic, b"1")
    assert await _first(kafka.servers, topic, 1) == [b"1"]


async def test_a_proxy_stays_between_it_and_its_clients(kafka: Kafka, kafka_proxy: Proxy) -> None:
    topic = f"services.{uuid.uuid4().hex}"
    kafka.create_topics([topic])
    await _send(kafka.proxied_servers, topic, b"1")
    before = kafka_proxy.counts.up
    async with AIOKafkaProducer(bootstrap_servers=kafka.proxied_servers, acks="all") as producer:
        await producer.send_and_wait(topic, b"2")
        kafka_proxy.hold()
        acknowledged = await producer.send(topic, b"3")
        done, _ = await asyncio.wait([acknowledged], timeout=0.5)
        assert not done
        kafka_proxy.pass_()
        async with asyncio.timeout(30):
            await acknowledged
    assert kafka_proxy.counts.up > before
    assert await _first(kafka.servers, topic, 3) == [b"1", b"2", b"3"]


async def test_what_was_acknowledged_survives_a_kill_and_a_freeze(own_kafka: Kafka) -> None:
    own_kafka.create_topics(["a"])
    async with AIOKafkaProducer(bootstrap_servers=own_kafka.servers, acks="all") as producer:
        await producer.send_and_wait("a", b"1")
        own_kafka.freeze()
        acknowledged = await producer.send("a", b"2")
        done, _ = await asyncio.wait([acknowledged], timeout=0.5)
        assert not done
        own_kafka.thaw()
        async with asyncio.timeout(30):
            await acknowledged
    servers = own_kafka.servers
    own_kafka.kill()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", own_kafka.port)
    await asyncio.to_thread(own_kafka.start)
    assert own_kafka.servers == servers
    assert await _first(servers, "a", 2) == [b"1", b"2"]
