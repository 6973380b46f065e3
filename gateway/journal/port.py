"""What the rest of the gateway may assume about the journal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from msgspec import Struct

Entry = tuple[int, str, int, bytes]
"""(kind: gateway.core.kinds.Kind, robot id, device time in ms, payload as received)."""


class Record(NamedTuple):
    """One record as a reader gets it. Times in Unix ms; ``offset`` counts records from 0."""

    offset: int
    kind: int
    robot: str
    ts: int
    rts: int
    payload: bytes


@dataclass(slots=True, frozen=True)
class Read:
    """A step of a reader. Commit ``next_offset`` when ``records`` are safe elsewhere.

    ``records`` holds only the kinds the reader asked for and may be empty; ``next_offset`` moves
    past skipped kinds. ``lost`` counts records between the reader's position and ``next_offset``
    that retention or damage took away before this reader had them. ``passed`` counts all records of
    any kind from the position up to ``next_offset``, ``lost`` excluded: the sum is the way made.
    """

    records: Sequence[Record]
    next_offset: int
    passed: int
    lost: int = 0


@dataclass(slots=True, frozen=True)
class Trace:
    """What the journal knows of one robot, newest first. ``more``: some older ones are left out."""

    records: Sequence[Record]
    more: bool


class JournalStats(Struct, frozen=True, rename="camel"):
    """Counters since start unless said otherwise; see docs/journal-format.md."""

    first_offset: int  # oldest record still on disk
    committed_offset: int  # the next record to become durable has this offset
    next_offset: int  # the next record to be appended gets this offset
    bytes_on_disk: int
    segments: int
    appended: int
    committed: int
    pending_bytes: int  # appended, not yet durable
    dropped: dict[str, int]  # records removed, by reason: "age", "size", "corrupt", "torn"
    syncs: int
    sync_ms_last: float
    failing: str  # "" or why nothing becomes durable now, e.g. "No space left on device"
    epoch: str = ""  # 16 hex digits made with the journal: an offset means nothing in another one


class Reader(Protocol):
    """A named position of its own in the journal; it survives restarts."""

    name: str

    async def read(self, *, max_records: int = 10_000) -> Read:
        """Wait for committed records after the position and return the next step.

        Only durable records are seen. A reader that is caught up is served from memory. Cancelling
        loses nothing: the position moves when the call returns, and starts again at the last commit
        after a restart. Raises nothing in normal operation: corruption shows as ``lost``.
        """

    def commit(self, next_offset: int) -> None:
        """Say that all before ``next_offset`` is safe elsewhere; on disk soon, or at close."""

    @property
    def position(self) -> int:
        """The offset of the next record to be read."""

    @property
    def committed(self) -> int:
        """The offset given to the last ``commit``."""


class Journal(Protocol):
    """An ordered log on disk.

    Ordering: records have consecutive offsets in the order of ``append``. Durability: ``on_commit``
    is called on the event loop after the bytes were fdatasync'ed (and a new file's directory
    fsync'ed), in the order of the appends. Failure: while the disk is full or failing nothing is
    committed, nothing is lost, the write is retried; ``stats().failing`` says why. Bounds: over
    ``max_bytes`` or ``max_age`` the oldest segment goes, counted per reason.
    """

    def append(self, entries: Sequence[Entry], rts_ms: int, on_commit: Callable[[], None]) -> int:
        """Queue ``entries`` (may be empty: then ``on_commit`` still keeps its turn).

        Synchronous, never raises for content within limits. Returns the offset of the first entry.
        """

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Call ``pause`` when undurable bytes pass the high mark, ``resume`` below the low mark."""

    def reader(self, name: str, kinds: frozenset[int] | None = None) -> Reader:
        """Return the reader ``name``; new ones start at the oldest record. ``kinds`` None: all."""

    async def trace(
        self, robot: str, *, since: int, age_s: float, most: int, patience_s: float
    ) -> Trace:
        """Return the durable records of ``robot`` from offset ``since`` on, ``most`` of each kind.

        Files to which nothing was written for ``age_s`` are left out. It reads the files, in slices
        on a thread: at most ``patience_s`` seconds, and one search at a time. Readers and writers
        go on meanwhile. For people who ask, not for every message.

        Raises:
            Unavailable: the files cannot be read.
        """

    async def flush(self) -> None:
        """Return when all that was appended before the call is durable."""

    def stats(self) -> JournalStats:
        """Return the present figures."""
