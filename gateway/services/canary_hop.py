"""One hop of the canary's way: who waits there, who passed, and whether it is stuck."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

PATIENCE_S: Final = 8.0  # and the pause between two canaries: a hop that swallows is red after 11 s
MOST: Final = 600  # waiting at one hop: half an hour of them; later ones are not followed there


def unknown() -> str:
    """Answer for a hop that never says why it is stuck."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """A part of the chain, for the canary and for the flight recorder.

    Args:
        after: the hop from which a canary comes; "": it is handed over when it is sent.
        reached: the journal offset before which everything has passed this hop. None: somebody
            tells when a canary has passed.
        moved: changes whenever anything passes; None: ``reached`` does.
        failing: why nothing passes now, as far as the hop knows itself.
        strict: red also while other things pass, if ``failing`` says something.
        kinds: those of robots' messages that pass here; None: all.
    """

    name: str
    after: str
    reached: Callable[[], int] | None = None
    moved: Callable[[], int] | None = None
    failing: Callable[[], str] = unknown
    strict: bool = False
    kinds: frozenset[int] | None = None


@dataclass(slots=True, eq=False)
class Bird:
    """A canary. ``offset``: in the journal, -1 until it is there."""

    id: int
    sent_s: float
    offset: int = -1


class Watch:
    """A hop at work. Times by the caller's steady clock; ``passed_s`` < 0: nothing passed yet."""

    def __init__(self, hop: Hop) -> None:
        self.hop = hop
        self.waiting: deque[tuple[Bird, float]] = deque()  # with the time of its coming
        self.passed_s = -1.0
        self.latency_s = 0.0  # of the last one: in this hop
        self.whole_s = 0.0  # and since it was sent
        self.overtaken = 0
        self._moved_s = 0.0
        self._seen = -1
        self._told_id = -1  # the newest one that passed before we saw it come
        self._told_s = 0.0

    def enter(self, bird: Bird, now: float) -> bool:
        """Let ``bird`` wait; False if it has passed already."""
        if bird.id <= self._told_id:
            self._count(bird, self._told_s, self._told_s)
            return False
        if len(self.waiting) < MOST:
            self.waiting.append((bird, now))
        return True

    def tell(self, id_: int, now: float) -> Bird | None:
        """Take note that the canary ``id_`` has passed; return it if it was waiting."""
        for bird, _ in self.waiting:
            if bird.id == id_:
                self._pass(bird, now)
                return bird
        if id_ > self._told_id:
            self._told_id, self._told_s = id_, now
        return None

    def look(self, now: float) -> list[Bird]:
        """Return who has passed since the last look."""
        hop = self.hop
        if not self.waiting:
            return []
        at = -1 if hop.reached is None else hop.reached()
        seen = at if hop.moved is None else hop.moved()
        if seen != self._seen:
            self._seen, self._moved_s = seen, now
        gone = [bird for bird, _ in self.waiting if 0 <= bird.offset < at]
        for bird in gone:
            self._pass(bird, now)
        return gone

    def _pass(self, bird: Bird, now: float) -> None:
        while self.waiting:
            first, came_s = self.waiting.popleft()
            if first is bird:
                self._count(bird, came_s, now)
                return
            self.overtaken += 1  # it was lost on the way, or never got off

    def _count(self, bird: Bird, came_s: float, now: float) -> None:
        self.latency_s, self.whole_s = max(0.0, now - came_s), now - bird.sent_s
        self.passed_s = self._moved_s = now

    def trouble(self, now: float) -> str:
        """Return why this hop is red, "" if it is not."""
        if not self.waiting:
            return ""
        waited_s = now - self.waiting[0][1]
        failing = self.hop.failing()
        still_s = min(waited_s, now - self._moved_s)
        if self.hop.strict and failing:
            still_s = waited_s
        if still_s <= PATIENCE_S:
            return ""
        return f"stuck for {waited_s:.0f} s: {failing or 'it takes messages and lets none through'}"

    def last(self, now: float) -> str:
        """Say when a canary passed last."""
        if self.passed_s < 0:
            return "no canary has passed yet"
        return (
            f"the last canary passed {max(0.0, now - self.passed_s):.1f} s ago,"
            f" {self.whole_s * 1000:.0f} ms after it was sent"
        )
