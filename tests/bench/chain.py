"""A chain of thirty lines to try the generators on: MQTT in, WebSocket out, faults on demand."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Chain:
    """``deliver(seq)`` is the seq that arrives, None: none does; ``ack`` answers a packet id."""

    deliver: Callable[[int], int | None] = lambda seq: seq
    ack: Callable[[int], bytes] = lambda packet_id: b"\x40\x02" + packet_id.to_bytes(2, "big")
    mqtt: int = 0
    http: int = 0
    _readers: list[web.WebSocketResponse] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _ready: threading.Event = field(default_factory=threading.Event)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def freeze(self, after_s: float, for_s: float) -> None:
        """Stop everything ``after_s`` from now; the sockets stay open."""
        self._loop.call_soon_threadsafe(self._loop.call_later, after_s, time.sleep, for_s)

    async def serve(self) -> None:
        app = web.Application()
        app.router.add_get("/ws/coordinates", self._coordinates)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.http = runner.addresses[0][1]
        server = await asyncio.start_server(self._device, "127.0.0.1", 0)
        self.mqtt = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for reader in self._readers:
            await reader.close()
        await runner.cleanup()

    async def _coordinates(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        self._readers.append(socket)
        async for _ in socket:
            pass
        return socket

    async def _device(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                kind, size, shift = (await reader.readexactly(1))[0], 0, 0
                while True:
                    digit = (await reader.readexactly(1))[0]
                    size |= (digit & 127) << shift
                    shift += 7
                    if digit < 128:
                        break
                body = await reader.readexactly(size)
                if kind == 0x10:
                    writer.write(b"\x20\x02\x00\x00")
                elif kind & 0xF0 == 0x30:
                    await self._publish(body, writer, qos=kind >> 1 & 3)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            writer.close()

    async def _publish(self, body: bytes, writer: asyncio.StreamWriter, *, qos: int) -> None:
        end = 2 + int.from_bytes(body[:2], "big")
        robot = body[2:end].decode().split("/")[-2]
        if qos:
            writer.write(self.ack(int.from_bytes(body[end : end + 2], "big")))
            end += 2
        seq = self.deliver(json.loads(body[end:])["seq"])
        if seq is not None:
            text = json.dumps({"type": "pose", "poses": [{"id": robot, "seq": seq}]})
            for socket in self._readers:
                await socket.send_str(text)

    @contextmanager
    def running(self) -> Iterator["Chain"]:
        """Serve in a thread with a loop of its own."""

        def run() -> None:
            self._loop.run_until_complete(self.serve())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())

        thread = threading.Thread(target=run)
        thread.start()
        assert self._ready.wait(10)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(10)
            self._loop.close()
