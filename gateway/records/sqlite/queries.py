"""What the readers' threads ask. Every statement names its columns: the order is ReadingRow's."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

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
from gateway.records.rows import NO_SEQ, cursor_of, position_of
from gateway.records.sqlite.database import Connection

_ROWS_AT_ONCE: Final = 1_000

_READING: Final = ReadingRow.__struct_fields__
_ROBOT: Final = RobotRow.__struct_fields__
_DEAD: Final = DeadLetterRow.__struct_fields__

_READINGS: Final = f"SELECT {', '.join(_READING)} FROM readings"  # noqa: S608 - our own names
_ROBOTS: Final = f"SELECT {', '.join(_ROBOT)} FROM robots"  # noqa: S608
_DEADS: Final = f"SELECT {', '.join(_DEAD)} FROM dead_letters"  # noqa: S608
_NEWEST: Final = _READINGS + " WHERE robot = ? ORDER BY ts DESC, seq DESC LIMIT 1"


def readings(
    connection: Connection, robot: str, from_ms: int, to_ms: int, limit: int, cursor: str | None
) -> Page:
    """Return one page by (ts, seq); see RecordStore."""
    after_ts, after_seq = (from_ms, NO_SEQ - 1) if cursor is None else position_of(cursor)
    rows = connection.execute(
        _READINGS + " WHERE robot = ? AND ts >= ? AND ts < ? AND (ts, seq) > (?, ?)"
        " ORDER BY ts, seq LIMIT ?",
        (robot, max(from_ms, after_ts), to_ms, after_ts, after_seq, limit + 1),
    ).fetchall()
    page = [_reading(row) for row in rows[:limit]]
    more = len(rows) > limit
    return Page(page, cursor_of(page[-1].ts, _seq(page[-1].seq)) if more and page else None)


def buckets(
    connection: Connection,
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
    where = "FROM readings WHERE robot = ? AND ts >= ? AND ts < ?"
    if isinstance(edges_ms, int):
        found = connection.execute(
            f"SELECT ts / {edges_ms:d} * {edges_ms:d} AS t, {columns} {where}"
            f" GROUP BY t HAVING {some} > 0 ORDER BY t",
            (robot, from_ms, to_ms),
        )
        return _columns(iter(lambda: found.fetchmany(_ROWS_AT_ONCE), []), metrics)
    sql = f"SELECT ?, {columns} {where} GROUP BY robot HAVING {some} > 0"
    return _columns(
        (
            connection.execute(sql, (start, robot, max(start, from_ms), min(end, to_ms))).fetchall()
            for start, end in pairwise(edges_ms)
        ),
        metrics,
    )


def _columns(chunks: Iterable[list[tuple[Any, ...]]], metrics: Sequence[str]) -> Bucket:
    """Turn rows into columns, chunk by chunk: one big step would hold the interpreter's lock."""
    columns: list[list[Any]] = [[] for _ in range(1 + 3 * len(metrics))]
    for rows in chunks:
        for column, values in zip(columns, zip(*rows, strict=True), strict=False):
            column.extend(values)
    return Bucket(
        columns[0],
        {
            name: (columns[at], columns[at + 1], columns[at + 2])
            for at, name in zip(range(1, len(columns), 3), metrics, strict=True)
        },
    )


def latest_readings(connection: Connection) -> list[ReadingRow]:
    """Return each robot's newest reading, by robot id: one index search per robot."""
    names = connection.execute("SELECT robot FROM reading_totals ORDER BY robot").fetchall()
    return [_reading(row) for name in names for row in connection.execute(_NEWEST, name).fetchall()]


def latest_reading(connection: Connection, robot: str) -> ReadingRow | None:
    """Return the newest reading of ``robot``."""
    row = connection.execute(_NEWEST, (robot,)).fetchone()
    return None if row is None else _reading(row)


def totals(connection: Connection) -> list[RobotTotals]:
    """Return the totals, by robot id."""
    rows = connection.execute(
        "SELECT robot, readings, first_ts, last_ts FROM reading_totals ORDER BY robot"
    )
    return [RobotTotals(*row) for row in rows.fetchall()]


def robots(connection: Connection) -> list[RobotRow]:
    """Return all robots, by id."""
    return [_robot(row) for row in connection.execute(_ROBOTS + " ORDER BY id").fetchall()]


def robot(connection: Connection, name: str) -> RobotRow | None:
    """Return one robot."""
    row = connection.execute(_ROBOTS + " WHERE id = ?", (name,)).fetchone()
    return None if row is None else _robot(row)


def dead_letters(connection: Connection, limit: int, cursor: str | None) -> DeadLetterPage:
    """Return one page, newest first, and how many there are in all."""
    before = (2**63 - 1, 2**63 - 1) if cursor is None else position_of(cursor)
    rows = connection.execute(
        _DEADS + " WHERE (at, id) < (?, ?) ORDER BY at DESC, id DESC LIMIT ?", (*before, limit + 1)
    ).fetchall()
    items = [_dead(row) for row in rows[:limit]]
    more = len(rows) > limit
    (total,) = connection.execute("SELECT count(*) FROM dead_letters").fetchone()
    return DeadLetterPage(
        items, cursor_of(items[-1].at, items[-1].id) if more and items else None, total
    )


def take_dead_letters(connection: Connection, ids: Sequence[int] | None) -> list[DeadLetterRow]:
    """Return the letters of ``ids`` (None: all), oldest first."""
    if ids is None:
        rows = connection.execute(_DEADS + " ORDER BY at, id").fetchall()
    else:
        sql = _DEADS + " WHERE id = ?"
        rows = [row for one in set(ids) for row in connection.execute(sql, (one,)).fetchall()]
    return sorted(map(_dead, rows), key=lambda letter: (letter.at, letter.id))


def identity(connection: Connection) -> str:
    """Return the name made with the file."""
    name: str = connection.execute("SELECT identity FROM store").fetchone()[0]
    return name


def _reading(row: tuple[Any, ...]) -> ReadingRow:
    values = dict(zip(_READING, row, strict=True))
    if values["seq"] == NO_SEQ:
        values["seq"] = None
    return ReadingRow(**values)


def _robot(row: tuple[Any, ...]) -> RobotRow:
    return RobotRow(**dict(zip(_ROBOT, row, strict=True)))


def _dead(row: tuple[Any, ...]) -> DeadLetterRow:
    return DeadLetterRow(**dict(zip(_DEAD, row, strict=True)))


def _seq(seq: int | None) -> int:
    return NO_SEQ if seq is None else seq
