"""What a subscription holds for its reader: bounded, the oldest go first, and it is told."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

MOST_MESSAGES: Final = 8_192
MOST_BYTES: Final = 32 * 2**20


class Inbox:
    """Implements ``Subscription``. Everything but ``read`` is synchronous."""

    def __init__(self, *, messages: int = MOST_MESSAGES, size: int = MOST_BYTES) -> None:
        self.dropped = 0  # messages, since the start
        self._most_messages = messages
        self._most_bytes = size
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._missed = False
        self._ready = asyncio.Event()

    def put(self, payload: bytes) -> None:
        """Add a message; drop the oldest above the limits, but never this one."""
        waiting = self._waiting
        waiting.append(payload)
        self._bytes += len(payload)
        while len(waiting) > 1 and (
            len(waiting) > self._most_messages or self._bytes > self._most_bytes
        ):
            self._bytes -= len(waiting.popleft())
            self.dropped += 1
            self._missed = True
        self._ready.set()

    def missed(self) -> None:
        """Have the next read say that messages may be missing. Call it once subscribed (again).

        The mark comes before what still waits: the reader then has the keys as they are now, and
        older messages change nothing.
        """
        self._missed = True
        self._ready.set()

    async def read(self) -> Sequence[bytes]:
        """See ``gateway.state.port.Subscription``."""
        await self._ready.wait()  # nothing is taken before this, so cancelling loses nothing
        if self._missed:
            self._missed = False
            if not self._waiting:
                self._ready.clear()
            return ()
        messages = tuple(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        self._ready.clear()
        return messages
