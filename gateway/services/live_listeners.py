"""Who hears events: WebSockets, written to directly, and SSE streams, which a handler writes."""

import asyncio
import time
from collections.abc import Callable, Iterable

from gateway.aio.link import Link
from gateway.config.model import Live as LiveConfig
from gateway.core import sse
from gateway.services.live_happening import Choice

monotonic = time.monotonic


class SocketListener(Link):
    """A WebSocket that hears events."""

    __slots__ = ("choice", "queue")

    def __init__(self, transport: asyncio.Transport, choice: Choice, now: float) -> None:
        super().__init__(transport, now)
        self.choice = choice
        self.queue: list[bytes] | None = None


class StreamListener:
    """An SSE stream: ``await next()`` for what to write."""

    __slots__ = ("_queue", "_waiter", "choice", "ended", "transport", "written_at")

    def __init__(self, choice: Choice, now: float) -> None:
        self.choice = choice
        self.ended = False
        self.transport: asyncio.Transport | None = None  # what to abort if it does not end
        self.written_at = now
        self._queue: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None

    async def next(self) -> bytes | None:
        """Wait for bytes to write; None: the stream has ended."""
        while not self._queue:
            if self.ended:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        queue, self._queue = self._queue, []
        self.written_at = monotonic()
        return b"".join(queue)

    def offer(self, frames: list[bytes], most: int) -> bool:
        """Queue ``frames``; False if there are too many: then the stream ends instead."""
        if len(self._queue) + len(frames) > most:
            self.end()
            return False
        self._queue += frames
        self._wake()
        return True

    def beat(self, now: float, heartbeat_s: float) -> None:
        """Write a comment if nothing was written for ``heartbeat_s``."""
        if now - self.written_at >= heartbeat_s and not self._queue:
            self._queue.append(sse.HEARTBEAT)
            self._wake()

    def end(self, last: bytes = b"") -> None:
        """End the stream after what is queued, and ``last``."""
        if last:
            self._queue.append(last)
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def look_after(
    links: Iterable[Link], ping: Callable[[Link, float], None], now: float, config: LiveConfig
) -> int:
    """Ping those that were quiet for long, cut those that are not there; return how many."""
    cut = 0
    for link in links:
        if not link.alive(now, write_s=config.write_s):
            cut += 1
            link.cut()
        elif not link.ping_at and now - link.pinged_at >= config.ping_s:
            ping(link, now)
    return cut
