"""What the rest of the gateway may assume about the stream that leaves the box."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

Message = tuple[int, int, str, int, int, bytes]
"""(offset, kind, robot id, device time in ms, receive time in ms, payload as received): the fields
of a journal record, in its order."""


class Refusal(NamedTuple):
    """A message that will never be taken. ``place`` is its index in what was sent."""

    place: int
    code: str  # "TOO_LARGE"
    detail: str  # one sentence with the sizes


class Arrived(NamedTuple):
    """One record as it came back from the stream; ``rts`` is the receive time at its first box.

    A record that somebody else made may lack anything: "" and 0 stand for what is missing,
    ``robot`` is the key whatever it is, and a missing value is b"".
    """

    kind: int
    robot: str
    site: str
    box: str
    rts: int
    payload: bytes
    source: str  # "smartair.pose[3]": topic and partition
    offset: int  # in ``source``

    @property
    def place(self) -> str:
        """Where it stands, for people: ``smartair.pose[3]@1234``."""
        return f"{self.source}@{self.offset}"


@dataclass(slots=True, frozen=True)
class StreamStatus:
    """For /readyz and /metrics."""

    connected: bool
    detail: str


class Producer(Protocol):
    """Records into topics ``<prefix>.<kind>``, key = robot id.

    At least once; ordered per robot and kind. Failure: Unavailable; it reconnects by itself, for
    ever, also to a broker that was never there.
    """

    async def send(self, messages: Sequence[Message]) -> Sequence[Refusal]:
        """Return when all are acknowledged by every in-sync replica, but for those refused.

        Cancelling, or Unavailable, leaves open which were taken: send the same again, in the same
        order, before anything newer.

        Raises:
            Unavailable: not acknowledged in time.
        """

    def status(self) -> StreamStatus:
        """Return how the way out is; looks at what is known and never waits."""


class Consumer(Protocol):
    """The consumer group's share of all boxes' records. Needs no answer to be alive."""

    async def read(self) -> Sequence[Arrived]:
        """Wait for records and return what is there, ordered per robot and kind.

        Outages and rebalances happen inside; after one, records that were not committed come again.
        """

    async def commit(self) -> None:
        """Say that all that ``read`` returned so far is safe elsewhere.

        Never raises for an outage or a lost partition: what was not committed comes again.
        """

    def status(self) -> StreamStatus:
        """Return how the way in is; looks at what is known and never waits."""


class Stream(Protocol):
    """The way out and the way in."""

    @property
    def producer(self) -> Producer: ...

    @property
    def consumer(self) -> Consumer: ...

    def figures(self) -> Mapping[str, int | float]:
        """Return counters and gauges for /metrics, by name."""

    def sever(self, cut: bool) -> None:  # noqa: FBT001 - a switch
        """Drill: drop every connection and make none while ``cut``; then heal as ever."""
