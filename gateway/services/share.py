"""Own robots straight to the other boxes' browsers, where no stream carries them in time.

Only the live view: newest values into the shared state, and events on its channel. History and
Kafka have their own road, from the journal, and lose nothing whatever happens here.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from gateway.core.errors import Unavailable
from gateway.core.kinds import LABEL, Kind
from gateway.core.shared import CHANNEL, NEWEST, TTL_S, Shared, encode, encode_all
from gateway.services.ledger import Line
from gateway.services.live_poses import STEPPED_S, Update
from gateway.state.port import Newest, StateStore

log = logging.getLogger(__name__)

PERIOD_S: Final = 0.02  # at least between two rounds: what came meanwhile shares them
LOOK_S: Final = 0.1  # how often it is asked whether the stream is behind
RETRY_S: Final = 0.5  # after a round that failed
MAX_VALUES: Final = 60_000  # newest values waiting: three kinds of the robots that a hub shows
MAX_EVENTS: Final = 2_000  # events waiting; drop oldest
MAX_MESSAGE: Final = 1_000  # values in one message of the channel

_Key = tuple[int, str]


class Share:
    """Stands before the hub; ``run`` never returns.

    Costs one test of a boolean per batch while the stream is in time. Else the newest value of each
    kind and robot waits for the next round, whatever comes in between is conflated. *Drop oldest*
    when too many wait; nothing here ever waits for the state, and all that goes is counted.
    """

    def __init__(
        self,
        store: StateStore,
        publish: Callable[[list[Update]], int],
        *,
        box: str,
        behind: Callable[[], bool],
    ) -> None:
        """``publish``: the hub's. ``behind``: whether the stream fails other boxes' browsers now;
        always true where there is no stream.
        """
        self._store = store
        self._publish = publish
        self._box = box
        self._behind = behind
        self._active = behind()
        self._newest: dict[_Key, Update] = {}
        self._events: deque[Update] = deque()
        self._waiting = asyncio.Event()
        self._under_way = 0  # values of the round that is going on
        self._unsure = False  # the last round failed: part of it may be stored, but not told
        self._line = Line()
        self._rounds = self._failures = self._times_active = 0
        self.failing = ""  # why the last round failed

    def publish(self, updates: list[Update]) -> int:
        """Show on this box, and keep for the others if they would not hear of it in time."""
        if self._active:
            self._keep(updates)
        return self._publish(updates)

    def _keep(self, updates: list[Update]) -> None:
        newest, dropped = self._newest, self._line.dropped
        count = 0
        for update in updates:
            kind = update[0]
            if kind in NEWEST:
                key = (kind, update[1])
                old = newest.get(key)
                count += 1
                if old is None:
                    if len(newest) >= MAX_VALUES:
                        del newest[next(iter(newest))]
                        dropped["full"] += 1
                elif not _newer(update, old):
                    dropped["stale"] += 1
                    continue
                else:
                    dropped["conflated"] += 1
                newest[key] = update
            elif kind == Kind.EVENT:
                count += 1
                if len(self._events) >= MAX_EVENTS:
                    self._events.popleft()
                    dropped["full"] += 1
                self._events.append(update)
        self._line.entered += count
        if count:
            self._waiting.set()

    async def run(self) -> None:
        """Look whether the stream is behind, and while it is, share: for ever."""
        while True:
            active = self._behind()
            if active != self._active:
                self._active = active
                self._times_active += active
                log.info("live view of other boxes: %s", "direct" if active else "by the stream")
            if self._newest or self._events:
                pause_s = PERIOD_S if await self._round() else RETRY_S
                await asyncio.sleep(pause_s)
            else:
                await self._wait()

    async def _wait(self) -> None:
        self._waiting.clear()
        try:
            async with asyncio.timeout(LOOK_S):
                await self._waiting.wait()
        except TimeoutError:
            return

    async def _round(self) -> bool:
        """Store and tell what waits; return whether the state took it."""
        newest, self._newest = self._newest, {}
        events, self._events = self._events, deque()
        count = self._under_way = len(newest) + len(events)
        try:
            told = await self._store_newest(newest)
            told += [self._shared(event) for event in events]
            for start in range(0, len(told), MAX_MESSAGE):
                part = told[start : start + MAX_MESSAGE]
                await self._store.publish(CHANNEL, encode_all(part))
        except Unavailable as exc:
            self._take_back(newest, events)
            if not self.failing:
                log.warning("other boxes do not see this one's robots: %s", exc.detail)
            self.failing, self._unsure = exc.detail, True
            self._failures += 1
            self._under_way = 0
            return False
        if self.failing:
            log.warning("other boxes see this one's robots again")
        self.failing, self._unsure = "", False
        self._rounds += 1
        self._under_way = 0
        self._line.delivered += count
        return True

    async def _store_newest(self, newest: dict[_Key, Update]) -> list[Shared]:
        """Return what became the newest; after a failure all, for a part may be stored untold."""
        told: list[Shared] = []
        for kind in NEWEST:
            values = [self._shared(update) for key, update in newest.items() if key[0] == kind]
            if not values:
                continue
            candidates = [
                Newest(
                    value.robot,
                    value.ts,
                    _seq(newest[kind, value.robot]),
                    value.rts,
                    encode(value),
                )
                for value in values
            ]
            stored = await self._store.put_newest(LABEL[kind], candidates, ttl_s=TTL_S)
            told += (
                value for value, new in zip(values, stored, strict=True) if new or self._unsure
            )
        return told

    def _take_back(self, newest: dict[_Key, Update], events: deque[Update]) -> None:
        """Keep what was not taken, behind what came meanwhile."""
        dropped = self._line.dropped
        for key, update in self._newest.items():
            if key in newest:
                dropped["conflated"] += 1
            if key not in newest or _newer(update, newest[key]):
                newest[key] = update
        events.extend(self._events)
        for waiting, most in ((newest, MAX_VALUES), (events, MAX_EVENTS)):
            if (over := len(waiting) - most) > 0:
                dropped["full"] += over
        while len(newest) > MAX_VALUES:
            del newest[next(iter(newest))]
        while len(events) > MAX_EVENTS:
            events.popleft()
        self._newest, self._events = newest, events

    def _shared(self, update: Update) -> Shared:
        kind, robot, payload, ts, rts = update
        return Shared(kind, robot, ts, rts, self._box, msgspec.json.encode(payload))

    def lines(self) -> Iterable[tuple[str, str, Line]]:
        """Return the hop ``state``, kind ``direct``: what was shown while the stream was behind."""
        self._line.pending = len(self._newest) + len(self._events) + self._under_way
        yield "state", "direct", self._line

    def figures(self) -> dict[str, int | float]:
        """Return counters since the start, and what is now."""
        return {
            "active": int(self._active),
            "times_active": self._times_active,
            "waiting": len(self._newest) + len(self._events),
            "shared": self._line.delivered,
            **self._line.dropped,
            "rounds": self._rounds,
            "failures": self._failures,
        }


def _seq(update: Update) -> int:
    number = getattr(update[2], "seq", None)
    return -1 if number is None else number


def _newer(update: Update, old: Update) -> bool:
    """Return whether ``update`` replaces ``old``: the rule of gateway.state.port.Newest."""
    if update[4] - old[4] >= STEPPED_S * 1000 or update[3] > old[3]:
        return True
    if update[3] < old[3]:
        return False
    number = _seq(update)
    return number < 0 or number > _seq(old)
