"""A broker that does what a test tells it, for what no real one does on demand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Self

import mqtt5

from tests.bus.client_rig import TOPIC

CONNECT, PUBLISH, PUBACK, PUBREC, PUBCOMP = 0x10, 0x30, 0x40, 0x50, 0x70
SUBSCRIBE, PINGREQ, DISCONNECT = 0x80, 0xC0, 0xE0
WAIT_S = 10.0


class Talk:
    """One connection, seen from the broker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.connect = b""  # the body of the CONNECT

    async def read(self) -> tuple[int, bytes]:
        """Return the next packet: type (upper four bits) and body."""
        async with asyncio.timeout(WAIT_S):
            head = (await self._reader.readexactly(1))[0]
            length = shift = 0
            while True:
                byte = (await self._reader.readexactly(1))[0]
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    return head & 0xF0, await self._reader.readexactly(length)

    async def expect(self, kind: int) -> bytes:
        """Return the body of the next packet, which is of ``kind``."""
        got, body = await self.read()
        assert got == kind, f"{got:#x} {body!r}"
        return body

    async def ids(self, kind: int, count: int) -> list[int]:
        """Return the packet ids of the next ``count`` packets, all of ``kind``."""
        return [int.from_bytes((await self.expect(kind))[:2], "big") for _ in range(count)]

    async def send(self, *packets: bytes) -> None:
        """Send ``packets`` in one write."""
        self._writer.write(b"".join(packets))
        await self._writer.drain()

    async def accept(
        self,
        *,
        version: int = 5,
        session_present: bool = False,
        keepalive_s: int | None = None,
        refused: int = 0,
    ) -> Self:
        """Accept the CONNECT, take SUBSCRIBE; refuse the first ``refused`` filters."""
        assert self.connect[6] == version
        if version == 5:
            connack = mqtt5.ConnAckPacket(
                session_present=session_present, server_keep_alive=keepalive_s
            )
            await self.send(connack.write())
        else:
            await self.send(bytes((0x20, 2, session_present, 0)))
        body = await self.expect(SUBSCRIBE)
        codes = bytes([0x87] * refused + [1] * (6 - refused))
        await self.send(
            b"\x90"
            + bytes((8 + (version == 5),))
            + body[:2]
            + (b"\0" if version == 5 else b"")
            + codes
        )
        return self

    async def gone(self) -> None:
        """Return when the client closed."""
        async with asyncio.timeout(WAIT_S):
            while await self._reader.read(65_536):
                pass

    def close(self) -> None:
        """Close without a word."""
        self._writer.close()


@asynccontextmanager
async def peer(*scripts: Callable[[Talk], Awaitable[None]]) -> AsyncIterator[int]:
    """Serve the data connections with ``scripts`` in turn, after their CONNECT; yield the port.

    The control connection, and every one after the last script, gets no answer. What a script
    raises is raised at the end.
    """
    failures: list[BaseException] = []
    waiting = list(scripts)
    open_ones: set[asyncio.Task[None]] = set()
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_ones.add(task)
        try:
            talk = Talk(reader, writer)
            try:
                talk.connect = await talk.expect(CONNECT)
            except asyncio.IncompleteReadError as cut:
                if cut.partial:
                    raise
                return  # the control connection, told to stop before its first word
            if b"-control" in talk.connect or not waiting:
                await ended.wait()
            else:
                await waiting.pop(0)(talk)
        except (OSError, asyncio.IncompleteReadError, AssertionError) as error:
            failures.append(error)
        finally:
            open_ones.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        ended.set()
        server.close()
        if open_ones:
            _, still = await asyncio.wait(open_ones, timeout=1)
            for task in still:
                task.cancel()
    if failures:
        raise failures[0]


def message(payload: bytes, packet_id: int = 0, *, qos: int = 1, version: int = 5) -> bytes:
    """Return a PUBLISH to TOPIC."""
    if version == 5:
        return mqtt5.PublishPacket(
            TOPIC, payload, qos=mqtt5.QoS(qos), packet_id=packet_id or None
        ).write()
    identifier = packet_id.to_bytes(2, "big") if qos else b""
    body = len(TOPIC).to_bytes(2, "big") + TOPIC.encode() + identifier + payload
    assert len(body) < 128
    return bytes((PUBLISH | qos << 1, len(body))) + body
