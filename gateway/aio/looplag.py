"""How late the event loop runs what is due: the health of a single-threaded process."""

import asyncio
import logging
import time
from collections import deque
from typing import Final

log = logging.getLogger(__name__)

PERIOD_S: Final = 0.1
KEPT: Final = 600  # one minute
LOUD_S: Final = 0.5


class LoopLag:
    """Measure for ever; ``worst_s`` and ``p99_s`` look back one minute."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=KEPT)

    async def run(self) -> None:
        """Sleep and compare. A lag over half a second is logged: something blocked the loop."""
        while True:
            due = time.monotonic() + PERIOD_S
            await asyncio.sleep(PERIOD_S)
            lag = max(0.0, time.monotonic() - due)
            self._lags.append(lag)
            if lag > LOUD_S:
                log.warning("the event loop was blocked: lag_s=%.2f", lag)

    @property
    def worst_s(self) -> float:
        return max(self._lags, default=0.0)

    @property
    def p99_s(self) -> float:
        ordered = sorted(self._lags)
        return ordered[int(len(ordered) * 0.99)] if ordered else 0.0
