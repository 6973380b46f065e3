"""The promise of gateway.stream.port.Producer in a list, with every failure a test may want."""

import asyncio
from collections.abc import Callable, Sequence

from gateway.core.errors import Unavailable
from gateway.stream.port import Message, Refusal, StreamStatus


class MemoryStream:
    """A producer that keeps what it took.

    ``attempts`` has every sequence that was handed over, also those that failed.
    """

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.attempts: list[list[int]] = []  # offsets
        self.away = ""  # why every send fails
        self.takes_before_failing = 0  # of each send that fails: what a broken connection leaves
        self.answers = asyncio.Event()  # while it is not set, no send ends
        self.answers.set()
        self.fails_over: int | None = None  # a send of more records than this fails, after a while
        self.refuses: Callable[[Message], str] = lambda _: ""  # returns a code
        self.on_send: Callable[[int], None] = lambda _: None

    async def send(self, messages: Sequence[Message]) -> Sequence[Refusal]:
        self.attempts.append([message[0] for message in messages])
        self.on_send(len(messages))
        await asyncio.sleep(0)
        await self.answers.wait()
        if self.away or (self.fails_over is not None and len(messages) > self.fails_over):
            self.taken += messages[: self.takes_before_failing]
            raise Unavailable(self.away or "not acknowledged in time", dependency="stream")
        refused = []
        for place, message in enumerate(messages):
            if code := self.refuses(message):
                refused.append(Refusal(place, code, f"{len(message[5])} bytes do not fit"))
            else:
                self.taken.append(message)
        return refused

    def status(self) -> StreamStatus:
        return StreamStatus(connected=not self.away, detail=self.away or "in memory")

    @property
    def offsets(self) -> list[int]:
        """Of all that was taken, in the order in which it was."""
        return [message[0] for message in self.taken]
