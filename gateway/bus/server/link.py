"""Bytes of one client: cut into packets, handed over in batches, answered in order."""

from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.bus.port import Batch
from gateway.bus.server.broker import Broker, nothing
from gateway.bus.server.dialect import Dialect
from gateway.bus.server.session import Session
from gateway.bus.server.wire import Registry, Wire
from gateway.core import mqtt311
from gateway.core.mqtt import CONNECT, PUBLISH, ProtocolError, Reason, Scan, frame

_HELD: Final = 16_384  # bytes of PUBLISHes kept per client while paused; then it is not read


class Goodbye(Exception):
    """The client said DISCONNECT; what it sent before still counts."""


class _Receipt:
    """The answers to one batch; calling it is ``Batch.acknowledge``."""

    __slots__ = ("count", "data", "done", "exact", "link")

    def __init__(self, link: "Link", data: bytes, count: int, exact: list[int]) -> None:
        self.link = link
        self.data = data
        self.count = count  # of QoS 1
        self.exact = exact  # packet ids of QoS 2
        self.done = False

    def __call__(self) -> None:
        if not self.done:
            self.done = True
            self.link.settle(self)


class Link(Wire):
    """The packets of a connection; ``packet`` is what they mean."""

    __slots__ = (
        "_epoch", "_held", "_need", "_partial", "_receipts", "_scan", "_unconfirmed", "dialect",
        "exact", "quiet", "version",
    )  # fmt: skip

    def __init__(self, broker: Broker, registry: Registry) -> None:
        super().__init__(broker, registry)
        self.dialect: Dialect | None = None
        self.version = 0
        self.quiet = broker.quiet if broker.access is None else {}
        self.exact: list[int] = []  # QoS 2 ids of the batch that is being read
        self._scan: Scan | None = None
        self._epoch = broker.epoch
        self._partial = bytearray()  # the start of a packet
        self._need = 0  # its whole size, 0 while unknown
        self._held = bytearray()  # whole PUBLISHes that came while paused
        self._receipts: deque[_Receipt] = deque()
        self._unconfirmed = 0  # QoS 1 without PUBACK

    def packet(
        self,
        head: int,
        data: bytes,
        pos: int,
        at: int,
        stop: int,
        items: list[tuple[str, bytes]],
        acks: list[bytes],
    ) -> None:
        """Do what a packet says. Raises ProtocolError, and Goodbye for a DISCONNECT."""
        raise NotImplementedError

    # Reading

    def connected(self, dialect: Dialect, session: Session) -> None:
        """Take note that CONNECT was accepted."""
        self.session = session
        self.dialect = dialect
        self._scan = dialect.scan

    def data_received(self, data: bytes) -> None:
        """Take what one read of the socket held."""
        self._heard = True
        if self.closing:
            return
        partial = self._partial
        if partial:
            if len(partial) + len(data) < self._need:
                partial += data  # in place: a large packet in small pieces is copied once
                return
            data = b"".join((partial, data))
            partial.clear()
        self._take(data, holding=self.registry.paused or bool(self._held))
        if self.blocked:
            self.choke()

    def _take(self, data: bytes, *, holding: bool) -> None:
        items: list[tuple[str, bytes]] = []
        acks = [b""]  # packet ids of QoS 1 to be joined by PUBACK; others stand behind the last
        error: ProtocolError | Goodbye | None = None
        try:
            self._cut(data, items, acks, holding=holding)
        except (ProtocolError, Goodbye) as caught:
            error = caught
        if items or len(acks) > 1 or acks[0]:
            self._hand_over(items, acks)
        if error is not None:  # what was right before it still counts, and is answered
            self.registry.hand_over()
        if isinstance(error, Goodbye):
            self.shut(linger=False)
        elif error is not None:
            self.refuse(error.reason, error.detail)
        elif self._unconfirmed > self.broker.limits.inflight and self.version == 5:
            self.refuse(Reason.RECEIVE_MAX, "more unacknowledged PUBLISHes than allowed")

    def _cut(
        self, data: bytes, items: list[tuple[str, bytes]], acks: list[bytes], *, holding: bool
    ) -> None:
        pos = 0
        size = len(data)
        broker = self.broker
        limit = broker.limits.packet_bytes
        while True:
            if self._epoch != broker.epoch:
                self._epoch = broker.epoch
                if broker.access is not None:
                    self.quiet.clear()
            if self._scan is not None and not holding:
                pos = self._scan(data, pos, self.quiet, items, acks)
            elif self.session is None and data[pos] != CONNECT << 4:
                raise ProtocolError(Reason.PROTOCOL, "the first packet is not CONNECT")
            at, stop = frame(data, pos, limit)
            if not stop or stop > size:
                break
            head = data[pos]
            if holding and head >> 4 == PUBLISH and self.session is not None:
                self._hold(data[pos:stop])
            else:
                self.packet(head, data, pos, at, stop, items, acks)
            pos = stop
        if pos < size:
            self._partial += data[pos:]
            self._need = stop - pos if stop else 0

    def _hand_over(self, items: list[tuple[str, bytes]], acks: list[bytes]) -> None:
        answers = mqtt311.PUBACK.join(acks)
        acknowledge: Callable[[], None] = nothing
        if answers:
            receipt = _Receipt(self, answers, len(acks) - 1, self.exact)
            if self.exact:
                self.exact = []
            self._receipts.append(receipt)
            self._unconfirmed += receipt.count
            acknowledge = receipt
        if items:
            self.broker.counts.received += len(items)
            self.broker.sink.take(Batch(items, acknowledge))
        else:
            acknowledge()

    def settle(self, receipt: _Receipt) -> None:
        """Answer a batch, after those that came before it [MQTT-4.6.0-2]."""
        if receipt.exact and self.session is not None:
            for packet_id in receipt.exact:
                self.session.durable(packet_id, self)
        if self.closing:
            return
        receipts = self._receipts
        while receipts and receipts[0].done:
            ready = receipts.popleft()
            self._unconfirmed -= ready.count
            self.send(ready.data)

    # Pausing: PUBLISHes wait, everything else goes on

    def _hold(self, packet: bytes) -> None:
        if not self._held:
            self.registry.holding(self)
        self._held += packet
        if len(self._held) > _HELD:
            self.hold_back()

    def release(self) -> None:
        """Take the PUBLISHes that were held."""
        if self.closing:
            return
        held = bytes(self._held)
        self._held.clear()
        self._take(held, holding=False)
        self.go_on()

    def gone(self, now: float) -> None:
        """Forget what was not finished; what is held of QoS 0 is lost with its connection.

        QoS 1 and 2 were not acknowledged and come again.
        """
        self._receipts.clear()
        self._partial.clear()
        held = bytes(self._held)
        self._held.clear()
        pos = 0
        while pos < len(held):
            if not held[pos] & 6:
                self.broker.counts.dropped["paused"] += 1
            _, pos = frame(held, pos, self.broker.limits.packet_bytes)
