"""Which of two values of a key is the newer one. The Lua of the Redis backend says the same."""

from typing import Final

from gateway.state.port import Newest

CLOCK_SET_BACK_MS: Final = 10_000
"""Received so much after what is there: whatever its own time says, it is believed."""


def replaces(candidate: Newest, ts: int, seq: int, rts: int) -> bool:
    """Return whether ``candidate`` replaces a value of time ``ts``, ``seq`` and ``rts``."""
    if candidate.ts > ts or candidate.rts >= rts + CLOCK_SET_BACK_MS:
        return True
    return candidate.ts == ts and (candidate.seq < 0 or candidate.seq > seq)
