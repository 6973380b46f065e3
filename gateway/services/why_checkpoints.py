"""How far each hop was at which time: a sample every 100 ms, kept for 15 minutes.

A message is not followed on its way. It has an offset in the journal, and every hop behind has a
position there; so when a hop passed it can be looked up afterwards, and costs nothing before.
"""

import asyncio
from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Final

EVERY_S: Final = 0.1  # how exact the times are
MEMORY_S: Final = 900.0
BEFORE: Final = 0  # a time: earlier than what is remembered

_NEXT: Final = "next"  # what the journal will give to the next message


class Checkpoints:
    """Positions by time. Memory: MEMORY_S / EVERY_S samples, twice that for a moment."""

    def __init__(
        self,
        next_offset: Callable[[], int],
        hops: Mapping[str, Callable[[], int]],
        *,
        now_ms: Callable[[], int],
    ) -> None:
        """Each of ``hops`` says before which journal offset everything has passed it."""
        self._sources = [next_offset, *hops.values()]
        self._columns = {name: array("q") for name in (_NEXT, *hops)}
        self._times = array("q")
        self._now_ms = now_ms
        self._last: list[int] = []
        self._most = int(MEMORY_S / EVERY_S)

    async def run(self) -> None:
        """Sample for ever."""
        while True:
            self.sample()
            await asyncio.sleep(EVERY_S)

    def sample(self) -> None:
        """Note how far all are, if anything moved."""
        row = [source() for source in self._sources]
        if row == self._last:
            return
        self._last = row
        times, now = self._times, self._now_ms()
        times.append(max(now, times[-1]) if times else now)  # a clock set back must not unsort them
        for column, value in zip(self._columns.values(), row, strict=True):
            column.append(value)
        if len(times) > 2 * self._most:
            for kept in (times, *self._columns.values()):
                del kept[: -self._most]

    def since(self) -> int:
        """Return when the memory begins, in Unix ms."""
        return self._times[max(0, len(self._times) - self._most)] if self._times else self._now_ms()

    def offset_at(self, ms: int) -> int:
        """Return the journal offset that came next at ``ms``, or where the memory begins."""
        if not self._times:
            return self._sources[0]()
        at = bisect_right(self._times, ms) - 1
        return self._columns[_NEXT][max(0, at)]

    def passed(self, hop: str, offset: int) -> int | None:
        """Return when ``hop`` had passed ``offset``, in Unix ms; BEFORE, or None: not yet."""
        column = self._columns[hop]
        at = bisect_right(column, offset)
        if at == len(column):
            return None
        return BEFORE if at == 0 else self._times[at]
