"""Each event once on this box's live view, whichever boxes took it in, by whichever road."""

from collections.abc import Callable, Iterable
from typing import Final

from gateway.core.kinds import Kind
from gateway.core.payloads import Payload
from gateway.services.ledger import Line
from gateway.services.live_poses import Update

MAX_EVENTS: Final = 10_000  # remembered to tell a repeated one; the oldest are forgotten

_EVENT: Final = int(Kind.EVENT)


class Once:
    """Stands before the hub for this box's own messages, and is asked about other boxes'.

    An event comes twice if a box tells it again (directly while the stream was behind, and when it
    drains), or if two boxes took it in, being clients of one broker. The second kind is known by
    the device's own time: without one that is believed, both are shown.
    """

    def __init__(self, publish: Callable[[list[Update]], int], *, box: str) -> None:
        """``publish``: the hub's."""
        self._publish = publish
        self._box = box
        self._told: dict[int, None] = {}  # as one box told it
        self._first: dict[int, str] = {}  # as the device told it: the box that was the first
        self._line = Line()

    def publish(self, updates: list[Update]) -> int:
        """Show this box's messages, but for events that another one brought before."""
        if any(update[0] == _EVENT for update in updates):
            updates = [update for update in updates if self._is_new(update)]
        return self._publish(updates)

    def _is_new(self, update: Update) -> bool:
        if update[0] != _EVENT:
            return True
        _, robot, payload, ts, _ = update
        self._line.entered += 1
        if self._brought_by_another(self._box, robot, payload, ts):
            self._line.dropped["repeated"] += 1
            return False
        self._line.delivered += 1
        return True

    def repeated(self, box: str, update: Update) -> bool:
        """Return whether this event, which ``box`` took in, was shown; remember it."""
        _, robot, payload, ts, rts = update
        told = hash((robot, ts, rts, payload))
        if told in self._told:
            return True
        if len(self._told) >= MAX_EVENTS:
            del self._told[next(iter(self._told))]
        self._told[told] = None
        return self._brought_by_another(box, robot, payload, ts)

    def _brought_by_another(self, box: str, robot: str, payload: Payload, ts: int) -> bool:
        own_ts = getattr(payload, "ts", None)
        if own_ts is None or int(own_ts) != ts:
            return False  # two of one device look alike then
        event = hash((robot, payload))
        first = self._first.get(event)
        if first is None:
            if len(self._first) >= MAX_EVENTS:
                del self._first[next(iter(self._first))]
            self._first[event] = box
        return first is not None and first != box

    def lines(self) -> Iterable[tuple[str, str, Line]]:
        """Return the hop ``once``: this box's own events on their way to its live view."""
        yield "once", "event", self._line
