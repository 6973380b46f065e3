"""The relay inside the TCP proxy: accepts, connects on, and does to the bytes what it is told to.

``Proxy`` (proxy.py) runs it on a loop of its own, in a thread or in a process.
"""

import asyncio
import contextlib
import enum
import functools
import socket
import struct
from dataclasses import dataclass
from typing import Final

CONNECT_S: Final = 10.0
_CHUNK: Final = 65_536
_QUEUE: Final = 256  # chunks under way per direction; above it the sender is not read any more
_SLICES_PER_S: Final = 20  # of a throttled connection
_LINGER_0: Final = struct.pack("ii", 1, 0)  # close() sends RST


_Queue = asyncio.Queue[tuple[float, bytes]]
"""When a chunk is due, by the loop's clock, and the chunk; an empty one is the end."""


class _Mode(enum.Enum):
    PASS = enum.auto()
    HOLD = enum.auto()
    HOLE = enum.auto()


@dataclass(slots=True)
class Counts:
    """What went through so far; bytes are counted when they have been handed on."""

    accepted: int = 0  # connections
    open: int = 0  # of these, still there
    up: int = 0  # bytes towards the target
    down: int = 0  # bytes back to the clients
    swallowed: int = 0  # bytes that went into the black hole


class _Connection:
    """One accepted socket, and the one to the target once there is one."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.target: socket.socket | None = None
        self.broken = False  # it lost something: going on would garble it
        self.abort = False  # end it with RST
        self.task: asyncio.Task[None] | None = None

    def close(self) -> None:
        for sock in (self.client, self.target):
            if sock is None:
                continue
            with contextlib.suppress(OSError):  # the peer may have gone first
                if self.abort:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
                else:
                    sock.shutdown(socket.SHUT_WR)
                    for _ in range(64):  # what is unread would turn the FIN into an RST
                        if not sock.recv(_CHUNK):
                            break
            sock.close()


class Link:
    """Everything runs on the loop that ``run`` runs on."""

    def __init__(self, host: str, port: int, *, listen: int = 0) -> None:
        self.counts = Counts()
        self._to = (host, port)
        self._mode = _Mode.PASS
        self._moving = asyncio.Event()
        self._moving.set()
        self._delay_s = 0.0
        self._rate: float | None = None  # bytes per second, connection and direction
        self._connections: set[_Connection] = set()
        self._listener = _bound(listen)
        self._accepting: asyncio.Task[None] | None = None
        self._group = asyncio.TaskGroup()
        self.port: Final[int] = self._listener.getsockname()[1]

    async def run(self, ready: asyncio.Event, stop: asyncio.Event) -> None:
        """Listen, set ``ready``, serve until ``stop`` is set, then reset what is open."""
        async with self._group:
            await self.listen()
            ready.set()
            await stop.wait()
            await self.refuse()
            await self.end(abort=True)
        self._listener.close()

    async def aim(self, host: str, port: int) -> None:
        """Connect new clients to there from now on."""
        self._to = (host, port)

    async def listen(self) -> None:
        """Accept new connections (again)."""
        if self._accepting is None:
            self._listener.listen(512)
            self._accepting = self._group.create_task(self._accept())

    async def refuse(self) -> None:
        """Refuse new connections; the port stays ours."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
            self._accepting = None
            self._listener.close()
            self._listener = _bound(self.port)

    async def flow(self, delay_s: float, rate: float | None) -> None:
        """Let bytes move, so late and so slowly; connections that lost some are reset."""
        self._delay_s, self._rate = delay_s, rate
        self._mode = _Mode.PASS
        self._moving.set()
        await self._finish([one for one in self._connections if one.broken], abort=True)

    async def hold(self) -> None:
        """Let no byte move; none is lost."""
        self._mode = _Mode.HOLD
        self._moving.clear()

    async def swallow(self) -> None:
        """Let no byte arrive: all are read and thrown away."""
        self._mode = _Mode.HOLE
        self._moving.set()

    async def end(self, *, abort: bool) -> None:
        """End all connections, by RST (``abort``) or by FIN."""
        await self._finish(list(self._connections), abort=abort)

    async def counted(self) -> Counts:
        """Return the counts of now."""
        self.counts.open = len(self._connections)
        return self.counts

    async def _finish(self, connections: list[_Connection], *, abort: bool) -> None:
        tasks = []
        for one in connections:
            one.abort = abort
            if one.task is not None:
                one.task.cancel()
                tasks.append(one.task)
        if tasks:
            await asyncio.wait(tasks)
            await asyncio.sleep(0)  # for _forget

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(self._listener)
            except OSError:  # gone before it was accepted
                continue
            connection = _Connection(client)
            self.counts.accepted += 1
            self._connections.add(connection)
            connection.task = self._group.create_task(self._serve(connection))
            connection.task.add_done_callback(functools.partial(self._forget, connection))

    def _forget(self, connection: _Connection, _: asyncio.Task[None]) -> None:
        connection.close()
        self._connections.discard(connection)

    async def _serve(self, connection: _Connection) -> None:
        client = connection.client
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._moving.wait()
        try:
            if self._mode is _Mode.HOLE:  # there is nobody at the other end
                connection.broken = True
                await self._drain(client)
                await asyncio.Event().wait()  # until it is ended
            async with asyncio.timeout(CONNECT_S):
                connection.target = target = await _connected(*self._to)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(connection, client, target, "up"))
                both.create_task(self._pump(connection, target, client, "down"))
        except* OSError:  # a peer reset it, or is not there
            connection.abort = True

    async def _drain(self, source: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(source, _CHUNK):
                self.counts.swallowed += len(data)

    async def _pump(
        self, connection: _Connection, source: socket.socket, sink: socket.socket, way: str
    ) -> None:
        under_way: _Queue = asyncio.Queue(_QUEUE)
        async with asyncio.TaskGroup() as pair:
            pair.create_task(self._take(source, under_way))
            pair.create_task(self._give(connection, sink, under_way, way))

    async def _take(self, source: socket.socket, out: _Queue) -> None:
        """Read until the end."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await loop.sock_recv(source, _CHUNK)
            except OSError:
                if self._mode is not _Mode.HOLE:
                    raise
                data = b""  # nor does a reset get through
            await self._moving.wait()
            await out.put((loop.time() + self._delay_s, data))
            if not data:
                return

    async def _give(
        self, connection: _Connection, sink: socket.socket, out: _Queue, way: str
    ) -> None:
        """Write what is in ``out`` when its time has come."""
        loop = asyncio.get_running_loop()
        while True:
            due, data = await out.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            await self._moving.wait()
            if self._mode is _Mode.HOLE:
                connection.broken = True
                self.counts.swallowed += len(data)
                if not data:
                    await asyncio.Event().wait()  # until it is ended: the other side sees nothing
                continue
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            await self._send(sink, data, way)

    async def _send(self, sink: socket.socket, data: bytes, way: str) -> None:
        loop = asyncio.get_running_loop()
        left = memoryview(data)
        while left:
            rate = self._rate
            size = len(left) if rate is None else max(1, int(rate / _SLICES_PER_S))
            await loop.sock_sendall(sink, left[:size])
            sent = min(size, len(left))
            setattr(self.counts, way, getattr(self.counts, way) + sent)
            left = left[size:]
            if rate is not None:
                await asyncio.sleep(sent / rate)


def _bound(port: int) -> socket.socket:
    """Return a socket that has the port; until it listens, connections are refused."""
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connected(host: str, port: int) -> socket.socket:
    sock = socket.socket()
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    return sock
