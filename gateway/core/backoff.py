"""Retry delays."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential delays with full jitter, in seconds.

    Full jitter, because a fleet that lost the same broker must not come back in step.
    """

    base_s: float = 0.5
    cap_s: float = 30.0

    def delay_s(self, attempt: int, rng: Random) -> float:
        """Return the pause before retry number ``attempt`` (the first is 0)."""
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(attempt, 32))
        return rng.uniform(0.0, ceiling)
