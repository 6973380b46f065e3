"""The sending side of one WebSocket: frames made elsewhere, pings, and whether anybody is there."""

import asyncio
from typing import Final

from gateway.aio.tcp import look
from gateway.core import wsframe

GOING_AWAY: Final = 1001
NOT_READING: Final = 4408
TRY_LATER: Final = 1013
MOST_BUFFERED: Final = 262_144  # bytes of answers that a client may leave unread


class Link:
    """One reader. Writing never waits: a reader with something in ``buffered`` is behind.

    A client that never answers a ping is ``mute``; what its kernel acknowledges then counts.
    """

    __slots__ = ("acked", "answers", "closed", "number", "ping_at", "pinged_at", "progress_at",
                 "transport")  # fmt: skip

    def __init__(self, transport: asyncio.Transport, now: float) -> None:
        self.transport = transport
        self.answers = False  # it has answered a ping before
        self.closed = False
        self.number = -1  # of the last ping
        self.ping_at = 0.0  # when the oldest ping without an answer was sent; 0: none
        self.pinged_at = now  # when the last ping was sent
        self.progress_at = now
        self.acked = 0

    @property
    def buffered(self) -> int:
        """Bytes that the kernel did not take yet."""
        return self.transport.get_write_buffer_size()

    def write(self, frame: bytes) -> None:
        """Send a whole frame, after what was sent before."""
        if self.closed or self.transport.is_closing():
            return
        if self.buffered > MOST_BUFFERED:
            self.cut()
            return
        self.transport.write(frame)

    def pinged(self, number: int, now: float) -> None:
        """Note that the ping ``number`` was sent."""
        self.number = number
        self.pinged_at = now
        if not self.ping_at:
            self.ping_at = now

    def ping(self, number: int, now: float) -> None:
        """Send a ping."""
        self.write(wsframe.ping(number))
        self.pinged(number, now)

    def heard(self, number: int, now: float) -> None:
        """Note a pong."""
        self.answers = True
        self.progress_at = now
        self.ping_at = 0.0 if number >= self.number else now

    def alive(self, now: float, *, write_s: float) -> bool:
        """Return False if there was neither a pong nor an acknowledged byte for ``write_s``."""
        if not self.ping_at or now - self.ping_at < 1.0:
            return True
        far = look(self.transport)
        if far is not None and far.acked > self.acked:
            self.acked = far.acked
            self.progress_at = now
        if not self.answers and (self.buffered == 0 if far is None else far.queued == 0):
            self.ping_at = 0.0  # mute, and its kernel has everything: ask again in time
            return True
        return now - max(self.ping_at, self.progress_at) < write_s

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame; nothing is sent after it."""
        if not self.closed and not self.transport.is_closing():
            self.transport.write(wsframe.close(code, reason))
        self.closed = True

    def cut(self) -> None:
        """End the connection of a client that does not read: 4408 if it still gets through."""
        if self.buffered == 0:
            self.close(NOT_READING, "not reading")
        self.closed = True
        self.transport.abort()
