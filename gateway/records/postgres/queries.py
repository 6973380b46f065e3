"""What is asked. Answers become the port's rows in steps, so that the event loop is not held."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from gateway.records.port import (
    METRIC_NAMES,
    Bucket,
    DeadLetterPage,
    DeadLetterRow,
    Page,
    ReadingRow,
    RobotRow,
    RobotTotals,
)
from gateway.records.postgres.link import Session
from gateway.records.postgres.plain import bigint
from gateway.records.rows import NO_SEQ, cursor_of, position_of

T = TypeVar("T")
Row = Any
"""asyncpg.Record."""

_ROWS_AT_ONCE: Final = 500  # about a millisecond

_COLUMNS: Final = ", ".join(
    f"nullif(r.seq, {NO_SEQ}) AS seq" if name == "seq" else f"r.{name}"
    for name in ReadingRow.__struct_fields__
)
_ROBOTS: Final = f"SELECT {', '.join(RobotRow.__struct_fields__)} FROM robots"  # noqa: S608
_DEADS: Final = f"SELECT {', '.join(DeadLetterRow.__struct_fields__)} FROM dead_letters"  # noqa: S608
_PAGE: Final = (
    f"SELECT {_COLUMNS} FROM readings r WHERE r.robot = $1 AND r.ts >= $2 AND r.ts < $3"  # noqa: S608
    " AND (r.ts, r.seq) > ($4, $5) ORDER BY r.ts, r.seq LIMIT $6"
)
# The totals know the newest time: one partition is searched, not every one.
_NEWEST: Final = (
    f"SELECT {_COLUMNS} FROM reading_totals t CROSS JOIN LATERAL ("  # noqa: S608
    " SELECT * FROM readings n WHERE n.robot = t.robot AND n.ts = t.last_ts"
    " ORDER BY n.seq DESC LIMIT 1) AS r WHERE t.readings > 0"
)


async def readings(
    session: Session, robot: str, from_ms: int, to_ms: int, limit: int, cursor: str | None
) -> Page:
    """Return one page by (ts, seq); see RecordStore."""
    from_ms, to_ms = bigint(from_ms), bigint(to_ms)
    after_ts, after_seq = (from_ms, NO_SEQ - 1) if cursor is None else position_of(cursor)
    found = await session.connection.fetch(
        _PAGE, robot, max(from_ms, after_ts), to_ms, after_ts, after_seq, limit + 1
    )
    page = await _in_steps(found[:limit], _reading)
    if len(found) <= limit or not page:
        return Page(page, None)
    last = page[-1]
    return Page(page, cursor_of(last.ts, NO_SEQ if last.seq is None else last.seq))


async def buckets(
    session: Session,
    robot: str,
    from_ms: int,
    to_ms: int,
    metrics: Sequence[str],
    edges_ms: Sequence[int] | int,
) -> Bucket:
    """Return min, avg and max of ``metrics`` per bucket; see RecordStore."""
    if not set(metrics) <= set(METRIC_NAMES):
        raise ValueError(f"not metrics: {metrics}")  # they become part of the statement
    columns = ", ".join(f"min({name}), avg({name}), max({name})" for name in metrics)
    some = " + ".join(f"count({name})" for name in metrics)
    given: int | list[int]
    if isinstance(edges_ms, int):
        start, given = "ts / $4::bigint * $4::bigint", edges_ms
    else:  # width_bucket: the place of the edge before, counted from 1
        if len(edges_ms) < 2:
            return Bucket([], {name: ([], [], []) for name in metrics})
        start, given = "($4::bigint[])[width_bucket(ts, $4::bigint[])]", list(edges_ms)
        from_ms, to_ms = max(from_ms, edges_ms[0]), min(to_ms, edges_ms[-1])
    found = await session.connection.fetch(
        f"SELECT {start} AS start, {columns} FROM readings"  # noqa: S608 - our own names
        f" WHERE robot = $1 AND ts >= $2 AND ts < $3"
        f" GROUP BY start HAVING {some} > 0 ORDER BY start",
        *(robot, bigint(from_ms), bigint(to_ms), given),
    )
    made: list[list[Any]] = [[] for _ in range(1 + 3 * len(metrics))]
    for at in range(0, len(found), _ROWS_AT_ONCE):
        chunk = zip(*found[at : at + _ROWS_AT_ONCE], strict=True)
        for column, values in zip(made, chunk, strict=True):
            column.extend(values)
        await asyncio.sleep(0)
    places = range(1, len(made), 3)
    return Bucket(
        made[0],
        {
            name: (made[at], made[at + 1], made[at + 2])
            for at, name in zip(places, metrics, strict=True)
        },
    )


async def latest_readings(session: Session) -> list[ReadingRow]:
    """Return each robot's newest reading, by robot id: one index search per robot."""
    found = await session.connection.fetch(_NEWEST + " ORDER BY t.robot")
    return await _in_steps(found, _reading)


