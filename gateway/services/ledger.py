"""The ledger: nothing is lost uncounted.

For every hop and kind ``in = delivered + pending + sum(dropped)``. Each number is counted where it
happens, so that the balance can fail: ``unaccounted`` is what is missing, and it must stay 0.
Hops and kinds are explained in docs/ledger.md.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct, field


class Line(Struct):
    """One hop and kind since start. ``pending`` is inside the hop now."""

    entered: int = 0
    delivered: int = 0
    pending: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def unaccounted(self) -> int:
        return self.entered - self.delivered - self.pending - self.dropped.total()


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

    def report(self) -> dict[str, Any]:
        """Return the hops in the shape of GET /api/admin/ledger (without ``since``)."""
        lines = self.lines()
        return {
            "unaccounted": sum(abs(line.unaccounted) for _, _, line in lines),
            "hops": [
                {
                    "hop": hop,
                    "kind": kind,
                    "in": line.entered,
                    "delivered": line.delivered,
                    "pending": line.pending,
                    "dropped": dict(line.dropped),
                    "unaccounted": line.unaccounted,
                }
                for hop, kind, line in lines
            ],
        }
