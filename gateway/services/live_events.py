"""What happens, in order: to WebSockets and SSE streams, with a bounded history to resume from.

Events are not conflated. A reader whose queue is full is disconnected and resumes by the id of the
last event it got.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

import msgspec

from gateway.aio.link import Link
from gateway.config.model import Live as LiveConfig
from gateway.core import sse, wsframe
from gateway.services.live_happening import TYPE, Choice, Happening
from gateway.services.live_listeners import SocketListener, StreamListener
from gateway.services.live_poses import Update

CHUNK: Final = 128  # events of one flush, so that a flood cannot hold the loop
RETRY_QUEUES_S: Final = 0.02
MOST_PENDING: Final = 20  # times CHUNK; readers further behind are disconnected

_encode: Final = msgspec.json.Encoder().encode

monotonic = time.monotonic


class EventHub:
    """Copy each event to every listener that wants it. Publishing never waits."""

    def __init__(self, config: LiveConfig, *, epoch: str) -> None:
        self._epoch = epoch
        self._most = config.event_queue
        self._chunk = min(CHUNK, config.event_queue)
        self._tick_s = config.tick_ms / 1000
        self._count = 0
        self._history: deque[Happening] = deque(maxlen=config.event_history)
        self._pending: deque[Happening] = deque()
        self.sockets: dict[SocketListener, None] = {}
        self.streams: dict[StreamListener, None] = {}
        self._numbers = itertools.count(1).__next__
        self._scheduled = self._draining = False
        self._sent = self._disconnected = self._resumed = self._reset = 0

    def add(self, updates: Iterable[Update]) -> None:
        """Take messages of robots, of the kinds in TYPE."""
        for kind, robot, payload, ts, rts in updates:
            self._add(TYPE[kind], robot, payload, ts, rts)
        self._schedule()

    def announce(self, type_: str, robot: str | None, data: Mapping[str, Any], ts: int) -> None:
        """Take something that the gateway itself has to say (``schedule``, ``map``, ``alert``)."""
        self._add(type_, robot, data, ts, ts)
        self._schedule()

    def _add(self, type_: str, robot: str | None, data: Any, ts: int, rts: int) -> None:
        self._count += 1
        item = Happening(self._count, type_, robot, data, ts, rts)
        self._history.append(item)
        if self.sockets or self.streams:
            self._pending.append(item)

    def _schedule(self) -> None:
        if self._pending and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        pending = self._pending
        if len(pending) > self._chunk * MOST_PENDING:
            pending.clear()
            self._disconnect_all()
            return
        items = [pending.popleft() for _ in range(min(self._chunk, len(pending)))]
        sockets: dict[Choice, list[bytes]] = {}
        streams: dict[Choice, list[bytes]] = {}
        for socket in list(self.sockets):
            frames = sockets.get(socket.choice)
            if frames is None:
                frames = sockets[socket.choice] = self._socket_frames(socket.choice.pick(items))
            if frames:
                self._to_socket(socket, frames)
        for stream in list(self.streams):
            frames = streams.get(stream.choice)
            if frames is None:
                frames = streams[stream.choice] = self._stream_frames(stream.choice.pick(items))
            if frames:
                self._to_stream(stream, frames)
        if pending:
            self._scheduled = True
            asyncio.get_running_loop().call_later(self._tick_s, self._flush)

    def _socket_frames(self, items: list[Happening]) -> list[bytes]:
        return [wsframe.text(item.json(self._epoch)) for item in items]

    def _stream_frames(self, items: list[Happening]) -> list[bytes]:
        return [item.as_sse(self._epoch) for item in items]

    def _to_socket(self, socket: SocketListener, frames: list[bytes]) -> None:
        self._sent += len(frames)
        if socket.queue is None and socket.buffered == 0:
            socket.write(b"".join(frames))
            return
        waiting = socket.queue or []
        if len(waiting) + len(frames) > self._most:
            self._disconnected += 1
            self.sockets.pop(socket, None)
            socket.cut()
            return
        socket.queue = waiting + frames
        if not self._draining:
            self._draining = True
            asyncio.get_running_loop().call_later(RETRY_QUEUES_S, self._drain)

    def _to_stream(self, stream: StreamListener, frames: list[bytes]) -> None:
        self._sent += len(frames)
        if not stream.offer(frames, self._most):
            self._disconnected += 1
            self.streams.pop(stream, None)

    def _drain(self) -> None:
        self._draining = False
        for socket in self.sockets:
            if socket.queue is not None:
                if socket.buffered == 0:
                    socket.write(b"".join(socket.queue))
                    socket.queue = None
                else:
                    self._draining = True
        if self._draining:
            asyncio.get_running_loop().call_later(RETRY_QUEUES_S, self._drain)

    def _disconnect_all(self) -> None:
        self._disconnected += len(self.sockets) + len(self.streams)
        for socket in self.sockets:
            socket.cut()
        for stream in self.streams:
            stream.end()
        self.sockets.clear()
        self.streams.clear()

    # Listeners come and go.

    def join_socket(
        self, transport: asyncio.Transport, choice: Choice, last_id: str | None
    ) -> SocketListener:
        """Take a WebSocket; ``last_id`` as in ``missed``."""
        socket = SocketListener(transport, choice, monotonic())
        if last_id is not None:
            items = self._since(last_id)
            if items is None:
                socket.write(wsframe.text(_encode({"type": "reset", "epoch": self._epoch})))
            elif frames := self._socket_frames(choice.pick(items)):
                socket.write(b"".join(frames))
        self._caught_up()
        self.sockets[socket] = None
        return socket

    def join_stream(self, choice: Choice, last_id: str | None) -> tuple[StreamListener, bytes]:
        """Take an SSE stream. Returns it, and what to write first: what it missed, or a reset."""
        first = b""
        if last_id is not None:
            items = self._since(last_id)
            if items is None:
                first = sse.encode(
                    sse.SseEvent("{}", event="reset", id=f"{self._epoch}-{self._count}")
                )
            else:
                first = b"".join(self._stream_frames(choice.pick(items)))
        stream = StreamListener(choice, monotonic())
        self._caught_up()
        self.streams[stream] = None
        return stream, first

    def _caught_up(self) -> None:
        """Send what is pending before a listener joins that already has it."""
        while self._pending and (self.sockets or self.streams):
            self._flush()

    def leave(self, listener: SocketListener | StreamListener) -> None:
        """Forget a listener."""
        if isinstance(listener, StreamListener):
            self.streams.pop(listener, None)
        else:
            self.sockets.pop(listener, None)

    def _since(self, last_id: str) -> list[Happening] | None:
        epoch, _, number = last_id.rpartition("-")
        self._resumed += 1
        if epoch == self._epoch and number.isdecimal() and len(number) < 19:
            missing = self._count - int(number)
            if 0 <= missing <= len(self._history):
                return list(islice(self._history, len(self._history) - missing, None))
        self._reset += 1
        return None

    def ping(self, link: Link, now: float) -> None:
        """Ask a WebSocket whether it is there."""
        link.ping(self._numbers(), now)

    def figures(self) -> dict[str, int | float]:
        """Return counters since the start, and the listeners now."""
        return {
            "event_sockets": len(self.sockets),
            "event_streams": len(self.streams),
            "events": self._count,
            "events_sent": self._sent,
            "event_readers_disconnected": self._disconnected,
            "event_resumes": self._resumed,
            "event_resets": self._reset,
        }
