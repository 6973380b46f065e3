"""Clients that others wrote: mosquitto_pub and mosquitto_sub, paho, aiomqtt."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gateway.bus.server.listener import EmbeddedServer
from tests.bus.server_rig import DEADLINE_S, Taker, reached, server
from tests.services.programs import need

PAHO = {4: MQTTProtocolVersion.MQTTv311, 5: MQTTProtocolVersion.MQTTv5}
MOSQUITTO = {4: "311", 5: "5"}
VERSIONS = pytest.mark.parametrize("version", [4, 5])
QOS = pytest.mark.parametrize("qos", [0, 1, 2])


async def run(program: str, on: EmbeddedServer, *arguments: str) -> asyncio.subprocess.Process:
    """Start a mosquitto client."""
    path = await asyncio.to_thread(need, program)
    host, port = on.address
    return await asyncio.create_subprocess_exec(
        path, "-h", host, "-p", str(port), *arguments, stdout=asyncio.subprocess.PIPE
    )


async def output(process: asyncio.subprocess.Process) -> bytes:
    """Return what it printed, once it ended well."""
    async with asyncio.timeout(DEADLINE_S):
        printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed


@VERSIONS
@QOS
async def test_mosquitto_clients(version: int, qos: int) -> None:
    taker = Taker()
    options = ("-V", MOSQUITTO[version], "-q", str(qos))
    async with server(taker) as on:
        sub = await run(
            "mosquitto_sub", on, *options, "-t", "a/#", "-C", "102", "-F", "%t %r %p", "-W", "9"
        )
        await reached(lambda: on.figures()["subscriptions"] == 1)
        await output(await run("mosquitto_pub", on, *options, "-t", "a/first", "-m", "1", "-r"))
        await _publish_lines(on, *options)
        await output(await run("mosquitto_pub", on, *options, "-t", "a/last", "-n"))
        printed = (await output(sub)).decode().splitlines()
        assert printed == ["a/first 0 1", *(f"a/lines 0 {n}" for n in range(100)), "a/last 0 "]
        kept = await run("mosquitto_sub", on, *options, "-t", "+/first", "-C", "1", "-F", "%r %p")
        assert await output(kept) == b"1 1\n"
        assert len(taker.items) == 102


async def _publish_lines(on: EmbeddedServer, *options: str) -> None:
    path = await asyncio.to_thread(need, "mosquitto_pub")
    process = await asyncio.create_subprocess_exec(
        path,
        "-p",
        str(on.address[1]),
        "-t",
        "a/lines",
        "-l",
        *options,
        stdin=asyncio.subprocess.PIPE,
    )
    await process.communicate(b"".join(b"%d\n" % n for n in range(100)))
    assert process.returncode == 0


@VERSIONS
async def test_mosquitto_sub_dies_and_comes_back(version: int) -> None:
    more = ("-x", "60") if version == 5 else ()
    options = ("-V", MOSQUITTO[version], "-c", "-i", "s", "-q", "2", "-t", "cmd", *more)
    will = ("--will-topic", "w", "--will-payload", "lost", "--will-qos", "1")
    taker = Taker()
    async with server(taker) as on:
        sub = await run("mosquitto_sub", on, *options, *will)
        await reached(lambda: on.figures()["subscriptions"] == 1)
        sub.kill()
        await sub.communicate()
        assert await taker.until(1) == [("w", b"lost")]
        for n in range(3):
            await on.publish("cmd", b"%d" % n, qos=n)
        back = await run("mosquitto_sub", on, *options, "-C", "2")
        assert await output(back) == b"1\n2\n"


class Paho:
    """A paho client; its callbacks run in a thread of its own."""

    def __init__(self, on: EmbeddedServer, client_id: str, version: int) -> None:
        self.connected = threading.Event()
        self.subscribed = threading.Event()
        self.came: list[paho.MQTTMessage] = []
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=PAHO[version])
        self.client.on_connect = self._on(self.connected)
        self.client.on_subscribe = self._on(self.subscribed)
        self.client.on_message = lambda _client, _data, message: self.came.append(message)
        self.address = on.address

    @staticmethod
    def _on(event: threading.Event) -> Callable[..., None]:
        def happened(*_: Any) -> None:
            event.set()

        return happened

    def __enter__(self) -> "Paho":
        self.client.connect(*self.address)
        self.client.loop_start()
        assert self.connected.wait(DEADLINE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@VERSIONS
@QOS
async def test_paho(version: int, qos: int) -> None:
    taker = Taker()
    payloads = [b"", b"x", bytes(range(256)) * 900, *(b"%d" % n for n in range(200))]

    def talk(on: EmbeddedServer) -> list[bytes]:
        with Paho(on, "s", version) as sub, Paho(on, "p", version) as pub:
            sub.client.subscribe("한국/#", qos)
            assert sub.subscribed.wait(DEADLINE_S)
            sent = [pub.client.publish("한국/a", payload, qos) for payload in payloads]
            for info in sent:
                info.wait_for_publish(DEADLINE_S)
            end = pub.client.publish("한국/end", b"", 2)
            end.wait_for_publish(DEADLINE_S)
            until = threading.Event()
            for _ in range(1_000):
                if sub.came and sub.came[-1].topic == "한국/end":
                    break
                until.wait(0.01)
            return [bytes(message.payload) for message in sub.came[:-1]]

    async with server(taker) as on:
        assert await asyncio.to_thread(talk, on) == payloads
    assert [payload for _, payload in taker.items] == [*payloads, b""]


@VERSIONS
async def test_aiomqtt(version: int) -> None:
    protocol = aiomqtt.ProtocolVersion.V5 if version == 5 else aiomqtt.ProtocolVersion.V311
    async with server() as on, asyncio.timeout(DEADLINE_S):
        host, port = on.address
        will = aiomqtt.Will("w", b"lost", qos=1)
        async with aiomqtt.Client(
            host, port, protocol=protocol, identifier="one", will=will
        ) as one:
            await one.subscribe("cmd/+", qos=1)
            async with aiomqtt.Client(host, port, protocol=protocol, identifier="two") as two:
                for n in range(50):
                    await two.publish(f"cmd/{n}", b"%d" % n, qos=n % 3)
            came = []
            async for message in one.messages:
                came.append(message.payload)
                if len(came) == 50:
                    break
    assert came == [b"%d" % n for n in range(50)]
