"""The proxy that the fault tests trust does what it says, to real sockets."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.faults.proxy import Proxy

GIVE_UP_S = 30.0


class Peer:
    """A client of an echo server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        async with asyncio.timeout(GIVE_UP_S):
            await self._writer.drain()

    async def receive(self, size: int) -> bytes:
        async with asyncio.timeout(GIVE_UP_S):
            return await self._reader.readexactly(size)

    async def echo(self, data: bytes) -> bytes:
        await self.send(data)
        return await self.receive(len(data))

    async def end(self) -> bytes:
        """Return what comes before the end of the connection."""
        async with asyncio.timeout(GIVE_UP_S):
            return await self._reader.read()

    async def silent(self, seconds: float = 0.3) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._reader.read(1)
        except TimeoutError:
            return True
        return False


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.fixture
async def echo_port() -> AsyncIterator[int]:
    async with await asyncio.start_server(_echo, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture(params=[False, True], ids=["thread", "process"])
def proxy(request: pytest.FixtureRequest, echo_port: int) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo_port, process=request.param) as running:
        yield running


@contextlib.asynccontextmanager
async def dialled(proxy: Proxy) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def until(fits: Callable[[], bool]) -> None:
    async with asyncio.timeout(GIVE_UP_S):
        while not fits():  # noqa: ASYNC110 - the proxy is elsewhere
            await asyncio.sleep(0.01)


async def test_bytes_pass_both_ways_and_are_counted(proxy: Proxy) -> None:
    data = bytes(range(256)) * 4096
    async with dialled(proxy) as peer:
        reply, _ = await asyncio.wait_for(_both(peer, data), GIVE_UP_S)
        assert reply == data
        counts = proxy.counts
        assert (counts.accepted, counts.open) == (1, 1)
        assert (counts.up, counts.down, counts.swallowed) == (len(data), len(data), 0)
    await until(lambda: proxy.counts.open == 0)


async def _both(peer: Peer, data: bytes) -> tuple[bytes, None]:
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(peer.send(data))
        receiving = group.create_task(peer.receive(len(data)))
    return receiving.result(), sending.result()


async def test_a_half_closed_connection_still_gets_its_answer(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"question")
    writer.write_eof()
    async with asyncio.timeout(GIVE_UP_S):
        assert await reader.read() == b"question"
    writer.close()
    await writer.wait_closed()


async def test_a_black_hole_is_silent_and_keeps_connections_open(proxy: Proxy) -> None:
    async with dialled(proxy) as old:
        assert await old.echo(b"1") == b"1"
        proxy.black_hole()
        async with dialled(proxy) as new:
            await old.send(b"lost")
            await new.send(b"lost too")
            await until(lambda: proxy.counts.swallowed == len(b"lost" + b"lost too"))
            assert await old.silent()
            assert await new.silent()
            assert proxy.counts.up == 1
            proxy.pass_()
            for peer in (old, new):  # they lost bytes: going on would garble what they say
                with pytest.raises(ConnectionError):
                    await peer.end()
    async with dialled(proxy) as after:
        assert await after.echo(b"2") == b"2"


async def test_a_connection_that_lost_nothing_in_the_black_hole_goes_on(proxy: Proxy) -> None:
    async with dialled(proxy) as peer:
        assert await peer.echo(b"1") == b"1"
        proxy.black_hole()
        proxy.pass_()
        assert await peer.echo(b"2") == b"2"


async def test_what_is_held_arrives_later(proxy: Proxy) -> None:
    async with dialled(proxy) as peer:
        assert await peer.echo(b"1") == b"1"
        proxy.hold()
        await peer.send(b"2")
        assert await peer.silent()
        assert proxy.counts.up == 1
        proxy.pass_()
        assert await peer.receive(1) == b"2"


async def test_a_refused_connection_is_refused_until_it_passes_again(proxy: Proxy) -> None:
    async with dialled(proxy) as open_one:
        assert await open_one.echo(b"1") == b"1"
        proxy.refuse()
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await open_one.echo(b"2") == b"2"
        proxy.pass_()
        async with dialled(proxy) as peer:
            assert await peer.echo(b"3") == b"3"


async def test_a_cut_is_an_end_and_a_reset_is_an_error(proxy: Proxy) -> None:
    async with dialled(proxy) as peer:
        assert await peer.echo(b"1") == b"1"
        proxy.cut()
        assert await peer.end() == b""
        assert proxy.counts.open == 0
    async with dialled(proxy) as peer:
        assert await peer.echo(b"1") == b"1"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await peer.end()


async def test_a_delay_is_paid_once_per_way_not_per_chunk(proxy: Proxy) -> None:
    async with dialled(proxy) as peer:
        assert await peer.echo(b"1") == b"1"
        proxy.delay(0.2)
        begun = time.monotonic()
        assert await peer.echo(b"2") == b"2"
        assert time.monotonic() - begun >= 0.4
        for number in range(200):
            await peer.send(b"%03d" % number)
        expected = b"".join(b"%03d" % number for number in range(200))
        assert await peer.receive(600) == expected  # 200 × 0.4 s in a row would be too late


async def test_a_throttled_connection_takes_its_time(proxy: Proxy) -> None:
    async with dialled(proxy) as peer:
        proxy.throttle(20_000)
        begun = time.monotonic()
        assert await peer.echo(bytes(10_000)) == bytes(10_000)
        assert time.monotonic() - begun >= 0.45
        proxy.pass_()
        assert await peer.echo(bytes(10_000)) == bytes(10_000)


async def test_without_a_target_clients_are_reset_until_there_is_one(
    proxy: Proxy, echo_port: int
) -> None:
    with Proxy() as aimless:
        with pytest.raises(ConnectionError):
            async with dialled(aimless) as peer:
                await peer.end()
        aimless.aim("127.0.0.1", echo_port)
        async with dialled(aimless) as peer:
            assert await peer.echo(b"1") == b"1"


async def test_a_proxy_can_stand_behind_another(proxy: Proxy) -> None:
    with Proxy("127.0.0.1", proxy.port) as second:
        async with dialled(second) as peer:
            assert await peer.echo(b"1") == b"1"
            assert proxy.counts.up == second.counts.up == 1


@pytest.mark.parametrize("process", [False, True], ids=["thread", "process"])
def test_it_needs_no_loop_of_the_test(process: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(GIVE_UP_S)
        with Proxy("127.0.0.1", server.getsockname()[1], process=process) as proxy:
            address = ("127.0.0.1", proxy.port)
            with socket.create_connection(address, GIVE_UP_S) as client:
                client.sendall(b"1")
                accepted, _ = server.accept()
                with accepted:
                    accepted.settimeout(GIVE_UP_S)
                    assert accepted.recv(1) == b"1"


def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"), Proxy(port=wanted):
            pass
