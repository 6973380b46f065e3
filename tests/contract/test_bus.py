"""What every backend of the bus promises (gateway/bus/port.py): one suite for all of them."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import aiomqtt
import pytest

from gateway.bus.open import open_bus
from gateway.bus.port import Bus, Sink
from gateway.config.model import EmbeddedBus, MqttBus
from gateway.core.errors import Unavailable
from tests.bus.client_rig import SITE, TOPIC, Basket, device, eventually
from tests.services.mosquitto import Mosquitto
from tests.services.process import free_port
from tests.services.programs import need

COMMAND = "smartair/v1/home/r1/cmd"
BOX = "box-1"
CANARY = f"smartair/v1/home/{BOX}/canary"
RETRY_S = 1.0  # what a device waits for a PUBACK before it connects again


class Rig:
    """A bus that can be opened again and again, and the port that devices connect to."""

    def __init__(self, config: EmbeddedBus | MqttBus, port: int) -> None:
        self.config = config
        self.port = port

    @asynccontextmanager
    async def open(self, sink: Sink) -> AsyncIterator[Bus]:
        """Open the bus; ready for devices."""
        async with open_bus(self.config, sink, site=SITE, box=BOX) as bus:
            await eventually(lambda: bus.status().connected)
            yield bus


@pytest.fixture(params=["embedded", "mqtt"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig of each backend."""
    if request.param == "embedded":
        port = free_port()
        yield Rig(EmbeddedBus(host="127.0.0.1", port=port), port)
        return
    need("mosquitto")
    with Mosquitto(tmp_path / "mosquitto") as broker:
        # As many in flight as the devices of this suite have to the embedded server.
        yield Rig(MqttBus(url=broker.url, receive_maximum=20), broker.port)


async def deliver(port: int, payloads: Iterable[bytes]) -> None:
    """Publish as a device does that must not lose anything: again until it was acknowledged."""
    waiting = list(payloads)

    async def send(client: aiomqtt.Client, payload: bytes) -> None:
        await client.publish(TOPIC, payload, qos=1, timeout=RETRY_S)
        waiting.remove(payload)

    while waiting:
        try:
            async with device(port) as client, asyncio.TaskGroup() as sending:
                for payload in waiting[:20]:
                    sending.create_task(send(client, payload))
        except* aiomqtt.MqttError:
            await asyncio.sleep(0.02)  # as a device would, before it connects again


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize(
    "protocol", [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5], ids=["3.1.1", "5"]
)
async def test_messages_arrive_once_and_in_order(
    rig: Rig, qos: int, protocol: aiomqtt.ProtocolVersion
) -> None:
    basket = Basket()
    sent = [b"%d" % number for number in range(200)]
    async with rig.open(basket), device(rig.port, protocol=protocol) as client:
        for payload in sent:
            await client.publish(TOPIC, payload, qos=qos)
        await basket.holds(*sent)
        assert basket.items == [(TOPIC, payload) for payload in sent]


@pytest.mark.parametrize(
    "payload", [b"", b"\0\xff\xfe not UTF-8", bytes(range(256)) * 800], ids=["empty", "any", "200k"]
)
async def test_a_payload_is_handed_over_as_it_came(rig: Rig, payload: bytes) -> None:
    basket = Basket()
    topic = "smartair/v1/home/로봇-1/pose"
    async with rig.open(basket), device(rig.port) as client:
        await client.publish(topic, payload, qos=1)
        await basket.until(lambda: bool(basket.batches))
        assert basket.items == [(topic, payload)]


async def test_without_acknowledge_a_message_comes_again(rig: Rig) -> None:
    sent = [b"%d" % number for number in range(20)]
    lost = Basket(acknowledging=False)
    async with asyncio.timeout(30), asyncio.TaskGroup() as devices:
        async with rig.open(lost):
            devices.create_task(deliver(rig.port, sent))
            await lost.holds(*sent)
        kept = Basket()
        async with rig.open(kept):
            await kept.holds(*sent)


async def test_an_acknowledge_after_the_end_does_nothing(rig: Rig) -> None:
    lost, kept = Basket(acknowledging=False), Basket()
    async with asyncio.timeout(30), asyncio.TaskGroup() as devices:
        async with rig.open(lost):
            devices.create_task(deliver(rig.port, [b"1"]))
            await lost.holds(b"1")
        for batch in lost.batches:
            batch.acknowledge()
        async with rig.open(kept):
            for batch in lost.batches:
                batch.acknowledge()
            await kept.holds(b"1")


async def test_nothing_acknowledged_is_lost_over_restarts(rig: Rig) -> None:
    """Only what is in an acknowledged batch counts as stored: one batch of every second life."""
    sent = [b"%d" % number for number in range(120)]
    stored: set[bytes] = set()
    async with asyncio.timeout(60), asyncio.TaskGroup() as devices:
        for life in range(4):
            basket = Basket(acknowledging=False)
            async with rig.open(basket):
                if life == 0:  # not before: a broker keeps nothing for a session that never was
                    devices.create_task(deliver(rig.port, sent))
                await basket.until(partial(bool, basket.batches))
                for batch in basket.batches[: life % 2]:
                    batch.acknowledge()
                    stored.update(payload for _, payload in batch.items)
        last = Basket()
        async with rig.open(last):
            await last.until(lambda: stored | set(last.payloads) == set(sent))


