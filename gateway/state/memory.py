"""The state of a box that shares it with nobody: in this process, gone when it ends."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gateway.core.errors import Unavailable
from gateway.state.inbox import Inbox
from gateway.state.order import replaces
from gateway.state.port import Newest, StateStatus, Subscription

MOST_KEYS: Final = 200_000
MOST_BYTES: Final = 256 * 2**20  # of values
_SWEEP_S: Final = 1.0  # a full store looks for expired values at most so often
_FEW: Final = 1_024  # keys that are never worth looking through


@dataclass(slots=True)
class _Held:
    value: bytes
    until: float  # by the clock; inf: for ever


@dataclass(slots=True)
class _HeldNewest:
    value: bytes
    until: float
    ts: int
    seq: int
    rts: int


class MemoryStateStore:
    """Implements ``StateStore``. No call waits, so each is atomic on the event loop.

    Full (keys or bytes): what would add to it raises Unavailable; expired values go first.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        most_keys: int = MOST_KEYS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """``clock`` returns seconds that never go back."""
        self._clock = clock
        self._most_keys = most_keys
        self._most_bytes = most_bytes
        self._keys: dict[str, _Held] = {}
        self._groups: dict[str, dict[str, _HeldNewest]] = {}
        self._count = 0
        self._bytes = 0
        self._inboxes: dict[str, set[Inbox]] = {}
        self._cut = False
        self._sweep_count = _FEW  # look for expired values when there are so many keys
        self._swept_at = -_SWEEP_S
        self._published = self._refused = self._dropped = 0

    async def get(self, key: str) -> bytes | None:
        """See ``StateStore``."""
        self._check()
        return self._living(key)

    async def set(self, key: str, value: bytes, *, ttl_s: float | None = None) -> None:
        """See ``StateStore``."""
        self._check()
        self._put(key, value, ttl_s)

    async def delete(self, key: str) -> bool:
        """See ``StateStore``."""
        self._check()
        there = self._living(key) is not None
        self._drop(key)
        return there

    async def compare_and_set(
        self, key: str, expected: bytes | None, value: bytes | None, *, ttl_s: float | None = None
    ) -> bool:
        """See ``StateStore``."""
        self._check()
        if self._living(key) != expected:
            return False
        if value is None:
            self._drop(key)
        else:
            self._put(key, value, ttl_s)
        return True

    async def put_newest(
        self, group: str, candidates: Sequence[Newest], *, ttl_s: float
    ) -> Sequence[bool]:
        """See ``StateStore``."""
        self._check()
        now = self._clock()
        return [self._put_newest(group, candidate, now, now + ttl_s) for candidate in candidates]

    async def newest(self, group: str) -> Mapping[str, bytes]:
        """See ``StateStore``."""
        self._check()
        now = self._clock()
        held = self._groups.get(group, {})
        return {key: there.value for key, there in held.items() if there.until > now}

    async def publish(self, channel: str, payload: bytes) -> None:
        """See ``StateStore``."""
        self._check()
        self._published += 1
        for inbox in self._inboxes.get(channel, ()):
            inbox.put(payload)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[Subscription]:
        """See ``StateStore``."""
        inbox = Inbox()
        inboxes = self._inboxes.setdefault(channel, set())
        inboxes.add(inbox)
        if not self._cut:
            inbox.missed()
        try:
            yield inbox
        finally:
            self._dropped += inbox.dropped
            inboxes.discard(inbox)
            if not inboxes and self._inboxes.get(channel) is inboxes:
                del self._inboxes[channel]

    async def ping(self) -> None:
        """See ``StateStore``."""
        self._check()

    def status(self) -> StateStatus:
        """See ``StateStore``."""
        if self._cut:
            return StateStatus(connected=False, detail="in memory; cut by a drill")
        return StateStatus(connected=True, detail="in memory, this box only")

    def figures(self) -> Mapping[str, int | float]:
        """See ``StateStore``."""
        inboxes = [inbox for each in self._inboxes.values() for inbox in each]
        return {
            "connected": int(not self._cut),
            "keys": self._count,
            "keys_max": self._most_keys,
            "bytes": self._bytes,
            "bytes_max": self._most_bytes,
            "published": self._published,
            "refused": self._refused,
            "subscriptions": len(inboxes),
            "messages_dropped": self._dropped + sum(inbox.dropped for inbox in inboxes),
        }

    def sever(self, cut: bool) -> None:  # noqa: FBT001 - a switch
        """See ``StateStore``."""
        healed, self._cut = self._cut and not cut, cut
        if healed:
            for inboxes in self._inboxes.values():
                for inbox in inboxes:
                    inbox.missed()

    def _check(self) -> None:
        if self._cut:
            raise Unavailable("the state is cut off by a drill", dependency="state")

    def _living(self, key: str) -> bytes | None:
        held = self._keys.get(key)
        return held.value if held is not None and held.until > self._clock() else None

    def _put(self, key: str, value: bytes, ttl_s: float | None) -> None:
        now = self._clock()
        held = self._keys.get(key)
        if held is not None and held.until <= now:
            self._drop(key)
            held = None
        if held is None:
            self._make_room(1, len(value))
        else:
            self._make_room(0, len(value) - len(held.value))
        self._keys[key] = _Held(value, float("inf") if ttl_s is None else now + ttl_s)

    def _drop(self, key: str) -> None:
        held = self._keys.pop(key, None)
        if held is not None:
            self._count -= 1
            self._bytes -= len(held.value)

    def _put_newest(self, name: str, candidate: Newest, now: float, until: float) -> bool:
        key, ts, seq, rts, value = candidate
        group = self._groups.get(name, {})
        held = group.get(key)
        if held is not None and held.until <= now:
            del group[key]
            self._count -= 1
            self._bytes -= len(held.value)
            held = None
        if held is None:
            self._make_room(1, len(value))
        elif replaces(candidate, held.ts, held.seq, held.rts):
            self._make_room(0, len(value) - len(held.value))
        else:
            return False
        # by its name: making room may have removed a group that was empty
        self._groups.setdefault(name, {})[key] = _HeldNewest(value, until, ts, seq, rts)
        return True

    def _make_room(self, keys: int, size: int) -> None:
        """Count ``keys`` more and ``size`` more bytes in. Raises Unavailable if full."""
        if keys and self._count >= self._sweep_count:
            self._sweep()
        if not self._fits(keys, size) and self._clock() - self._swept_at >= _SWEEP_S:
            self._sweep()
        if not self._fits(keys, size):
            self._refused += 1
            limit = f"{self._most_keys} keys, {self._most_bytes} bytes"
            raise Unavailable(f"the state in memory is full: {limit}", dependency="state")
        self._count += keys
        self._bytes += size

    def _fits(self, keys: int, size: int) -> bool:
        return (keys <= 0 or self._count + keys <= self._most_keys) and (
            size <= 0 or self._bytes + size <= self._most_bytes
        )

    def _sweep(self) -> None:
        """Forget what expired.

        Done when the keys have doubled, so that it costs little per key; a store that is full
        looks once a second.
        """
        now = self._clock()
        self._swept_at = now
        for key in [key for key, held in self._keys.items() if held.until <= now]:
            del self._keys[key]
        for name, group in list(self._groups.items()):
            for key in [key for key, held in group.items() if held.until <= now]:
                del group[key]
            if not group:
                del self._groups[name]
        self._count = len(self._keys) + sum(map(len, self._groups.values()))
        self._bytes = sum(len(held.value) for held in self._keys.values()) + sum(
            len(held.value) for group in self._groups.values() for held in group.values()
        )
        self._sweep_count = max(_FEW, 2 * self._count)
