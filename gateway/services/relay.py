"""What other boxes know, on this box's live view: from the shared state to the hub.

Newest values and events come on the channel; whatever was missed there is read from the keys.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from gateway.core.errors import Unavailable
from gateway.core.kinds import LABEL, Kind
from gateway.core.shared import CHANNEL, NEWEST, Shared, decode, decode_all
from gateway.services.ingest import DECODERS
from gateway.services.ledger import Line
from gateway.services.live_poses import STEPPED_S, Update
from gateway.services.once import Once
from gateway.state.port import StateStore, Subscription

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0  # between two tries to read the keys
SLICE: Final = 256  # values of the keys that are shown at once: 1 ms of the loop
SLICE_PAUSE_S: Final = 0.005  # between slices: event readers get theirs before the next ones
MAX_ROBOTS: Final = 20_000  # whose times are remembered, by kind; then it starts again

_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_STEPPED_MS: Final = STEPPED_S * 1000

_When = tuple[int, int, int]
"""(device time, receive time, receive time from which on the device's clock was set back)."""


def _not_wanted(_: Shared) -> None:
    """Nobody waits for canaries here."""


class Relay:
    """Show other boxes' robots on this box; ``run`` never returns.

    Never backwards in time: the hub takes the newest (ts, seq), and what was received before a
    device's clock was set back is dropped here, when a backlog brings it after. An event is shown
    once, however often and by whichever road it comes: ``Once``.
    """

    def __init__(
        self,
        store: StateStore,
        publish: Callable[[list[Update]], int],
        *,
        box: str,
        once: Once,
        came_home: Callable[[Shared], None] = _not_wanted,
    ) -> None:
        """``publish``: the hub's. ``came_home`` hears of this box's canaries on the channel."""
        self._store = store
        self._publish = publish
        self._box = box
        self._once = once
        self._came_home = came_home
        self._times: dict[int, dict[str, _When]] = {kind: {} for kind in NEWEST}
        self._line = Line()
        self._loaded = False  # once: this box's own robots are known to the hub since
        self._loads = self._load_failures = self._messages = 0
        self.failing = ""  # why the keys could not be read; "" when they were

    async def run(self) -> None:
        """Show what comes, for ever; an outage of the state leaves what is shown as it is."""
        async with self._store.subscribe(CHANNEL) as subscription:
            missed, again_at = False, 0.0
            while True:
                messages = await self._read(subscription, RETRY_S if missed else None)
                if messages:
                    self._take(messages)
                elif messages is not None and not missed:
                    missed, again_at = True, 0.0
                if missed and time.monotonic() >= again_at:
                    missed = not await self._load()
                    again_at = time.monotonic() + RETRY_S

    async def _read(
        self, subscription: Subscription, timeout_s: float | None
    ) -> Sequence[bytes] | None:
        """Return what ``read`` does, None when nothing came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                return await subscription.read()
        except TimeoutError:
            return None

    def _take(self, messages: Sequence[bytes]) -> None:
        values: list[Shared] = []
        for message in messages:
            try:
                values += decode_all(message)
            except _UNREADABLE:
                self._line.entered += 1
                self._line.dropped["unreadable"] += 1
        self._messages += len(messages)
        box, foreign, own = self._box, [], 0
        for value in values:
            if value.box != box:
                foreign.append(value)
                continue
            own += 1
            if value.kind == Kind.CANARY:
                self._came_home(value)
        self._line.entered += own
        if own:
            self._line.dropped["own"] += own
        self._show(foreign)

    async def _load(self) -> bool:
        """Show what the keys hold; return whether they could be read."""
        for kind in sorted(NEWEST):
            try:
                found = await self._store.newest(LABEL[kind])
            except Unavailable as exc:
                if not self.failing:
                    log.warning("other boxes' robots are not known: %s", exc.detail)
                self.failing = exc.detail
                self._load_failures += 1
                return False
            values = self._wanted(found, kind)
            for start in range(0, len(values), SLICE):
                self._show(values[start : start + SLICE])
                await asyncio.sleep(SLICE_PAUSE_S)
        if self.failing:
            log.warning("other boxes' robots are known again")
        self.failing = ""
        self._loaded = True
        self._loads += 1
        return True

    def _wanted(self, found: Mapping[str, bytes], kind: int) -> list[Shared]:
        """Return the values that the hub may not know yet."""
        wanted = []
        times = self._times[kind]
        for data in found.values():
            try:
                value = decode(data)
            except _UNREADABLE:
                self._line.entered += 1
                self._line.dropped["unreadable"] += 1
                continue
            if value.kind != kind or (self._loaded and value.box == self._box):
                continue
            known = times.get(value.robot)
            if known is None or known[:2] != (value.ts, value.rts):
                wanted.append(value)
        return wanted

    def _show(self, values: Sequence[Shared]) -> None:
        """Publish what is not certainly old, in one call."""
        updates: list[Update] = []
        dropped = self._line.dropped
        for value in values:
            if value.kind == Kind.EVENT:
                reason = self._take_event(value, updates)
            elif value.kind in NEWEST:
                reason = self._take_newest(value, updates)
            else:
                reason = "ignored"
            if reason:
                dropped[reason] += 1
        self._line.entered += len(values)
        self._line.delivered += len(updates)
        if updates:
            self._publish(updates)

    def _take_newest(self, value: Shared, updates: list[Update]) -> str:
        """Append to ``updates``; return "", or why not."""
        kind, robot, ts, rts = value.kind, value.robot, value.ts, value.rts
        times = self._times[kind]
        known = times.get(robot)
        stepped_at = 0
        if known is not None:
            stepped_at = known[2]
            if rts < stepped_at:
                return "stale"
            if ts < known[0]:
                if rts - known[1] < _STEPPED_MS:
                    return "stale"
                stepped_at = rts  # from here on the hub believes the device's clock again
        try:
            payload = DECODERS[kind](value.payload)
        except _UNREADABLE:
            return "unreadable"
        if known is None and len(times) >= MAX_ROBOTS:
            times.clear()
        times[robot] = (ts, rts, stepped_at)
        updates.append((kind, robot, payload, ts, rts))
        return ""

    def _take_event(self, value: Shared, updates: list[Update]) -> str:
        """Append to ``updates``; return "", or why not."""
        try:
            payload = DECODERS[Kind.EVENT](value.payload)
        except _UNREADABLE:
            return "unreadable"
        update = (Kind.EVENT, value.robot, payload, value.ts, value.rts)
        if self._once.repeated(value.box, update):
            return "repeated"
        updates.append(update)
        return ""

    def lines(self) -> Iterable[tuple[str, str, Line]]:
        """Return the hop ``relay``: values that reached this box by the state."""
        yield "relay", "all", self._line

    def figures(self) -> dict[str, int | float]:
        """Return counters since the start."""
        return {
            "messages": self._messages,
            "values": self._line.entered,
            "shown": self._line.delivered,
            **self._line.dropped,
            "loads": self._loads,
            "load_failures": self._load_failures,
        }
