"""Try until a dependency takes it: an outage is expected, and the journal keeps all meanwhile."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, TypeVar

from gateway.core.backoff import Backoff
from gateway.core.errors import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")
LEAST_S: Final = 0.05  # jitter may say 0; a dependency that refuses at once must not be hammered


class Insist:
    """``failing`` says why, while ``what`` does not take records; an outage is logged once."""

    def __init__(self, what: str, backoff: Backoff, rng: Random | None = None) -> None:
        self._what = what
        self._backoff = backoff
        self._rng = rng or Random()  # noqa: S311 - jitter, not a secret
        self.failing = ""

    async def until_taken(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return what ``attempt`` returns when it does not raise Unavailable any more."""
        tries = 0
        while True:
            try:
                taken = await attempt()
            except Unavailable as exc:
                if not self.failing:
                    log.warning("%s does not take records, trying again: %s", self._what, exc)
                self.failing = exc.detail or exc.code
                await asyncio.sleep(max(LEAST_S, self._backoff.delay_s(tries, self._rng)))
                tries += 1
            else:
                if self.failing:
                    log.warning("%s takes records again", self._what)
                    self.failing = ""
                return taken
