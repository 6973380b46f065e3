"""Simulated robots against a real broker and against the gateway's own MQTT server."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest

from gateway.bus.open import address, open_bus
from gateway.bus.port import Batch
from gateway.cli.fleet import Fleet
from gateway.cli.target import Plan, Target
from gateway.config.model import Config, EmbeddedBus, MqttBus
from gateway.core.kinds import Kind
from gateway.core.payloads import CommandAck, Connection, Event, Pose, Sensor, State
from gateway.core.topics import parse
from tests.cli.command import Running, run
from tests.services.mosquitto import Mosquitto

TYPES: dict[Kind, type[msgspec.Struct]] = {
    Kind.POSE: Pose,
    Kind.SENSOR: Sensor,
    Kind.STATE: State,
    Kind.EVENT: Event,
    Kind.CONNECTION: Connection,
    Kind.ACK: CommandAck,
}


COMMANDS = (
    b"no json",
    b"{}",
    b'{"id": "c1", "cmd": "set_fan", "args": {"level": 4}}',
    b'{"id": "c2", "cmd": "fly"}',
    b'{"id": "c3", "cmd": "dock", "exp": 1}',
)


def target(port: int) -> Target:
    return Target.of(Config(), host="127.0.0.1", port=port)


class Collector:
    """A sink that checks every message as the ingest does, and acknowledges it."""

    def __init__(self) -> None:
        self.messages: list[tuple[Kind, str, Any]] = []
        self.bell = asyncio.Event()

    def take(self, batch: Batch) -> None:
        for topic, payload in batch.items:
            route = parse(topic, prefix="smartair/v1", site="home")
            assert route.kind is not None, topic
            body = msgspec.json.decode(payload, type=TYPES[route.kind])
            self.messages.append((route.kind, route.robot, body))
        batch.acknowledge()
        self.bell.set()

    def of(self, kind: Kind, robot: str) -> list[Any]:
        return [body for k, r, body in self.messages if (k, r) == (kind, robot)]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.messages) < count:
                self.bell.clear()
                await self.bell.wait()


@asynccontextmanager
async def driving(fleet: Fleet) -> AsyncIterator[None]:
    """Run ``fleet`` inside the block, and let it say goodbye at its end."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(fleet.run(stop))
        try:
            yield
        finally:
            stop.set()


@pytest.mark.parametrize(("qos", "connections"), [(0, 3), (1, 3), (1, 1), (2, 2)])
async def test_what_it_says_is_what_the_gateway_takes(qos: int, connections: int) -> None:
    sink = Collector()
    async with open_bus(EmbeddedBus(port=0), sink, site="home") as bus:
        port = int(address(bus).rpartition(":")[2])
        fleet = Fleet(target(port), Plan(robots=3, hz=50, qos=qos, connections=connections))
        async with driving(fleet):
            await sink.until(120)
    assert fleet.tally.trouble == ""
    assert fleet.tally.certain == fleet.tally.acknowledged > 0
    assert fleet.tally.connects == connections
    assert len(sink.messages) == fleet.tally.sent
    for robot in ("sim-001", "sim-002", "sim-003"):
        poses = sink.of(Kind.POSE, robot)
        assert len(poses) >= 10
        seqs = [body.seq for body in poses]
        assert seqs == sorted(set(seqs))
        assert sink.of(Kind.SENSOR, robot)
        assert sink.of(Kind.STATE, robot)
        assert [c.state for c in sink.of(Kind.CONNECTION, robot)] == ["online", "offline"]


async def test_commands_are_answered(mosquitto: Mosquitto) -> None:
    fleet = Fleet(target(mosquitto.port), Plan(robots=2, hz=20))
    base = "smartair/v1/home/sim-002"
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
        await client.subscribe(f"{base}/#", qos=1)
        async with driving(fleet), asyncio.timeout(20):
            answers: dict[str, dict[str, Any]] = {}
            async for message in client.messages:
                tail = message.topic.value.removeprefix(f"{base}/")
                if tail == "cmd":
                    continue
                assert isinstance(message.payload, bytes)
                body = json.loads(message.payload)
                if tail == "connection" and body["state"] == "online":
                    for command in COMMANDS:
                        await client.publish(f"{base}/cmd", command)
                if tail == "cmd/ack":
                    answers[body["id"]] = body
                if tail == "state" and body["fan"] == 4 and len(answers) == 3:
                    break
    assert [(a["ok"], a["code"]) for _, a in sorted(answers.items())] == [
        (True, None),
        (False, "UNKNOWN_COMMAND"),
        (False, "EXPIRED"),
    ]
    assert fleet.tally.commands == len(COMMANDS)


@pytest.mark.may_block  # starting the broker again waits for its first words
async def test_it_comes_back_after_the_broker_did(mosquitto: Mosquitto) -> None:
    fleet = Fleet(target(mosquitto.port), Plan(robots=2, hz=20, qos=1))

    async def online(count: int) -> None:
        async with asyncio.timeout(20):
            while fleet.tally.online != count:  # noqa: ASYNC110 - the tally has no bell to ring
                await asyncio.sleep(0.01)

    async with driving(fleet):
        await online(2)
        mosquitto.kill()
        await online(0)
        mosquitto.start()
        await online(2)
    assert fleet.tally.connects >= 4


def test_a_fleet_that_is_killed_is_lost(mosquitto: Mosquitto, tmp_path: Path) -> None:
    words = ("simulate", "--port", str(mosquitto.port), "--host", "127.0.0.1", "--robots", "1")

    async def connection_states() -> list[str]:
        states: list[str] = []
        async with aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
            await client.subscribe("smartair/v1/home/+/connection", qos=1)
            with Running(*words, cwd=tmp_path) as fleet:
                async with asyncio.timeout(30):
                    async for message in client.messages:
                        assert isinstance(message.payload, bytes)
                        states.append(json.loads(message.payload)["state"])
                        if states == ["online"]:
                            fleet.process.send_signal(signal.SIGKILL)
                        if len(states) == 2:
                            return states
        return states

    assert asyncio.run(connection_states()) == ["online", "lost"]


def test_the_command_says_what_was_acknowledged(mosquitto: Mosquitto, tmp_path: Path) -> None:
    words = ["simulate", "--robots", "3", "--hz", "20", "--qos", "1", "--duration", "1", "--json"]
    sets = ["--set", "bus.backend=mqtt", "--set", f"bus.url={mosquitto.url}"]
    done = run(*words, *sets, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["acknowledged"] == told["certain"] == told["sent"] >= 40
    assert (told["robots"], told["connects"], told["trouble"]) == (3, 3, "")


def test_a_broker_that_was_never_there_is_69(tmp_path: Path) -> None:
    done = run("simulate", "--port", "1", "--duration", "1", cwd=tmp_path)
    assert done.returncode == 69
    assert "127.0.0.1:1 cannot be reached" in done.stderr


def test_the_target_is_the_bus_of_the_configuration(tmp_path: Path) -> None:
    secret = tmp_path / "pw"
    secret.write_text("hunter2\n")
    bus = MqttBus(url="mqtts://broker:9999", user="me", password_file=str(secret), prefix="p")
    found = Target.of(Config(bus=bus), site="s")
    assert (found.host, found.port, found.prefix, found.site) == ("broker", 9999, "p", "s")
    assert (found.user, found.password, found.tls) == ("me", "hunter2", True)
    other = Target.of(Config(bus=bus), host="elsewhere")
    assert (other.port, other.user, other.password, other.tls) == (1883, "", "", False)
    assert Target.of(Config()).port == 1883