async def test_pause_holds_publishers_back_and_resume_lets_them_go(rig: Rig) -> None:
    basket = Basket()
    sent = [b"%d" % number for number in range(50)]
    async with (
        asyncio.timeout(30),
        rig.open(basket) as bus,
        device(rig.port) as robot,
        asyncio.TaskGroup() as devices,
    ):
        await robot.subscribe(COMMAND, qos=1)
        await _publish(bus, b"before")
        bus.pause()
        bus.pause()
        devices.create_task(deliver(rig.port, sent))
        assert await _next(robot) == b"before"
        for number in range(20):  # the other way goes on, and gives the devices time
            await bus.publish(COMMAND, b"%d" % number)
            assert await _next(robot) == b"%d" % number
        assert not basket.batches
        bus.resume()
        bus.resume()
        await basket.holds(*sent)


async def test_publish_reaches_subscribers(rig: Rig) -> None:
    async with rig.open(Basket()) as bus, device(rig.port) as robot:
        await robot.subscribe(COMMAND, qos=2)
        await _publish(bus, b"first")
        assert await _next(robot) == b"first"
        for qos in (0, 1, 2):
            await bus.publish(COMMAND, b"%d" % qos, qos=qos)
            assert await _next(robot) == b"%d" % qos


async def test_publish_retained_reaches_who_comes_later(rig: Rig) -> None:
    async with rig.open(Basket()) as bus:
        await _publish(bus, b"kept", retain=True)
        async with device(rig.port) as robot:
            await robot.subscribe(COMMAND, qos=1)
            assert await _next(robot) == b"kept"


async def test_status_says_that_devices_can_publish(rig: Rig) -> None:
    async with rig.open(Basket()) as bus:
        status = bus.status()
        assert status.connected
        assert status.detail


async def test_a_probe_comes_to_the_sink_like_a_message(rig: Rig) -> None:
    basket = Basket()
    async with rig.open(basket) as bus:
        for number in range(3):
            await _probe(bus, b"%d" % number)
        await basket.holds(b"0", b"1", b"2")
        assert basket.items == [(CANARY, b"0"), (CANARY, b"1"), (CANARY, b"2")]


async def test_nobody_elses_probe_comes(rig: Rig) -> None:
    basket = Basket()
    async with rig.open(basket) as bus, device(rig.port) as robot:
        await robot.publish("smartair/v1/home/box-2/canary", b"theirs", qos=1)
        await _probe(bus, b"ours")
        await basket.holds(b"ours")
        foreign = [topic for topic, payload in basket.items if payload == b"theirs"]
        # The embedded server hands over everything; what it means is decided by its topic.
        assert foreign in ([], ["smartair/v1/home/box-2/canary"])


async def test_no_probe_comes_while_paused(rig: Rig) -> None:
    basket = Basket()
    async with rig.open(basket) as bus, device(rig.port) as robot:
        await _probe(bus, b"before")
        await basket.holds(b"before")
        await robot.subscribe(COMMAND, qos=1)
        bus.pause()
        with suppress(Unavailable):
            await bus.probe(CANARY, b"paused")
        await _publish(bus, b"the other way goes on")
        assert await _next(robot) == b"the other way goes on"
        assert basket.payloads == [b"before"]
        bus.resume()
        await _probe(bus, b"after")
        await basket.holds(b"after")


async def test_a_cut_bus_carries_nothing_and_heals(rig: Rig) -> None:
    basket = Basket()
    async with asyncio.timeout(60), rig.open(basket) as bus, asyncio.TaskGroup() as devices:
        bus.sever(True)
        bus.sever(True)
        await eventually(lambda: not bus.status().connected)
        assert "drill" in bus.status().detail
        with pytest.raises(Unavailable):
            await bus.probe(CANARY, b"cut")
        assert basket.payloads == []
        devices.create_task(deliver(rig.port, [b"1", b"2"]))
        with pytest.raises(Unavailable):
            await bus.probe(CANARY, b"still cut")
        assert not bus.status().connected
        assert basket.payloads == []
        bus.sever(False)
        bus.sever(False)
        await basket.holds(b"1", b"2")
        await eventually(lambda: bus.status().connected)
        await _probe(bus, b"healed")
        await basket.holds(b"healed")


async def test_a_cut_bus_ends_connections(rig: Rig) -> None:
    basket = Basket()
    async with asyncio.timeout(60), rig.open(basket) as bus:
        await _probe(bus, b"whole")
        await basket.holds(b"whole")
        bus.sever(True)
        await eventually(lambda: not bus.status().connected and bus.status().clients == 0)
        bus.sever(False)
        await eventually(lambda: bus.status().connected)
        await _probe(bus, b"again")
        await basket.holds(b"again")


async def _probe(bus: Bus, payload: bytes) -> None:
    """Probe as soon as the bus can."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await bus.probe(CANARY, payload)
            except Unavailable:
                await asyncio.sleep(0.02)


async def _publish(bus: Bus, payload: bytes, *, retain: bool = False) -> None:
    """Publish as soon as the bus can: right after a connect it may not be able to yet."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await bus.publish(COMMAND, payload, retain=retain)
            except Unavailable as unavailable:
                await asyncio.sleep(unavailable.retry_after_s / 50)


async def _next(robot: aiomqtt.Client) -> bytes:
    async with asyncio.timeout(10):
        return bytes((await anext(robot.messages)).payload)
