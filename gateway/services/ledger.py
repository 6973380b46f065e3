"""The ledger: nothing is lost uncounted.

For every hop and kind ``in = delivered + pending + sum(dropped)``. Each number is counted where it
happens, so that the balance can fail: ``unaccounted`` is what is missing, and it must stay 0.
Hops and kinds are explained in docs/ledger.md.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from msgspec import Struct, field

from gateway.core.times import Instant, rfc3339


class Line(Struct):
    """One hop and kind since start. ``pending`` is inside the hop now."""

    entered: int = 0
    delivered: int = 0
    pending: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def unaccounted(self) -> int:
        return self.entered - self.delivered - self.pending - self.dropped.total()


class Hop(Struct, frozen=True, rename={"entered": "in"}):
    """in = delivered + pending + the sum of dropped; ``unaccounted`` is what is missing in that."""

    hop: str
    kind: str
    entered: int
    delivered: int
    pending: int
    dropped: dict[str, int]
    unaccounted: int


class Report(Struct, frozen=True):
    """Where every message since ``since`` is. ``unaccounted`` is 0, or there is a bug."""

    since: Instant
    unaccounted: int
    hops: list[Hop]


Source = Callable[[], Iterable[tuple[str, str, Line]]]


class Ledger:
    """Collect the lines of all hops when asked; the counting itself costs nothing here."""

    def __init__(self, since_ms: int) -> None:
        self.since_ms = since_ms
        self._sources: list[Source] = []

    def add(self, source: Source) -> None:
        """Ask ``source`` for its (hop, kind, line) from now on."""
        self._sources.append(source)

    def lines(self) -> list[tuple[str, str, Line]]:
        """Return every (hop, kind, line), one consistent moment of the event loop."""
        return [line for source in self._sources for line in source()]

    def unaccounted(self) -> int:
        """Return the sum over all lines of what is missing or appeared from nowhere."""
        return sum(abs(line.unaccounted) for _, _, line in self.lines())

    def report(self) -> Report:
        """Return the balance of this moment."""
        lines = self.lines()
        hops = [
            Hop(
                hop,
                kind,
                line.entered,
                line.delivered,
                line.pending,
                dict(line.dropped),
                line.unaccounted,
            )
            for hop, kind, line in lines
        ]
        return Report(rfc3339(self.since_ms), sum(abs(hop.unaccounted) for hop in hops), hops)
