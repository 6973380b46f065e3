"""How far a reader of the journal came: the line ``backlog`` of its hop in the ledger."""

from gateway.journal.port import Read, Reader
from gateway.services.ledger import Line


class Way:
    """The line compares the journal's offsets with the records that were really handed over, so a
    reader that skips one shows as unaccounted.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._start = reader.position
        self._handed = 0
        self._lost = 0

    def take(self, step: Read) -> None:
        """Note what ``read`` just returned; before anything is awaited."""
        self._handed += step.passed
        self._lost += step.lost

    def line(self, committed_offset: int) -> Line:
        """Return the balance up to the journal's ``committed_offset``."""
        backlog = Line(
            entered=committed_offset - self._start,
            delivered=self._handed,
            pending=committed_offset - self._reader.position,
        )
        if self._lost:
            backlog.dropped["retention"] = self._lost
        return backlog
