"""What the rest of the gateway may assume about the devices' bus."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

Item = tuple[str, bytes]
"""(topic, payload) of one PUBLISH, topic already checked as UTF-8 without wildcards."""


class Batch(Struct, frozen=True, gc=False):
    """What one read of a socket held, in the order of its arrival, any QoS.

    ``acknowledge`` must be called exactly once, from the event loop, when every item is durable:
    the bus then sends the PUBACKs (PUBRECs for QoS 2) of this batch. It never raises and does
    nothing when the connection is gone (the client will send again). Batches of one connection are
    acknowledged in the order in which they were handed over.
    """

    items: Sequence[Item]
    acknowledge: Callable[[], None]


class Sink(Protocol):
    """Who takes the batches: the ingest service."""

    def take(self, batch: Batch) -> None:
        """Take ``batch``; synchronous, no I/O, never raises for bad content."""


@dataclass(slots=True, frozen=True)
class BusStatus:
    """For /readyz and /metrics. ``connected``: devices can publish now."""

    connected: bool
    detail: str
    clients: int


class Bus(Protocol):
    """Messages from devices, at least once for QoS >= 1.

    Promise: a PUBACK leaves only after ``Batch.acknowledge`` was called; PUBLISHes of one
    connection reach the sink in order. QoS 2 is handed to the sink once per packet id until
    released. Back-pressure: between ``pause`` and ``resume`` no further batch is handed over and
    nothing is read from publishers; keep-alive goes on. A few batches already read may still arrive
    after ``pause``. Outage (a broker that is away): the backend reconnects by itself, for ever.
    """

    def pause(self) -> None:
        """Stop reading from publishers (idempotent)."""

    def resume(self) -> None:
        """Read again (idempotent)."""

    async def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False
    ) -> None:
        """Send to subscribers (devices, other clients).

        Raises:
            Unavailable: the broker is away, or did not acknowledge in time.
        """

    async def probe(self, topic: str, payload: bytes) -> None:
        """Send a message to ourselves, at QoS 1, on the road that devices' messages take.

        It comes to the sink like any other, when it comes: returning only says that it is under
        way. ``topic`` must be this box's canary topic (gateway.core.topics).

        Raises:
            Unavailable: it could not be sent, or nobody acknowledged it in time.
        """

    def sever(self, cut: bool) -> None:  # noqa: FBT001 - a switch
        """Drill: drop every connection and make, or take, none while ``cut``; then heal as ever."""

    def status(self) -> BusStatus:
        """Return how the bus is."""

    def figures(self) -> Mapping[str, int | float]:
        """Return counters and gauges for /metrics, by name."""
