"""The transport side of a connection: writing with bounds, pausing, deadlines, the end."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol, cast

from gateway.bus.server.broker import Broker
from gateway.bus.server.session import Session
from gateway.core.mqtt import Reason

log = logging.getLogger(__name__)

_HIGH_WATER: Final = 65_536  # bytes waiting for a client from which on it counts as blocked
_LINGER_S: Final = 1.0  # for a client to read why it is cut off


class Registry(Protocol):
    """Who keeps the connections of a server."""

    paused: bool

    def joined(self, wire: "Wire") -> bool:
        """Take note of a connection; False if there are too many."""

    def left(self, wire: "Wire") -> None:
        """Forget a connection."""

    def dirty(self, wire: "Wire") -> None:
        """Call ``wire.flush`` when all that can be read now is read."""

    def hand_over(self) -> None:
        """Give the sink now what this turn of the loop has read."""

    def holding(self, wire: "Wire") -> None:
        """Take note that ``wire`` has PUBLISHes to ``release`` when the pause is over."""


class Wire(asyncio.Protocol):
    """One connection, over any asyncio transport. Nothing here is for one version of MQTT."""

    __slots__ = (
        "_accepted", "_born", "_choked", "_deadline", "_full", "_heard", "_moved_at", "_out",
        "_pending", "_seen_at", "_transport", "_written", "blocked", "broker", "closing",
        "keep_alive_s", "max_packet", "registry", "session",
    )  # fmt: skip

    def __init__(self, broker: Broker, registry: Registry) -> None:
        self.broker = broker
        self.registry = registry
        self.session: Session | None = None  # set by CONNECT
        self.max_packet: int | None = None
        self.keep_alive_s = 0.0  # 1.5 times what the client said; 0: none
        self.blocked = False  # it does not read as fast as it is written to
        self.closing = False
        self._transport: asyncio.Transport
        self._full = False  # not read, because enough of it is held
        self._choked = False  # not read, because it does not read
        self._heard = True  # since the last sweep
        self._seen_at = self._born = self._moved_at = self._deadline = 0.0
        self._out: list[bytes] = []  # to be written at the end of this turn of the loop
        self._pending = self._written = self._accepted = 0  # bytes

    def release(self) -> None:
        """Take what was held while the server was paused."""
        raise NotImplementedError

    def farewell(self, reason: Reason, detail: str) -> bytes:
        """Return what a client is told that is cut off."""
        raise NotImplementedError

    def gone(self, now: float) -> None:
        """Leave the session; called once, whatever the cause."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the time for CONNECT."""
        self._transport = cast(asyncio.Transport, transport)
        high = min(_HIGH_WATER, self.broker.limits.queue_bytes)
        self._transport.set_write_buffer_limits(high=high)
        self._seen_at = self._born = self._moved_at = asyncio.get_running_loop().time()
        if not self.registry.joined(self):
            self.closing = True
            self._transport.abort()

    # Reading

    def hold_back(self) -> None:
        """Stop reading until ``go_on``: enough is held."""
        if not self._full:
            self._full = True
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        self._full = False
        self._read_again()

    def choke(self) -> None:
        """Stop reading a client that sends and does not read, so that answers do not pile up."""
        if not self.closing and self._waiting() > self.broker.limits.queue_bytes:
            self._choked = True
            self._transport.pause_reading()

    def _read_again(self) -> None:
        if not (self._full or self._choked or self.closing):
            self._transport.resume_reading()

    # Writing

    def send(self, data: bytes) -> None:
        """Write ``data``, unless the connection is closing.

        What one turn of the loop has for a client is one system call: they cost more than all else.
        """
        if self.closing:
            return
        if not self._out:
            self.registry.dirty(self)
        self._out.append(data)
        self._pending += len(data)
        if self._pending > _HIGH_WATER:
            self.flush()

    def flush(self) -> None:
        """Hand to the transport what ``send`` took."""
        out = self._out
        if not out or self.closing:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self._pending = 0
        self._written += len(data)
        self._transport.write(data)

    def _waiting(self) -> int:
        return self._pending + self._transport.get_write_buffer_size()

    def room(self, size: int) -> bool:
        """Tell whether ``size`` more bytes may wait."""
        return self._waiting() + size <= self.broker.limits.queue_bytes

    def soon(self, call: Callable[[], None]) -> None:
        """Run ``call`` in the next turn of the loop."""
        asyncio.get_running_loop().call_soon(call)

    def pause_writing(self) -> None:
        """Stop deliveries."""
        self.blocked = True

    def resume_writing(self) -> None:
        """Deliver what waited."""
        self.blocked = False
        if self._choked:
            self._choked = False
            self._read_again()
        if self.session is not None and not self.closing:
            self.session.pump()

    # Ending

    def refuse(self, reason: Reason, detail: str) -> None:
        """Cut the client off and say why."""
        if self.closing:
            return
        log.info("mqtt client cut off: client=%s reason=%s detail=%s", self, reason.name, detail)
        self.send(self.farewell(reason, detail))
        self.shut(linger=True)

    def shut(self, *, linger: bool) -> None:
        """Close. Lingering: a close with unread input would reset the connection, and the client
        might never read why; so only our half is closed until it has closed its own.
        """
        now = asyncio.get_running_loop().time()
        self.flush()
        self._end(now)
        self._deadline = now + _LINGER_S
        if linger and self._transport.can_write_eof():
            self._transport.write_eof()
            if self._full or self._choked:
                self._transport.resume_reading()
        else:
            self._transport.close()

    def _end(self, now: float) -> None:
        self.closing = True
        self.gone(now)

    def stop(self) -> None:
        """Say goodbye because the server stops, and close."""
        if not self.closing:
            if self.session is not None:
                self.send(self.farewell(Reason.SHUTTING_DOWN, ""))
            self.flush()
            self._end(asyncio.get_running_loop().time())
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what is not written is lost."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave, if that was not done."""
        self.registry.left(self)
        if not self.closing:
            self._end(asyncio.get_running_loop().time())

    def sweep(self, now: float) -> None:
        """Enforce the deadlines: CONNECT, keep-alive, a client that does not read, lingering."""
        limits = self.broker.limits
        waiting = self._transport.get_write_buffer_size()
        accepted = self._written - waiting
        if not waiting or accepted != self._accepted:
            self._accepted = accepted
            self._moved_at = now
        if self.closing:
            if now >= self._deadline:
                self._transport.abort()
        elif now - self._moved_at > limits.write_s:
            log.info("mqtt client does not read: client=%s write_s=%s", self, limits.write_s)
            self._transport.abort()
        elif self.session is None:
            if now - self._born > limits.connect_s:
                self._transport.abort()
        elif self._heard or self._full or self._choked:  # silence that we made does not count
            self._heard = False
            self._seen_at = now
        elif self.keep_alive_s and now - self._seen_at > self.keep_alive_s:
            self.refuse(Reason.KEEP_ALIVE, "nothing heard for 1.5 times the keep-alive")
