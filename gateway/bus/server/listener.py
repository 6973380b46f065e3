"""The listening socket, and the server as the ``Bus`` of the gateway."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from gateway.aio.herd import Herd
from gateway.bus.port import Batch, BusStatus, Sink
from gateway.bus.server.access import Access
from gateway.bus.server.broker import Broker, nothing
from gateway.bus.server.connection import Connection
from gateway.bus.server.dialect import Dialect
from gateway.bus.server.message import Message
from gateway.bus.server.round import Round
from gateway.bus.server.v5 import V5
from gateway.bus.server.v311 import V311
from gateway.bus.server.wire import Wire
from gateway.config.model import EmbeddedBus
from gateway.core.errors import Unavailable

log = logging.getLogger(__name__)

_BACKLOG: Final = 1_024
_SPARE: Final = 64  # connections above the limit of clients that are told so, and not just reset
_GOODBYE_S: Final = 0.4  # for the last bytes of all clients when the server stops
_SWEEP_S: Final = 0.5
_SLICE_S: Final = 0.005  # of the loop at once, for what was held while paused
_KERNEL_BYTES: Final = 131_072
"""Kernel buffer per connection and direction (Linux takes twice that). Reading: what one client can
have read in one turn of the loop, so that a flood from one leaves the others their share. Writing:
left alone it grows to megabytes for a client that does not read, beyond every limit here."""


class EmbeddedServer:
    """An MQTT server of versions 3.1.1 and 5; ``gateway.bus.port.Bus`` says what it promises.

    While paused it takes connections, pings, subscriptions and acknowledgements, and delivers to
    subscribers; PUBLISHes wait, a little of them here and the rest at the clients.
    """

    def __init__(self, config: EmbeddedBus, sink: Sink, access: Access | None) -> None:
        self.paused = False
        self.address = (config.host, config.port)
        """Where it listens, once it is open."""
        self._round = Round(sink)
        self._broker = Broker(self._round, config.limits, access)
        self._dialects: dict[int, Dialect] = {
            4: V311(levels=config.limits.topic_levels),
            5: V5(config.limits),
        }
        self._wires: set[Wire] = set()
        self._holding: dict[Wire, None] = {}
        self._dirty: list[Wire] = []
        self._loop = asyncio.get_running_loop()
        self._empty = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._severed = False
        limits = config.limits
        self._sweep_s = max(0.02, min(_SWEEP_S, limits.connect_s / 4, limits.write_s / 4))

    def accept(self) -> Connection:
        """Return the protocol for a new connection, over any transport."""
        return Connection(self._broker, self, self._dialects)

    # Registry

    def joined(self, wire: Wire) -> bool:
        """Take note of a connection; False if there are far too many, or none is wanted."""
        self._wires.add(wire)
        return not self._severed and len(self._wires) <= self._broker.limits.clients + _SPARE

    def left(self, wire: Wire) -> None:
        """Forget a connection."""
        self._wires.discard(wire)
        self._holding.pop(wire, None)
        if not self._wires:
            self._empty.set()

    def dirty(self, wire: Wire) -> None:
        """Flush ``wire`` after this turn of the loop."""
        if not self._dirty:
            self._loop.call_soon(self._flush)
        self._dirty.append(wire)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for wire in dirty:
            wire.flush()

    def hand_over(self) -> None:
        """Give the sink now what this turn of the loop has read."""
        self._round.flush()

    def holding(self, wire: Wire) -> None:
        """Take note that ``wire`` has something to release."""
        self._holding[wire] = None

    # Bus

    def pause(self) -> None:
        """Hand over no more PUBLISHes."""
        self.paused = True

    def resume(self) -> None:
        """Hand over what was held, and go on."""
        if self.paused:
            self.paused = False
            if self._holding:
                self._loop.call_soon(self._release)

    def _release(self) -> None:
        until = self._loop.time() + _SLICE_S
        while self._holding and not self.paused:
            wire = next(iter(self._holding))
            del self._holding[wire]
            wire.release()
            if self._loop.time() > until:
                self._loop.call_soon(self._release)
                return

    async def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False
    ) -> None:
        """Send to subscribers; they are in this process, so it is done at once."""
        self._broker.publish(Message(topic, payload, qos, retain=retain))

    async def probe(self, topic: str, payload: bytes) -> None:
        """Hand a batch to the sink, as a connection does."""
        if self._severed or self.paused:
            raise Unavailable(f"The MQTT server is {self._state}.", dependency="bus")
        self._broker.sink.take(Batch([(topic, payload)], nothing))

    def sever(self, cut: bool) -> None:  # noqa: FBT001 - see port.Bus
        """Cut off every device, and every one that comes, until this is undone."""
        self._severed = cut
        if cut:
            for wire in list(self._wires):
                wire.abort()

    @property
    def _state(self) -> str:
        if self._severed:
            return "cut off by a drill"
        return "paused" if self.paused else "listening"

    def status(self) -> BusStatus:
        """Return how the bus is."""
        host, port = self.address
        return BusStatus(
            connected=not (self.paused or self._severed),
            detail=f"{self._state} on {host}:{port}",
            clients=self._broker.clients,
        )

    def figures(self) -> Mapping[str, int]:
        """Return the counters and gauges of this moment."""
        return self._broker.figures()

    # Life

    def sweep(self) -> None:
        """Enforce every deadline, again and again."""
        self._timer = self._loop.call_later(self._sweep_s, self.sweep)
        now = self._loop.time()
        for wire in list(self._wires):
            wire.sweep(now)
        self._broker.sweep(now)

    async def stop(self) -> None:
        """Say goodbye to all, give the last bytes a moment, and cut off who did not take them."""
        if self._timer is not None:
            self._timer.cancel()
        self._broker.closing = True
        wires = list(self._wires)
        for wire in wires:
            wire.stop()
        if self._wires:
            self._empty.clear()
            try:
                async with asyncio.timeout(_GOODBYE_S):
                    await self._empty.wait()
            except TimeoutError:
                for wire in list(self._wires):
                    wire.abort()


async def _listen(host: str, port: int) -> socket.socket:
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, proto, _, address = found[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Set here, these hold for every connection that is accepted.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(address)
        sock.settimeout(0)
    except OSError:
        sock.close()
        raise
    return sock


@asynccontextmanager
async def serve(
    config: EmbeddedBus, sink: Sink, *, access: Access | None = None
) -> AsyncIterator[EmbeddedServer]:
    """Open the server; it listens until the block is left.

    Args:
        access: None lets everyone in, which only a listener on loopback may.
    Raises:
        OSError: the address cannot be listened on.
    """
    server = EmbeddedServer(config, sink, access)
    sock = await _listen(config.host, config.port)
    herd = Herd()
    try:
        herd.listen(sock, server.accept, backlog=_BACKLOG)
        server.address = sock.getsockname()[:2]
        server.sweep()
        log.info("mqtt listening: host=%s port=%d", *server.address)
        try:
            yield server
        finally:
            herd.stop_listening()
            await server.stop()
            server.hand_over()
    finally:
        sock.close()
        herd.close()
