"""kill -9 in the middle: every acknowledged message is in the journal and in the history."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from tests.e2e.process import GatewayProcess
from tests.e2e.publisher import Publisher
from tests.services.mosquitto import Mosquitto

KILLS = 20


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path) as process:
        yield process


def survive(gateway: GatewayProcess, publisher: Publisher, rng: random.Random) -> None:
    """Kill and restart KILLS times under load, then compare PUBACKs with the history."""
    with publisher:
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.1, 0.6))  # the kill falls anywhere in the commit cycle
            gateway.kill()
            gateway.start()
        time.sleep(0.3)
        publisher.pause()
        publisher.drained(timeout_s=60)
    ledger = gateway.settled()
    assert ledger["unaccounted"] == 0
    assert publisher.failures == []
    stored = [row["seq"] for row in gateway.history(publisher.robot)]
    assert len(stored) == len(set(stored)), "a redelivered reading became a second row"
    assert publisher.acknowledged - set(stored) == set()
    assert len(publisher.acknowledged) > KILLS * 20


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "protocol", [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5], ids=["3.1.1", "5"]
)
def test_embedded(gateway: GatewayProcess, protocol: MQTTProtocolVersion) -> None:
    publisher = Publisher(gateway.mqtt, robot="r1", protocol=protocol)
    survive(gateway, publisher, random.Random(protocol))
    assert gateway.stop() < 3


@pytest.mark.timeout(180)
def test_behind_mosquitto(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """The broker acknowledges the robot; the gateway acknowledges the broker."""
    with GatewayProcess(tmp_path, "bus.backend=mqtt", f"bus.url={mosquitto.url}") as gateway:
        gateway.until("a connection", "/readyz", lambda answer: answer["ready"])
        survive(gateway, Publisher(mosquitto.port, robot="r1"), random.Random(7))
