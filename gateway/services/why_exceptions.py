"""What the live view did not show, and why: the few messages of which nothing else tells."""

from collections import deque
from typing import Final, NamedTuple

from gateway.services.live_poses import Update

MOST: Final = 10_000  # of all robots together; the oldest are forgotten

STALE: Final = "stale"
REFUSED: Final = "refused"


class Missed(NamedTuple):
    """A message that did not become what is shown. Times in Unix ms; ``seq`` -1: it had none.

    ``known_ts`` and ``known_seq`` are of what was shown instead, if it is ``stale``.
    """

    verdict: str
    kind: int
    robot: str
    ts: int
    rts: int
    seq: int
    known_ts: int = 0
    known_seq: int = -1


class Exceptions:
    """A ring of MOST. Only messages that are not shown cost something, and not much."""

    def __init__(self, most: int = MOST) -> None:
        self._ring: deque[Missed] = deque(maxlen=most)

    def stale(self, update: Update, known_ts: int, known_seq: int | None) -> None:
        """Note that ``update`` is older than what is known."""
        kind, robot, payload, ts, rts = update
        seq = _number(getattr(payload, "seq", None))
        self._ring.append(Missed(STALE, kind, robot, ts, rts, seq, known_ts, _number(known_seq)))

    def refused(self, update: Update) -> None:
        """Note that ``update`` is of a robot too many."""
        kind, robot, payload, ts, rts = update
        seq = _number(getattr(payload, "seq", None))
        self._ring.append(Missed(REFUSED, kind, robot, ts, rts, seq))

    def of(self, robot: str) -> list[Missed]:
        """Return what ``robot`` missed, oldest first."""
        return [missed for missed in self._ring if missed.robot == robot]


def _number(seq: int | None) -> int:
    return -1 if seq is None else seq
