"""A sink that answers when it is told to, and a client that is only bytes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import mqtt5
import msgspec

from gateway.bus.port import Batch, Item
from gateway.bus.server.access import Access
from gateway.bus.server.listener import EmbeddedServer, serve
from gateway.config.model import BusLimits, EmbeddedBus
from gateway.core.mqtt import text, varint

DEADLINE_S = 10.0
VERSIONS = (4, 5)


class Taker:
    """Keeps the batches. ``hold``: acknowledges none by itself."""

    def __init__(self, *, hold: bool = False) -> None:
        self.hold = hold
        self.batches: list[Batch] = []
        self._changed = asyncio.Event()

    def take(self, batch: Batch) -> None:
        """Keep ``batch``."""
        self.batches.append(batch)
        self._changed.set()
        if not self.hold:
            batch.acknowledge()

    @property
    def items(self) -> list[Item]:
        """Return everything taken so far."""
        return [item for batch in self.batches for item in batch.items]

    async def until(self, count: int) -> list[Item]:
        """Wait for ``count`` items and return all."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.items) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.items


@asynccontextmanager
async def server(
    taker: Taker | None = None, *, access: Access | None = None, **limits: float
) -> AsyncIterator[EmbeddedServer]:
    """Open a server on a free port; ``limits`` are keys of BusLimits."""
    config = EmbeddedBus(port=0, limits=msgspec.convert(limits, BusLimits))
    async with serve(config, taker or Taker(), access=access) as opened:
        yield opened


async def reached(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds; for what the server does without saying so."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


class Raw:
    """A client that sends the bytes it is given and returns packets as (first byte, body)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, on: EmbeddedServer) -> Self:
        """Connect, without a CONNECT."""
        return cls(*await asyncio.open_connection(*on.address))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    def send(self, *packets: bytes) -> None:
        """Write."""
        self.writer.write(b"".join(packets))

    async def packet(self) -> tuple[int, bytes]:
        """Return the next packet."""
        async with asyncio.timeout(DEADLINE_S):
            head = (await self.reader.readexactly(1))[0]
            length = shift = 0
            while True:
                byte = (await self.reader.readexactly(1))[0]
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    return head, await self.reader.readexactly(length)

    async def read5(self) -> mqtt5.Packet:
        """Return the next packet, decoded by the codec of version 5."""
        head, body = await self.packet()
        return mqtt5.read(memoryview(bytes((head,)) + varint(len(body)) + body))[0]

    async def closed(self) -> bytes:
        """Return what came before the server closed."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    async def in_step(self) -> None:
        """Return when the server has done everything sent before; nothing else may be due."""
        self.send(b"\xc0\0")
        assert await self.packet() == (0xD0, b"")


@asynccontextmanager
async def client(
    on: EmbeddedServer,
    client_id: str = "c",
    version: int = 4,
    *,
    present: bool = False,
    **more: Any,
) -> AsyncIterator[Raw]:
    """Open a client that is connected; ``more`` goes into its CONNECT."""
    raw = await Raw.open(on)
    async with raw:
        raw.send(connect(client_id, version, **more))
        head, body = await raw.packet()
        assert (head, body[:2]) == (0x20, bytes((present, 0)))
        yield raw


def packet(head: int, *parts: bytes) -> bytes:
    """Return a packet of the parts of its body."""
    body = b"".join(parts)
    return bytes((head,)) + varint(len(body)) + body


def connect(
    client_id: str,
    version: int = 4,
    *,
    clean: bool = True,
    keep_alive: int = 0,
    expiry_s: int = 0,
    receive_max: int = 65_535,
    max_packet: int | None = None,
    will: tuple[str, bytes, int, bool] | None = None,
    will_delay_s: int = 0,
    username: str | None = None,
    password: bytes | None = None,
) -> bytes:
    """Return a CONNECT; ``will`` is (topic, payload, QoS, retain)."""
    if version == 5:
        return mqtt5.ConnectPacket(
            client_id,
            clean_start=clean,
            keep_alive=keep_alive,
            session_expiry_interval=expiry_s,
            receive_max=receive_max,
            max_packet_size=max_packet,
            username=username,
            password=password,
            will=will
            and mqtt5.Will(
                will[0],
                payload=will[1],
                qos=mqtt5.QoS(will[2]),
                retain=will[3],
                will_delay_interval=will_delay_s,
            ),
        ).write()
    flags = clean << 1 | (username is not None) << 7 | (password is not None) << 6
    parts = [text(client_id)]
    if will is not None:
        flags |= 4 | will[2] << 3 | will[3] << 5
        parts += [text(will[0]), len(will[1]).to_bytes(2, "big"), will[1]]
    if username is not None:
        parts.append(text(username))
    if password is not None:
        parts += [len(password).to_bytes(2, "big"), password]
    head = text("MQTT") + bytes((4, flags)) + keep_alive.to_bytes(2, "big")
    return packet(0x10, head, *parts)


def publish(
    topic: str,
    payload: bytes,
    qos: int = 0,
    packet_id: int = 0,
    version: int = 4,
    *,
    retain: bool = False,
    dup: bool = False,
    properties: bytes = b"",
) -> bytes:
    """Return a PUBLISH; ``properties`` of version 5 come without their length."""
    return packet(
        0x30 | dup << 3 | qos << 1 | retain,
        text(topic),
        packet_id.to_bytes(2, "big") if qos else b"",
        varint(len(properties)) + properties if version == 5 else b"",
        payload,
    )


def subscribe(packet_id: int, *filters: tuple[str, int], version: int = 4) -> bytes:
    """Return a SUBSCRIBE; a filter's number holds the QoS and the options of version 5."""
    return packet(
        0x82,
        packet_id.to_bytes(2, "big"),
        b"\0" if version == 5 else b"",
        *(text(pattern) + bytes((options,)) for pattern, options in filters),
    )


def unsubscribe(packet_id: int, *filters: str, version: int = 4) -> bytes:
    """Return an UNSUBSCRIBE."""
    none = b"\0" if version == 5 else b""
    return packet(0xA2, packet_id.to_bytes(2, "big"), none, *map(text, filters))


def ack(head: int, packet_id: int) -> bytes:
    """Return PUBACK (0x40), PUBREC (0x50), PUBREL (0x62) or PUBCOMP (0x70)."""
    return bytes((head, 2)) + packet_id.to_bytes(2, "big")


async def subscribed(raw: Raw, *filters: tuple[str, int], version: int = 4) -> bytes:
    """Subscribe and return the codes of the SUBACK."""
    raw.send(subscribe(1, *filters, version=version))
    head, body = await raw.packet()
    assert (head, body[:2]) == (0x90, b"\0\1")
    return body[2 + (version == 5) :]
