"""The Kafka that other tests rely on does what they rely on."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

from tests.faults.proxy import Proxy
from tests.services import need
from tests.services.certificates import make_certificates
from tests.services.kafka import Kafka, KafkaLogin


@pytest.fixture(scope="module")
def login_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kafka, Path]]:
    """Return a broker with a user ``edge``, and the authority that its certificate is from."""
    need("java")
    folder = tmp_path_factory.mktemp("login")
    pem = make_certificates(folder / "pem")
    login = KafkaLogin({"edge": "secret"}, ca=pem.ca, cert=pem.cert, key=pem.key)
    with Kafka(folder / "kafka", login=login) as broker:
        broker.create_topics(["a"])
        yield broker, pem.ca


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


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_users_log_in_over_tls(login_kafka: tuple[Kafka, Path], mechanism: str) -> None:
    broker, ca = login_kafka
    settings = {
        "bootstrap.servers": broker.login_servers,
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(ca),
        "sasl.mechanism": mechanism,
        "sasl.username": "edge",
    }
    client = AdminClient({**settings, "sasl.password": "secret"})
    assert "a" in client.list_topics(timeout=30).topics
    refused: list[KafkaError] = []
    guess: dict[str, Any] = {"sasl.password": "guessed", "error_cb": refused.append}
    stranger = AdminClient({**settings, **guess})
    deadline = time.monotonic() + 30
    while KafkaError._AUTHENTICATION not in [error.code() for error in refused]:
        assert time.monotonic() < deadline, refused
        stranger.poll(0.1)


async def test_its_own_tools_run(kafka: Kafka) -> None:
    topic = f"services.{uuid.uuid4().hex}"
    kafka.create_topics([topic], partitions=2)
    await _send(kafka.servers, topic, b"hello")
    consumer = "org.apache.kafka.tools.consumer.ConsoleConsumer"
    said = await asyncio.to_thread(
        kafka.tool,
        consumer,
        *("--bootstrap-server", kafka.servers, "--topic", topic),
        *("--from-beginning", "--max-messages", "1", "--timeout-ms", "30000"),
    )
    assert said == "hello\n"
