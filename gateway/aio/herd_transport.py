"""A connection of a herd as a transport: gateway.aio.herd reads it together with the others."""

import asyncio
import select
import socket
from typing import Any, Final, Protocol

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
_HIGH: Final = 65_536  # bytes kept from which on the protocol is told to pause, unless it says


class Watcher(Protocol):
    """Who waits for what a socket can do."""

    def watch(self, fd: int, mask: int, transport: "HerdTransport") -> None: ...
    def forget(self, fd: int) -> None: ...


class HerdTransport(asyncio.Transport):
    """One connection. Source of the behaviour: asyncio's documentation of transports."""

    __slots__ = (
        "_closing", "_eof", "_fd", "_herd", "_high", "_loop", "_lost", "_low", "_mask", "_out",
        "_paused_protocol", "_protocol", "_reading", "_sock",
    )  # fmt: skip

    def __init__(
        self,
        herd: Watcher,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.Protocol,
    ) -> None:
        super().__init__()
        self._herd = herd
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._out = bytearray()  # what the kernel did not take
        self._high, self._low = _HIGH, _HIGH // 4
        self._paused_protocol = False
        self._reading = True
        self._closing = False
        self._eof = False  # nothing more will be written
        self._lost = False
        self._mask = READ
        herd.watch(self._fd, READ, self)
        protocol.connection_made(self)

    def _arm(self) -> None:
        mask = (READ if self._reading and not self._closing else 0) | (WRITE if self._out else 0)
        if mask != self._mask and not self._lost:
            self._mask = mask
            self._herd.watch(self._fd, mask, self)

    # Reading

    def receive(self, buffer: bytearray, view: memoryview) -> int:
        """Read once and hand it over; return how many bytes came."""
        if self._closing or not self._reading:
            if not self._out:  # nobody reads or writes: it is an error or a hang-up
                self._lose(None)
            return 0
        try:
            count = self._sock.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as exc:
            self._lose(exc)
            return 0
        if count:
            self._protocol.data_received(bytes(view[:count]))
        elif not self._protocol.eof_received():
            self.close()
        else:
            self.pause_reading()
        return count

    def is_reading(self) -> bool:
        """Return whether data is handed over."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Hand over nothing until ``resume_reading``; idempotent."""
        self._reading = False
        self._arm()

    def resume_reading(self) -> None:
        """Hand over again; idempotent."""
        self._reading = True
        self._arm()

    # Writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, or keep what the kernel does not take."""
        if self._lost or self._eof or not data:
            return
        if not self._out:
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as exc:
                self._lose(exc)
                return
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
        self._out += data
        self._arm()
        if len(self._out) > self._high and not self._paused_protocol:
            self._paused_protocol = True
            self._protocol.pause_writing()

    def flush(self) -> None:
        """Send what is kept; the socket takes something."""
        try:
            sent = self._sock.send(self._out)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._lose(exc)
            return
        del self._out[:sent]
        if self._paused_protocol and len(self._out) <= self._low:
            self._paused_protocol = False
            self._protocol.resume_writing()
        if not self._out and not self._lost:
            if self._closing:
                self._lose(None)
            elif self._eof:
                self._shut()
        self._arm()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are kept."""
        return len(self._out)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return (low, high)."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol is told to pause writing, and to go on."""
        if high is None:
            high = _HIGH if low is None else 4 * low
        self._high, self._low = high, high // 4 if low is None else low

    def can_write_eof(self) -> bool:
        """Return True: TCP can."""
        return True

    def write_eof(self) -> None:
        """Close our half once all is sent."""
        if not (self._eof or self._closing or self._lost):
            self._eof = True
            if not self._out:
                self._shut()

    def _shut(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            self._lose(exc)

    # Ending

    def is_closing(self) -> bool:
        """Return whether it is closed, or about to be."""
        return self._closing or self._lost

    def close(self) -> None:
        """Close once all is sent."""
        if not self.is_closing():
            self._closing = True
            if self._out:
                self._arm()
            else:
                self._lose(None)

    def abort(self) -> None:
        """Close at once."""
        self._lose(None)

    def _lose(self, exc: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._out.clear()
        self._herd.forget(self._fd)
        self._loop.call_soon(self._tell, exc)

    def _tell(self, exc: Exception | None) -> None:
        try:
            self._protocol.connection_lost(exc)
        finally:
            self._sock.close()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return "socket", "peername" or "sockname"."""
        try:
            match name:
                case "socket":
                    return self._sock
                case "peername":
                    return self._sock.getpeername()
                case "sockname":
                    return self._sock.getsockname()
                case _:
                    return default
        except OSError:  # it is gone already
            return default

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return self._protocol