async def latest_reading(session: Session, robot: str) -> ReadingRow | None:
    """Return the newest reading of ``robot``."""
    row = await session.connection.fetchrow(_NEWEST + " AND t.robot = $1", robot)
    return None if row is None else _reading(row)


async def totals(session: Session) -> list[RobotTotals]:
    """Return the totals, by robot id."""
    found = await session.connection.fetch(
        "SELECT robot, readings, first_ts, last_ts FROM reading_totals"
        " WHERE readings > 0 ORDER BY robot"
    )
    return await _in_steps(found, lambda row: RobotTotals(*row))


async def robots(session: Session) -> list[RobotRow]:
    """Return all robots, by id."""
    found = await session.connection.fetch(_ROBOTS + " ORDER BY id")
    return await _in_steps(found, _robot)


async def robot(session: Session, name: str) -> RobotRow | None:
    """Return one robot."""
    row = await session.connection.fetchrow(_ROBOTS + " WHERE id = $1", name)
    return None if row is None else _robot(row)


async def dead_letters(
    session: Session, box: str, limit: int, cursor: str | None
) -> DeadLetterPage:
    """Return one page of ``box``, newest first, and how many there are in all."""
    before = (2**63 - 1, 2**63 - 1) if cursor is None else position_of(cursor)
    found = await session.connection.fetch(
        _DEADS + " WHERE box = $1 AND (at, id) < ($2, $3) ORDER BY at DESC, id DESC LIMIT $4",
        *(box, *before, limit + 1),
    )
    total: int = await session.connection.fetchval(
        "SELECT count(*) FROM dead_letters WHERE box = $1", box
    )
    items = await _in_steps(found[:limit], _dead)
    more = len(found) > limit and items
    return DeadLetterPage(items, cursor_of(items[-1].at, items[-1].id) if more else None, total)


async def take_dead_letters(
    session: Session, box: str, ids: Sequence[int] | None
) -> list[DeadLetterRow]:
    """Return the letters of ``ids`` (None: all) of ``box``, oldest first."""
    found = await session.connection.fetch(
        _DEADS + " WHERE box = $1 AND ($2::bigint[] IS NULL OR id = ANY($2)) ORDER BY at, id",
        *(box, None if ids is None else [one for one in ids if abs(one) < 2**63]),
    )
    return await _in_steps(found, _dead)


async def identity(session: Session) -> str:
    """Return the name made with the tables."""
    name: str = await session.connection.fetchval("SELECT identity FROM store")
    return name


async def _in_steps(rows: Sequence[Row], convert: Callable[[Row], T]) -> list[T]:
    converted: list[T] = []
    for at in range(0, len(rows), _ROWS_AT_ONCE):
        converted += map(convert, rows[at : at + _ROWS_AT_ONCE])
        await asyncio.sleep(0)
    return converted


def _reading(row: Row) -> ReadingRow:
    return ReadingRow(**row)


def _robot(row: Row) -> RobotRow:
    return RobotRow(**row)


def _dead(row: Row) -> DeadLetterRow:
    return DeadLetterRow(**row)
