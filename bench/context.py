"""What every measurement gets: where to write, how often to measure, how long."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Context:
    """``folder`` is on the disk whose fdatasync counts, never a memory file system by accident."""

    folder: Path
    runs: int = 3
    quick: bool = False  # one run, smaller loads: to see that it works, not to quote
    long: bool = False  # the slow reader for 10 minutes
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def fresh(self) -> Path:
        """Return a folder nobody used yet."""
        return self.folder / f"run-{next(self._numbers)}"

    def scaled(self, count: int) -> int:
        """Return ``count`` messages, or fewer when it has to be quick."""
        return count // 4 if self.quick else count
