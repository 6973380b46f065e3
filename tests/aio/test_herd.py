"""Connections that are read together: what a protocol over TCP may expect of its transport."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from gateway.aio.herd import PAUSE_S, Herd

WAIT_S = 20.0


class Peer(asyncio.Protocol):
    """Keeps what happens to it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.data = bytearray()
        self.reads = 0
        self.eof = False
        self.half_open = False
        self.paused = 0
        self.resumed = 0
        self.lost: list[Exception | None] = []
        self.pulse = asyncio.Event()
        self.hears: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.pulse.set()

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.reads += 1
        self.pulse.set()
        if self.hears is not None:
            self.hears()

    def eof_received(self) -> bool:
        self.eof = True
        self.pulse.set()
        return self.half_open

    def pause_writing(self) -> None:
        self.paused += 1

    def resume_writing(self) -> None:
        self.resumed += 1
        self.pulse.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)
        self.pulse.set()

    async def until(self, fits: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not fits():
                self.pulse.clear()
                await self.pulse.wait()


class Meeting:
    """A herd, and clients that come to it."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.came = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []
        self.port = 0

    def accept(self) -> Peer:
        self.peers.append(Peer())
        self.came.set()
        return self.peers[-1]

    async def join(self) -> tuple[Peer, asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect a client; return the peer that it got, and its own side."""
        self.came.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        async with asyncio.timeout(WAIT_S):
            await self.came.wait()
        return self.peers[-1], reader, writer


@asynccontextmanager
async def herd() -> AsyncIterator[Meeting]:
    """Yield a herd; everybody leaves in the end."""
    meeting = Meeting()
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    meeting.port = sock.getsockname()[1]
    opened = Herd()
    opened.listen(sock, meeting.accept, backlog=16)
    try:
        yield meeting
    finally:
        opened.close()
        for peer in meeting.peers:
            await peer.until(lambda peer=peer: bool(peer.lost))  # type: ignore[misc]
        for writer in meeting.writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def test_bytes_go_both_ways() -> None:
    async with herd() as meeting:
        peer, reader, writer = await meeting.join()
        writer.write(b"ping")
        await peer.until(lambda: peer.data == b"ping")
        peer.transport.write(b"pong")
        peer.transport.write(bytearray(b"!"))
        assert await reader.readexactly(5) == b"pong!"
        host, _ = peer.transport.get_extra_info("peername")
        assert host == "127.0.0.1"
        assert peer.transport.get_extra_info("sockname")[1] == meeting.port
        assert peer.transport.get_extra_info("cipher", "none") == "none"
        writer.close()
        await peer.until(lambda: bool(peer.lost))
        assert peer.eof
        assert peer.lost == [None]


async def test_what_comes_in_a_pause_is_read_together() -> None:
    async with herd() as meeting:
        peer, _, writer = await meeting.join()
        for _ in range(100):
            writer.write(b"x")
            await asyncio.sleep(0)  # a turn of the loop: it would have been read
        await peer.until(lambda: len(peer.data) == 100)
        assert peer.reads < 80
        await asyncio.sleep(PAUSE_S * 5)
        reads = peer.reads
        writer.write(b"y")
        await peer.until(lambda: peer.reads == reads + 1)


async def test_a_peer_that_does_not_read_is_told_of_and_gets_all_in_the_end() -> None:
    async with herd() as meeting:
        peer, reader, _ = await meeting.join()
        peer.transport.set_write_buffer_limits(high=1_000)
        assert peer.transport.get_write_buffer_limits() == (250, 1_000)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        block, sent = bytes(range(256)) * 256, 0
        while not peer.paused:
            peer.transport.write(block)
            sent += len(block)
        assert peer.transport.get_write_buffer_size() > 1_000
        peer.transport.close()  # what is kept is sent first
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(WAIT_S):
            assert await reader.read() == block * (sent // len(block))
        await peer.until(lambda: bool(peer.lost))
        assert (peer.paused, peer.resumed) == (1, 1)


async def test_no_reading_while_paused() -> None:
    async with herd() as meeting:
        peer, _, writer = await meeting.join()
        peer.transport.pause_reading()
        peer.transport.pause_reading()
        assert not peer.transport.is_reading()
        writer.write(b"waits")
        await asyncio.sleep(0.05)
        assert not peer.data
        peer.transport.resume_reading()
        await peer.until(lambda: peer.data == b"waits")


async def test_half_closed_connections() -> None:
    async with herd() as meeting:
        peer, reader, writer = await meeting.join()
        peer.half_open = True
        writer.write_eof()
        await peer.until(lambda: peer.eof)
        peer.transport.write(b"late")
        assert peer.transport.can_write_eof()
        peer.transport.write_eof()
        assert await reader.read() == b"late"
        assert not peer.lost
        peer.transport.close()
        await peer.until(lambda: bool(peer.lost))


async def test_a_reset_ends_one_and_leaves_the_others() -> None:
    async with herd() as meeting:
        first, _, one = await meeting.join()
        second, _, two = await meeting.join()
        sock = one.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.transport.abort()
        await first.until(lambda: bool(first.lost))
        first.transport.write(b"to nobody")
        first.transport.close()
        two.write(b"here")
        await second.until(lambda: second.data == b"here")


async def test_a_reset_is_seen_while_reading_is_paused() -> None:
    async with herd() as meeting:
        peer, _, writer = await meeting.join()
        peer.transport.pause_reading()
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await peer.until(lambda: bool(peer.lost))


async def test_one_may_close_another_in_the_same_round() -> None:
    async with herd() as meeting:
        first, _, one = await meeting.join()
        second, _, two = await meeting.join()

        def both() -> None:
            first.transport.abort()
            second.transport.abort()

        first.hears = second.hears = both
        one.write(b"1")
        two.write(b"2")
        await first.until(lambda: bool(first.lost))
        await second.until(lambda: bool(second.lost))
        assert first.reads + second.reads == 1


async def test_an_address_that_is_taken_is_refused() -> None:
    with socket.socket() as taken, socket.socket() as sock:
        taken.bind(("127.0.0.1", 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(taken.getsockname())
        taken.listen()
        opened = Herd()
        with pytest.raises(OSError, match="in use"):
            opened.listen(sock, Peer, backlog=1)
        opened.close()
