"""A live view behind real sockets, and a small WebSocket client that reads as slowly as asked."""

import asyncio
import base64
import json
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from gateway.aio.supervisor import Supervisor
from gateway.config.model import Http
from gateway.config.model import Live as LiveConfig
from gateway.core.kinds import Kind
from gateway.core.payloads import Pose
from gateway.services.live import Live
from gateway.services.live_poses import Update
from gateway.web.access import Access
from gateway.web.app import build_app, listening
from handlers.events import EventRoutes
from handlers.ws import WsRoutes


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def pose(robot: str, ts: int, seq: int | None = None, *, rts: int | None = None) -> Update:
    value = Pose(x=1.5, y=-2.25, ts=ts, seq=seq, map="f1", theta=0.5)
    return (Kind.POSE, robot, value, ts, ts if rts is None else rts)


@dataclass
class Rig:
    """The live view and where it listens."""

    live: Live
    app: web.Application
    host: str
    port: int
    clients: list["Client"] = field(default_factory=list)  # closed with the rig, at the latest

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def connect(self, path: str = "/ws/coordinates", *, receive_buffer: int = 0) -> "Client":
        client = await Client.open(self.port, path, receive_buffer=receive_buffer)
        self.clients.append(client)
        return client


@asynccontextmanager
async def running(config: LiveConfig | None = None, **options: int) -> AsyncIterator[Rig]:
    """Serve the live view of ``config`` on a free port."""
    config = config or LiveConfig()
    live = Live(config, **options)
    routes = [*WsRoutes(live).routes(), *EventRoutes(live, config).routes()]
    http = Http(port=0)
    app = build_app(routes, http=http, on_drain=live.close, access=Access.on_loopback("127.0.0.1"))
    clients: list[Client] = []
    try:
        async with Supervisor() as tasks, listening(app, http) as (host, port):
            tasks.spawn("live", live.run)
            yield Rig(live, app, host, port, clients)
    finally:
        for client in clients:
            client.close()


class Client:
    """A WebSocket client on a bare socket. It answers pings unless ``mute``."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.mute = False
        self.closed_with: int | None = None
        self.pings = 0
        self._buffer = b""
        self._waiting: deque[dict[str, Any]] = deque()

    @classmethod
    async def open(cls, port: int, path: str, *, receive_buffer: int = 0) -> "Client":
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await loop.sock_sendall(sock, head.encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):  # byte by byte: frames follow at once
            byte = await loop.sock_recv(sock, 1)
            assert byte, answer
            answer += byte
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        return cls(sock)

    async def send(self, message: Any) -> None:
        await self.send_frame(0x1, json.dumps(message).encode())

    async def send_frame(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        head = bytes((0x80 | opcode,))
        if size < 126:
            head += bytes((0x80 | size,))
        elif size < 65_536:
            head += bytes((0x80 | 126,)) + size.to_bytes(2, "big")
        else:
            head += bytes((0x80 | 127,)) + size.to_bytes(8, "big")
        masked = head + b"\0\0\0\0" + payload  # a mask of zeros leaves the payload as it is
        await asyncio.get_running_loop().sock_sendall(self.sock, masked)

    async def read(self, most: int = 65_536) -> list[dict[str, Any]]:
        """Read once, at most ``most`` bytes; return the messages that are now complete."""
        data = await asyncio.get_running_loop().sock_recv(self.sock, most)
        if not data:
            raise EOFError
        self._buffer += data
        found = []
        while (frame := self._take()) is not None:
            opcode, payload = frame
            if opcode == 0x1:
                found.append(json.loads(payload))
            elif opcode == 0x9:
                self.pings += 1
                if not self.mute:
                    await self.send_frame(0xA, payload)
            elif opcode == 0x8:
                self.closed_with = int.from_bytes(payload[:2], "big")
        return found

    def _take(self) -> tuple[int, bytes] | None:
        data = self._buffer
        if len(data) < 2:
            return None
        size, start = data[1], 2
        assert not size & 0x80, "a server must not mask"
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        if len(data) < start + size:
            return None
        self._buffer = data[start + size :]
        return data[0] & 0x0F, data[start : start + size]

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield messages until the connection ends."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            try:
                self._waiting.extend(await self.read())
            except (EOFError, ConnectionError):
                return

    async def until(self, type_: str) -> dict[str, Any]:
        """Return the next message of ``type_``; others are passed over."""
        async with asyncio.timeout(10):
            async for message in self.messages():
                if message["type"] == type_:
                    return message
        raise AssertionError(f"the connection ended ({self.closed_with}) before a {type_}")

    def close(self) -> None:
        self.sock.close()


def seqs(frames: Iterable[dict[str, Any]]) -> list[int]:
    """Return the sequence numbers of all poses in ``frames``."""
    return [item["seq"] for frame in frames for item in frame["poses"]]
