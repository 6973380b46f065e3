"""What the rest of the gateway may assume about history."""

from collections.abc import Sequence
from typing import Annotated, Protocol

from msgspec import Meta, Struct

METRIC_NAMES = ("pm1", "pm25", "pm10", "co2", "tvoc", "temp", "rh", "pressure")

Cursor = Annotated[
    str,
    Meta(description="where the next page begins", extra_json_schema={"format": "page-cursor"}),
]
"""What a page gave with it; anything else is refused."""


class ReadingRow(Struct, frozen=True, gc=False, kw_only=True):
    """One air reading. ``ts`` device ms, ``rts`` receive ms; units as in payloads.Sensor."""

    robot: str
    ts: int
    rts: int
    seq: int | None = None
    pm1: float | None = None
    pm25: float | None = None
    pm10: float | None = None
    co2: float | None = None
    tvoc: float | None = None
    temp: float | None = None
    rh: float | None = None
    pressure: float | None = None
    x: float | None = None
    y: float | None = None
    room: str | None = None


class RobotRow(Struct, frozen=True, gc=False, kw_only=True):
    """What is known of a robot. None means "not said": an upsert keeps what was known before.

    With ``state`` given, ``error`` None is said: the error is over.
    """

    id: str
    last_seen: int  # receive ms
    connection: str | None = None  # online, offline, lost
    connection_ts: int | None = None
    state: str | None = None
    state_ts: int | None = None
    battery: float | None = None
    fan: int | None = None
    filter: float | None = None
    error: str | None = None
    name: str | None = None
    model: str | None = None
    firmware: str | None = None
    map_id: str | None = None
    pose: str | None = None  # the last pose as the JSON object of /ws/coordinates


class EventRow(Struct, frozen=True, gc=False, kw_only=True):
    """Something a robot reported once. The journal's ``offset`` makes the write idempotent."""

    offset: int
    robot: str
    ts: int
    rts: int
    code: str
    level: str
    x: float | None = None
    y: float | None = None
    room: str | None = None


class DeadLetterRow(Struct, frozen=True, gc=False, kw_only=True):
    """A message that did not fit. ``id`` is its journal offset."""

    id: int
    topic: str
    payload: bytes
    reason: str
    detail: str
    at: int  # receive ms


class Writes(Struct, frozen=True, kw_only=True):
    """One transaction of the records reader: all of it, or nothing."""

    readings: Sequence[ReadingRow] = ()
    robots: Sequence[RobotRow] = ()
    events: Sequence[EventRow] = ()
    dead_letters: Sequence[DeadLetterRow] = ()


class Written(Struct, frozen=True, kw_only=True):
    """What a transaction changed."""

    readings_new: int = 0
    readings_duplicate: int = 0
    dead_letters_new: int = 0
    dead_letters_evicted: int = 0  # the bound pushed the oldest out


class Page(Struct, frozen=True):
    """Raw readings, oldest first; ``cursor`` None on the last page. Opaque to callers."""

    rows: list[ReadingRow]
    cursor: str | None


class DeadLetterPage(Struct, frozen=True):
    """Dead letters, newest first; ``total`` counts all that are kept."""

    items: list[DeadLetterRow]
    cursor: str | None
    total: int


class Bucket(Struct, frozen=True, gc=False):
    """An aggregated range: ``values[metric] = (min, avg, max)``, columns aligned with ``t``."""

    t: list[int]  # bucket start, Unix ms
    values: dict[str, tuple[list[float | None], list[float | None], list[float | None]]]


class RobotTotals(Struct, frozen=True, gc=False):
    """How much there is of one robot; ``first_ts`` and ``last_ts`` in device ms."""

    robot: str
    readings: int
    first_ts: int
    last_ts: int


class RecordStore(Protocol):
    """History on disk, or in a database that boxes share.

    Idempotent: a reading with a (robot, ts, seq) or, without seq, a (robot, ts) that is there
    already changes nothing and counts as duplicate; dead letters and events go by offset and rts
    of this box's journal. Readings, robots and events are everybody's where boxes share a database;
    dead letters, and their bound, are each box's own.
    (seq alone is no name: a robot that restarts counts from 0 again, and its data is new. But a
    robot without a clock, ts = rts, that repeats a seq and every value within a day sent it again.)
    Durability: when ``write`` returns, the transaction is on disk (fsync).
    Ranges are [from, to) in device ms. Failure: Unavailable when the store does not answer in time.
    """

    async def write(self, writes: Writes) -> Written:
        """Apply ``writes`` in one transaction."""

    async def readings(
        self, robot: str, from_ms: int, to_ms: int, *, limit: int, cursor: str | None
    ) -> Page:
        """Return raw readings by (ts, seq). Raises InvalidInput for a cursor that is not ours."""

    async def buckets(
        self,
        robot: str,
        from_ms: int,
        to_ms: int,
        *,
        metrics: Sequence[str],
        edges_ms: Sequence[int] | int,
    ) -> Bucket:
        """Aggregate. ``edges_ms`` an int: UTC-aligned bucket width; a sequence: explicit bucket
        starts (ascending, the last one is the end), for days of a time zone. Empty buckets are left
        out.
        """

    async def latest_readings(self) -> list[ReadingRow]:
        """Return each robot's newest reading, by robot id."""

    async def latest_reading(self, robot: str) -> ReadingRow | None:
        """Return the newest reading of ``robot``."""

    async def totals(self) -> list[RobotTotals]:
        """Return how many readings there are of each robot that has any, by robot id."""

    async def robots(self) -> list[RobotRow]:
        """Return all robots, by id."""

    async def robot(self, robot: str) -> RobotRow | None:
        """Return one robot."""

    async def dead_letters(self, *, limit: int, cursor: str | None) -> DeadLetterPage:
        """List the dead letters, newest first."""

    async def take_dead_letters(self, ids: Sequence[int] | None) -> list[DeadLetterRow]:
        """Return the dead letters of ``ids`` (None: all), oldest first, without removing them."""

    async def delete_dead_letters(self, ids: Sequence[int] | None) -> int:
        """Remove and return how many went."""

    async def identity(self) -> str:
        """Return a name made with the store: another one means that history began again, empty."""

    async def ping(self) -> None:
        """Return if the store answers; raise Unavailable if not."""

    def sever(self, cut: bool) -> None:  # noqa: FBT001 - a switch
        """Drill: while ``cut`` every call raises Unavailable at once; then heal as ever."""
