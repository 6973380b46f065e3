"""What the tests of the client backend share: a sink that can be waited for, devices, a bus."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt

from gateway.bus.client.session import ClientBus, connect
from gateway.bus.port import Batch, Item
from gateway.config.model import MqttBus
from gateway.core.backoff import Backoff

SITE = "home"
TOPIC = "smartair/v1/home/r1/pose"
QUICK = Backoff(base_s=0.05, cap_s=0.2)
WAIT_S = 20.0


class Basket:
    """A sink that keeps what it gets. ``acknowledging``: at once, else when the test does."""

    def __init__(self, *, acknowledging: bool = True) -> None:
        self.acknowledging = acknowledging
        self.batches: list[Batch] = []
        self.changed = asyncio.Condition()
        self._pulse = asyncio.Event()

    @property
    def items(self) -> list[Item]:
        """Everything taken, in order."""
        return [item for batch in self.batches for item in batch.items]

    @property
    def payloads(self) -> list[bytes]:
        """The payloads taken, in order."""
        return [payload for _, payload in self.items]

    def take(self, batch: Batch) -> None:
        """Keep ``batch``."""
        self.batches.append(batch)
        if self.acknowledging:
            batch.acknowledge()
        self._pulse.set()

    async def until(self, fits: Callable[[], bool]) -> None:
        """Return once ``fits()`` holds after something was taken."""
        async with asyncio.timeout(WAIT_S):
            while not fits():
                self._pulse.clear()
                await self._pulse.wait()

    async def holds(self, *payloads: bytes) -> None:
        """Return once every one of ``payloads`` was taken."""
        await self.until(lambda: set(payloads) <= set(self.payloads))


async def eventually(fits: Callable[[], bool]) -> None:
    """Return once ``fits()``: for states that nothing announces, such as ``status()``."""
    async with asyncio.timeout(WAIT_S):
        while not fits():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


def mqtt_config(port: int, **changes: Any) -> MqttBus:
    """Return the configuration of a bus to 127.0.0.1."""
    return MqttBus(url=f"mqtt://127.0.0.1:{port}", **{"timeout_s": 5.0, **changes})


@asynccontextmanager
async def client_bus(
    port: int, basket: Basket, *, wait: bool = True, **changes: Any
) -> AsyncIterator[ClientBus]:
    """Open a bus to the broker on ``port``; connected when ``wait``."""
    async with connect(mqtt_config(port, **changes), basket, site=SITE, backoff=QUICK) as bus:
        if wait:
            await eventually(lambda: bus.status().connected)
        yield bus


@asynccontextmanager
async def device(port: int, **options: Any) -> AsyncIterator[aiomqtt.Client]:
    """Connect as a device would, with a client that is not ours."""
    async with aiomqtt.Client("127.0.0.1", port, timeout=5, **options) as client:
        yield client


async def publish(port: int, *payloads: bytes, qos: int = 1, retain: bool = False) -> None:
    """Publish ``payloads`` to TOPIC and return when the broker acknowledged them."""
    async with device(port) as client:
        for payload in payloads:
            await client.publish(TOPIC, payload, qos=qos, retain=retain)
