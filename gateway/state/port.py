"""What the rest of the gateway may assume about the state that boxes share."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Newest(NamedTuple):
    """A candidate for "the newest value of ``key``". Times in Unix ms.

    It replaces what is there if it is newer by (``ts``, ``seq``), or if it was received 10 s or
    more after it (``rts``): the device's clock was set back, and it is believed again. ``seq`` -1:
    none; equal ``ts`` then replaces, and an equal (``ts``, ``seq``) with a seq does not.
    """

    key: str  # the robot's id
    ts: int
    seq: int
    rts: int
    value: bytes


@dataclass(slots=True, frozen=True)
class StateStatus:
    """For /readyz and /metrics."""

    connected: bool
    detail: str


class Subscription(Protocol):
    """What is published on a channel, from now on."""

    async def read(self) -> Sequence[bytes]:
        """Wait for messages and return all that are there, in order.

        An empty sequence says that messages may have been missed since the last read: the first
        read, an outage that healed, or a reader so slow that the oldest were dropped. Whoever keeps
        a copy then reads the keys again. Never raises for an outage; cancelling loses nothing.
        """


class StateStore(Protocol):
    """Bytes by key, shared by every box that names the same server.

    Keys and channels are [A-Za-z0-9_.:-]; the backend puts its own prefix in front. Ordering: a
    read that starts after a write returned sees it. Durability: none. Failure: no answer in time
    raises Unavailable; what was asked may have happened all the same. A cancelled call never leaves
    its answer to somebody else. The backend reconnects by itself, for ever.
    """

    async def get(self, key: str) -> bytes | None:
        """Return the value, None if there is none or it expired."""

    async def set(self, key: str, value: bytes, *, ttl_s: float | None = None) -> None:
        """Store ``value``, for ``ttl_s`` seconds or for ever."""

    async def delete(self, key: str) -> bool:
        """Remove; return whether there was something."""

    async def compare_and_set(
        self, key: str, expected: bytes | None, value: bytes | None, *, ttl_s: float | None = None
    ) -> bool:
        """Replace ``expected`` (None: nothing there) by ``value`` (None: remove), atomically.

        Returns whether it was replaced.
        """

    async def put_newest(
        self, group: str, candidates: Sequence[Newest], *, ttl_s: float
    ) -> Sequence[bool]:
        """Store every candidate that is newer than what ``group`` has under its key, atomically.

        Returns for each candidate whether it was stored. One round trip, whatever their number.
        """

    async def newest(self, group: str) -> Mapping[str, bytes]:
        """Return every value of ``group`` that has not expired, by key."""

    async def publish(self, channel: str, payload: bytes) -> None:
        """Send to whoever is subscribed now, on every box."""

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[Subscription]:
        """Subscribe for the length of the block; it heals by itself. Entering does not wait."""

    async def ping(self) -> None:
        """Return if the store answers; raise Unavailable if not."""

    def status(self) -> StateStatus:
        """Return how the store is; looks at what is known and never waits."""

    def figures(self) -> Mapping[str, int | float]:
        """Return counters and gauges for /metrics, by name."""

    def sever(self, cut: bool) -> None:  # noqa: FBT001 - a switch
        """Drill: drop every connection and make none while ``cut``; then heal as ever."""
