"""Messages read back from a real Kafka."""

import json
import secrets
import time

from aiokafka import AIOKafkaProducer

from gateway.cli.selftest_load import Robot, Sent
from gateway.cli.selftest_proof import in_stream
from gateway.cli.selftest_stream import open_stream
from gateway.config.model import KafkaStream
from gateway.core.kinds import LABEL, Kind
from tests.services.kafka import Kafka


def robot(name: str, count: int) -> Robot:
    """Return a robot all of whose messages were acknowledged: poses and readings in turn."""
    made = Robot(name)
    for n in range(count):
        kind = Kind.SENSOR if n % 2 else Kind.POSE
        made.sent.append(Sent(kind, n + 1, 0.0, b"{}", acked_s=1.0))
    return made


async def test_everything_is_read_back_and_nothing_from_before(kafka: Kafka) -> None:
    prefix = f"selftest-{secrets.token_hex(6)}"
    topics = [f"{prefix}.{LABEL[kind]}" for kind in (Kind.POSE, Kind.SENSOR)]
    kafka.create_topics(topics, partitions=3)
    config = KafkaStream(servers=kafka.servers, prefix=prefix)
    a, b = robot("a", 40), robot("b", 6)

    producer = AIOKafkaProducer(bootstrap_servers=kafka.servers, acks="all")
    await producer.start()
    try:

        async def send(robot: str, seq: int) -> None:
            kind = Kind.POSE if seq % 2 else Kind.SENSOR
            value = json.dumps({"seq": seq}).encode()
            await producer.send_and_wait(f"{prefix}.{LABEL[kind]}", value, key=robot.encode())

        await send("a", 1)  # before anybody looked: not of this run
        async with open_stream(config, {"a": a, "b": b}) as stream:
            for seq in range(1, 41):
                await send("a", seq)
            for seq in (3, 4, 4):
                await send("a", seq)  # again, as after an acknowledgement that was lost
            await send("stranger", 1)
            for seq in (1, 2, 6, 4, 5):
                await send("b", seq)
            proof = await in_stream(stream, [a], time.monotonic() + 30)
            assert (proof.expected, proof.missing) == (40, 0)
            proof = await in_stream(stream, [a, b], time.monotonic())
            assert (proof.expected, proof.missing) == (46, 1)  # b's third
            assert (proof.duplicates, proof.disordered) == (3, 1)
            assert not proof.holds
    finally:
        await producer.stop()
