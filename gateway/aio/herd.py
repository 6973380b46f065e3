"""Many quiet TCP connections on one epoll, read together: for servers of small messages.

An event loop wakes up for every socket that becomes readable. With thousands of devices that send
a hundred bytes now and then, waking costs more than all that is done with what came: 5,000 messages
a second of 200 connections took 40 % of a core, half of it for 4,500 wake-ups. Here the loop sees
one descriptor. After a round that brought little it looks away for PAUSE_S, and the next round has
what came meanwhile; a first message after silence is read at once, and a flood is never delayed.

Linux. The transports are asyncio's, as far as a protocol over TCP needs them.
"""

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Final

from gateway.aio.herd_transport import WRITE, HerdTransport

PAUSE_S: Final = 0.002  # the resolution of the loop's timers is a millisecond
LITTLE: Final = 16_384  # bytes of one round; after more than that there is no pause
MOST: Final = 1_024  # sockets in one round
_READ: Final = 262_144  # bytes of one socket in one round
_ACCEPT: Final = 64  # connections in one turn of the loop
_AGAIN_S: Final = 0.1  # after an accept that failed: no descriptors left


class Herd:
    """The connections of one or more listening sockets."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._transports: dict[int, HerdTransport] = {}
        self._listeners: set[socket.socket] = set()
        self._buffer = bytearray(_READ)
        self._view = memoryview(self._buffer)
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def listen(
        self, sock: socket.socket, accept: Callable[[], asyncio.Protocol], *, backlog: int
    ) -> None:
        """Take connections of the bound ``sock`` until ``close``; ``accept`` makes the protocols.

        Raises:
            OSError: the address cannot be listened on.
        """
        sock.settimeout(0)
        sock.listen(backlog)
        self._listeners.add(sock)
        self._loop.add_reader(sock.fileno(), self._accept, sock, accept)

    def _accept(self, listener: socket.socket, accept: Callable[[], asyncio.Protocol]) -> None:
        for _ in range(_ACCEPT):
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # out of descriptors or memory: those who wait go on waiting
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(_AGAIN_S, self._accept_again, listener, accept)
                return
            sock.settimeout(0)
            HerdTransport(self, self._loop, sock, accept())

    def _accept_again(
        self, listener: socket.socket, accept: Callable[[], asyncio.Protocol]
    ) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._accept, listener, accept)

    def _ready(self) -> None:
        """Serve every socket that is ready."""
        transports = self._transports
        taken = 0
        events = self._epoll.poll(0, MOST)
        for fd, mask in events:
            transport = transports.get(fd)
            if transport is None:  # closed by one before it
                continue
            if mask & WRITE:
                transport.flush()
            if mask & ~WRITE:
                taken += transport.receive(self._buffer, self._view)
        if taken < LITTLE and len(events) < MOST and not self._closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._timer = self._loop.call_later(PAUSE_S, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._closed:
            self._loop.add_reader(self._epoll.fileno(), self._ready)

    def watch(self, fd: int, mask: int, transport: "HerdTransport") -> None:
        """Wait for ``mask`` from now on."""
        if fd in self._transports:
            self._epoll.modify(fd, mask)
        else:
            self._transports[fd] = transport
            self._epoll.register(fd, mask)

    def forget(self, fd: int) -> None:
        """Wait no more."""
        if self._transports.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def stop_listening(self) -> None:
        """Close the listening sockets; connections stay."""
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners.clear()

    def close(self) -> None:
        """Close everything; what is not written is lost."""
        self.stop_listening()
        for transport in list(self._transports.values()):
            transport.abort()
        self._closed = True
        if self._timer is None:
            self._loop.remove_reader(self._epoll.fileno())
        else:
            self._timer.cancel()
        self._epoll.close()
