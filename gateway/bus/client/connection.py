"""One connection to the broker: bytes in, batches out, answers back when they are durable."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, cast

from gateway.bus.client.exactly import Released
from gateway.bus.client.wire import MAX_PACKET_BYTES, Answer, Greeting, Wire
from gateway.bus.port import Batch, Item, Sink
from gateway.core.mqtt import ProtocolError, Reason, frame
from gateway.core.mqtt311 import PUBACK, PUBCOMP, PUBREC  # without a reason code the same in 5

SUBSCRIBE_ID: Final = 1  # the only SUBSCRIBE of a connection
_PINGREQ: Final = b"\xc0\x00"
_DISCONNECT: Final = b"\xe0\x00"


@dataclass(slots=True)
class Session:
    """What outlives a connection."""

    released: Released = field(default_factory=Released)
    current: "Connection | None" = None
    received: int = 0
    acknowledged: int = 0
    repeated: int = 0  # QoS 2, sent again and not handed over again


class Connection(asyncio.Protocol):
    """Decode what the broker sends, hand it to the sink, answer when it is durable.

    The futures ``answered`` (CONNACK), ``granted`` (SUBACK) and ``closed`` (the reason) tell the
    session's loop how far it is, ``prodded`` that somebody wants a sign of life from the broker;
    ``heard_at`` is when the broker last sent a byte, in the loop's time.
    """

    def __init__(self, wire: Wire, session: Session, sink: Sink) -> None:
        loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[Answer] = loop.create_future()
        self.granted: asyncio.Future[Sequence[int]] = loop.create_future()
        self.closed: asyncio.Future[str] = loop.create_future()
        self.prodded: asyncio.Future[None] = loop.create_future()
        self.heard_at = loop.time()
        self.silent = True  # not one byte came
        self.paused = False
        self._time = loop.time
        self._wire = wire
        self._session = session
        self.released = session.released
        self._sink = sink
        self._transport: asyncio.Transport | None = None
        self._begun = bytearray()  # a packet that is not whole yet
        self._whole = 0  # its size, not positive when that is not known yet
        self._twice: list[int] = []  # QoS 2 packet ids of the batch that is being decoded
        self._reason = ""

    # -- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; nothing is sent before ``greet``."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Decode one read of the socket into one batch."""
        self.heard_at = self._time()
        self.silent = False
        if self._begun:
            self._begun += data
            if len(self._begun) < self._whole:
                return  # without looking at a large packet again and again
            data = bytes(self._begun)
        items: list[Item] = []
        acks: list[bytes] = []
        twice = self._twice = []
        try:
            used = self._wire.decode(data, items, acks, self)
            self._begun = bytearray(data[used:])
            self._whole = frame(data, used, MAX_PACKET_BYTES)[1] - used
        except ProtocolError as error:
            self.abort(f"protocol error: {error.detail}")
        if items:
            self._session.received += len(items)
            self._sink.take(Batch(items, partial(self._acknowledge, acks, twice)))

    def eof_received(self) -> None:
        """Let the transport close."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everyone who waits."""
        self._transport = None
        if self._session.current is self:
            self._session.current = None
        reason = self._reason or (str(exc) if exc else "") or "closed by the broker"
        if not self.closed.done():
            self.closed.set_result(reason)

    # -- the session's loop -----------------------------------------------------------------

    def greet(self, greeting: Greeting) -> None:
        """Send CONNECT."""
        self._write(self._wire.connect(greeting))

    def subscribe(self, filters: Sequence[str]) -> None:
        """Send SUBSCRIBE; ``granted`` has the answer."""
        self._write(self._wire.subscribe(SUBSCRIBE_ID, filters))

    def ping(self) -> None:
        """Send PINGREQ."""
        self._write(_PINGREQ)

    def prod(self) -> None:
        """Ask for a sign of life now, and not only when the keep-alive wants one."""
        if not self.prodded.done():
            self.prodded.set_result(None)

    def pause(self) -> None:
        """Read nothing more from the socket."""
        if not self.paused and self._transport is not None and not self._transport.is_closing():
            self.paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again; the broker has the whole time-out again to be heard."""
        if self.paused:
            self.paused = False
            self.heard_at = self._time()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def leave(self) -> None:
        """Say goodbye and close when what was written is sent. The broker keeps the session."""
        self._reason = self._reason or "closed by us"
        if self._transport is not None:
            self._write(_DISCONNECT)
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close at once."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()

    # -- wire.Events ------------------------------------------------------------------------

    def connack(self, answer: Answer) -> None:
        """Take the answer to CONNECT; a forgotten session has no packet ids to remember."""
        if self.answered.done():
            raise ProtocolError(Reason.PROTOCOL, "a second CONNACK")
        if answer.code == 0:
            if not answer.session_present:
                self.released = self._session.released = Released()
            self._session.current = self
        self.answered.set_result(answer)

    def suback(self, codes: Sequence[int]) -> None:
        """Take the answer to SUBSCRIBE."""
        if self.granted.done():
            raise ProtocolError(Reason.PROTOCOL, "a second SUBACK")
        self.granted.set_result(codes)

    def exactly_once(self, packet_id: int) -> bool:
        """Return whether a QoS 2 PUBLISH is to be handed over; answer a repeated one if it may."""
        if self.released.take(packet_id):
            self._twice.append(packet_id)
            return True
        self._session.repeated += 1
        if self.released.again(packet_id):
            self.received((packet_id,))
        return False

    def pubrel(self, packet_id: int) -> None:
        """Release the packet id; known or not, PUBCOMP is the answer."""
        self.released.release(packet_id)
        self._write(PUBCOMP + packet_id.to_bytes(2, "big"))

    def goodbye(self, reason: str) -> None:
        """Remember why the broker closes."""
        self._reason = self._reason or f"disconnected by the broker: {reason}"

    # ---------------------------------------------------------------------------------------

    def received(self, packet_ids: Iterable[int]) -> None:
        """Send PUBRECs."""
        self._write(b"".join(PUBREC + packet_id.to_bytes(2, "big") for packet_id in packet_ids))

    def _acknowledge(self, acks: list[bytes], twice: list[int]) -> None:
        """Answer one batch, unless this connection is gone."""
        if acks:
            self._write(PUBACK + PUBACK.join(acks))
        if twice:
            owed = self.released.store(twice)
            current = self._session.current
            if current is self:
                self.received(twice)
            elif current is not None and current.released is self.released:
                current.received(owed)  # the broker sent them again on its new connection
        if self._transport is not None and not self._transport.is_closing():
            self._session.acknowledged += len(acks) + len(twice)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
