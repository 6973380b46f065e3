"""The journal's promise in a list: commits happen when the test says so."""

from collections.abc import Callable, Sequence

from gateway.journal.port import Entry


class MemoryJournal:
    """Only ``append``: all that ingest uses."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._waiting: list[Callable[[], None]] = []

    def append(self, entries: Sequence[Entry], rts_ms: int, on_commit: Callable[[], None]) -> int:
        first = len(self.entries)
        self.entries += entries
        self._waiting.append(on_commit)
        return first

    def commit(self, appends: int | None = None) -> None:
        """Make the oldest ``appends`` (None: all) durable."""
        ready = self._waiting[:appends]
        del self._waiting[: len(ready)]
        for callback in ready:
            callback()
