"""What the server knows of a client, connected or not: its subscriptions and what is on its way."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from gateway.bus.server.figures import Counts
from gateway.bus.server.message import Message
from gateway.config.model import BusLimits
from gateway.core import mqtt311
from gateway.core.mqtt import ProtocolError, Reason, Request, Will

_IDS: Final = 65_535
_TURN: Final = 256  # messages of one client before other clients get the loop


class Line(Protocol):
    """The connection of a client, as its session sees it."""

    version: int
    blocked: bool  # the client does not read as fast as it is written to
    max_packet: int | None

    def send(self, data: bytes) -> None:
        """Write."""

    def room(self, size: int) -> bool:
        """Tell whether ``size`` more bytes may wait for a client that is blocked."""

    def soon(self, call: Callable[[], None]) -> None:
        """Run ``call`` after the other connections had their turn."""


class Outgoing:
    """A QoS 1 or 2 message that the client has not confirmed."""

    __slots__ = ("message", "qos", "released", "retain", "sent")

    def __init__(self, message: Message, qos: int, *, retain: bool) -> None:
        self.message = message
        self.qos = qos
        self.retain = retain
        self.sent = True  # on the present connection
        self.released = False  # QoS 2: PUBREC is here


class Session:
    """Delivery to one client, in order, at most ``window`` messages unconfirmed.

    Full: the oldest waiting QoS 1 or 2 message is dropped and counted ("queue_full"); QoS 0 is
    dropped when the client is slow ("slow_client") and not kept at all while it is away.
    """

    __slots__ = (
        "_counts", "_inflight", "_last_id", "_limit", "_outstanding", "_queue", "_replays",
        "_resend", "_window", "client_id", "expires_at", "expiry_s", "line", "received",
        "subscriptions", "will", "will_at",
    )  # fmt: skip

    def __init__(self, client_id: str, limits: BusLimits, counts: Counts) -> None:
        self.client_id = client_id
        self.line: Line | None = None
        self.subscriptions: dict[str, Request] = {}
        self.received: dict[int, Line | None] = {}
        """QoS 2 packet ids of the client until it releases them; the value is who is owed a PUBREC,
        None once that is answered and the message durable."""
        self.expiry_s = 0
        self.expires_at = 0.0
        self.will: Will | None = None  # waits for its delay
        self.will_at = 0.0
        self._counts = counts
        self._limit = limits.queue_messages
        self._inflight: dict[int, Outgoing] = {}
        self._queue: deque[tuple[Message, int, bool]] = deque()
        self._resend: deque[int] = deque()
        self._replays: deque[Iterator[tuple[Message, int]]] = deque()
        self._outstanding = 0
        self._window = 0
        self._last_id = 0

    @property
    def queued(self) -> int:
        """Return how many QoS 1 and 2 messages the client has not confirmed."""
        return len(self._queue) + len(self._inflight)

    def attach(self, line: Line, window: int) -> None:
        """Deliver to ``line``: first, again, what the last connection left unconfirmed (4.4)."""
        self.line = line
        self._window = window
        self._outstanding = 0
        self._resend = deque(self._inflight)
        for outgoing in self._inflight.values():
            outgoing.sent = False
        self.pump()

    def detach(self) -> None:
        """Keep what is to be delivered; the connection is gone."""
        self.line = None
        self._replays.clear()

    def end(self) -> None:
        """Count what will never be delivered."""
        if self.queued:
            self._counts.dropped["session_ended"] += self.queued
        self._queue.clear()
        self._inflight.clear()

    def replay(self, messages: Iterator[tuple[Message, int]]) -> None:
        """Deliver retained (message, QoS), as fast as the client reads them."""
        self._replays.append(messages)
        self.pump()

    def deliver(self, message: Message, qos: int, *, retain: bool) -> None:
        """Send ``message``, or keep it until it can be sent."""
        line = self.line
        if not qos:
            if line is None:
                return
            frame = message.frame(line.version, retain=retain)
            if line.max_packet is not None and len(frame) > line.max_packet:
                self._counts.dropped["too_large"] += 1
            elif line.blocked and not line.room(len(frame)):
                self._counts.dropped["slow_client"] += 1
            else:
                self._counts.sent += 1
                line.send(frame)
            return
        if self._queue or self._resend or line is None or line.blocked:
            self._enqueue(message, qos, retain=retain)
        elif self._outstanding < self._window:
            self._start(line, message, qos, retain=retain)
        else:
            self._enqueue(message, qos, retain=retain)

    def _enqueue(self, message: Message, qos: int, *, retain: bool) -> None:
        self._queue.append((message, qos, retain))
        if len(self._queue) > self._limit:
            self._queue.popleft()
            self._counts.dropped["queue_full"] += 1

    def _start(self, line: Line, message: Message, qos: int, *, retain: bool) -> None:
        packet_id = self._last_id % _IDS + 1
        while packet_id in self._inflight:  # fewer than 65,535 are: the window is no larger
            packet_id = packet_id % _IDS + 1
        frame = message.tracked(line.version, qos, packet_id, retain=retain)
        if line.max_packet is not None and len(frame) > line.max_packet:
            self._counts.dropped["too_large"] += 1
            return
        self._last_id = packet_id
        self._inflight[packet_id] = Outgoing(message, qos, retain=retain)
        self._outstanding += 1
        self._counts.sent += 1
        line.send(frame)

    def pump(self) -> None:
        """Send what waits, as far as the window and the client's reading allow."""
        for _ in range(_TURN):
            line = self.line
            if line is None or line.blocked or self._outstanding >= self._window:
                return
            if self._resend:
                self._send_again(line, self._resend.popleft())
            elif self._queue:
                message, qos, retain = self._queue.popleft()
                if message.expired():
                    self._counts.dropped["expired"] += 1
                else:
                    self._start(line, message, qos, retain=retain)
            elif self._replays:
                found = next(self._replays[0], None)
                if found is None:
                    self._replays.popleft()
                else:
                    self.deliver(found[0], found[1], retain=True)
            else:
                return
        line = self.line
        if line is not None:
            line.soon(self.pump)

    def _send_again(self, line: Line, packet_id: int) -> None:
        outgoing = self._inflight.get(packet_id)
        if outgoing is None:
            return
        outgoing.sent = True
        self._outstanding += 1
        if outgoing.released:
            line.send(mqtt311.encode_ack(mqtt311.PUBREL, packet_id))
            return
        message = outgoing.message
        frame = message.tracked(
            line.version, outgoing.qos, packet_id, retain=outgoing.retain, again=True
        )
        if line.max_packet is not None and len(frame) > line.max_packet:
            self._counts.dropped["too_large"] += 1
            self._finish(packet_id, outgoing)
            return
        line.send(frame)

    def _finish(self, packet_id: int, outgoing: Outgoing) -> None:
        del self._inflight[packet_id]
        self._outstanding -= outgoing.sent

    def confirmed(self, packet_id: int, *, qos: int) -> None:
        """Take the PUBACK (``qos`` 1) or PUBCOMP (2) of a message. An unknown id is ignored."""
        outgoing = self._inflight.get(packet_id)
        if outgoing is None:
            return
        if outgoing.qos != qos:
            raise ProtocolError(Reason.PROTOCOL, "acknowledgement of the other QoS")
        self._finish(packet_id, outgoing)
        self.pump()

    def recorded(self, packet_id: int, reason: int) -> bool:
        """Take the PUBREC of a message; False if the id is unknown."""
        outgoing = self._inflight.get(packet_id)
        if outgoing is None:
            return False
        if outgoing.qos != 2:
            raise ProtocolError(Reason.PROTOCOL, "PUBREC for a QoS 1 message")
        if reason >= 0x80:
            self._finish(packet_id, outgoing)
            self.pump()
            return True
        outgoing.released = True
        line = self.line
        if line is not None:
            line.send(mqtt311.encode_ack(mqtt311.PUBREL, packet_id))
        return True

    def durable(self, packet_id: int, line: Line) -> None:
        """Take note that a QoS 2 message of the client, handed over by ``line``, is safe."""
        if packet_id not in self.received:
            return
        owed = self.received[packet_id]
        self.received[packet_id] = None
        if owed is not None and owed is not line and owed is self.line:
            owed.send(mqtt311.encode_ack(mqtt311.PUBREC, packet_id))
