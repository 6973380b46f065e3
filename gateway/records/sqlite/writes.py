"""What the writer's thread does inside its one transaction."""

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.records.port import (
    DeadLetterRow,
    EventRow,
    ReadingRow,
    RobotRow,
    Writes,
    Written,
)
from gateway.records.rows import DAY_MS, NO_SEQ, Bounds, bytes_of
from gateway.records.sqlite.database import Connection

_READING_COLUMNS: Final = ReadingRow.__struct_fields__
_ROBOT_COLUMNS: Final = RobotRow.__struct_fields__
_EVENT_COLUMNS: Final = EventRow.__struct_fields__


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _places(columns: Sequence[str]) -> str:
    return ", ".join("?" * len(columns))


_INSERT_READING: Final = (
    f"INSERT INTO readings ({_names(_READING_COLUMNS)}) VALUES ({_places(_READING_COLUMNS)})"  # noqa: S608
    " ON CONFLICT DO NOTHING"
)
# Without a number the time alone is the name: any reading of that millisecond is the same one.
_INSERT_UNNUMBERED: Final = (
    f"INSERT INTO readings ({_names(_READING_COLUMNS)}) SELECT {_places(_READING_COLUMNS)}"  # noqa: S608
    " WHERE NOT EXISTS (SELECT 1 FROM readings WHERE robot = ?1 AND ts = ?2)"
).replace("SELECT ?, ?,", "SELECT ?1, ?2,", 1)
# A robot without a clock gets the receive time, so what it sends again after a lost PUBACK comes
# with another time. Its number and all of its values tell: a number alone may begin again.
_INSERT_CLOCKLESS: Final = (
    f"INSERT INTO readings ({_names(_READING_COLUMNS)})"  # noqa: S608
    f" SELECT {', '.join(f'?{n}' for n in range(1, len(_READING_COLUMNS) + 1))}"
    " WHERE NOT EXISTS (SELECT 1 FROM readings WHERE ts = rts AND seq >= 0"
    f" AND robot = ?1 AND seq = ?4 AND ts > ?2 - {DAY_MS} AND "
    + " AND ".join(
        f"{column} IS ?{n}"
        for n, column in enumerate(_READING_COLUMNS, 1)
        if column not in ("robot", "ts", "rts", "seq")
    )
    + ") ON CONFLICT DO NOTHING"
)
_ADD_TOTAL: Final = (
    "INSERT INTO reading_totals VALUES (?, ?, ?, ?) ON CONFLICT (robot) DO UPDATE SET"
    " readings = readings + excluded.readings,"
    " first_ts = min(first_ts, excluded.first_ts), last_ts = max(last_ts, excluded.last_ts)"
)
_KEPT: Final = ", ".join(
    f"{column} = coalesce(excluded.{column}, {column})"
    for column in _ROBOT_COLUMNS
    if column not in ("id", "last_seen", "error")
)
_UPSERT_ROBOT: Final = (
    f"INSERT INTO robots ({_names(_ROBOT_COLUMNS)}) VALUES ({_places(_ROBOT_COLUMNS)})"  # noqa: S608
    " ON CONFLICT (id) DO UPDATE SET last_seen = max(last_seen, excluded.last_seen),"
    " error = iif(excluded.state IS NULL, coalesce(excluded.error, error), excluded.error),"
    f" {_KEPT}"
)
_INSERT_EVENT: Final = (
    f"INSERT INTO events ({_names(_EVENT_COLUMNS)}) VALUES ({_places(_EVENT_COLUMNS)})"  # noqa: S608
    " ON CONFLICT DO NOTHING"
)
_INSERT_DEAD: Final = (
    "INSERT INTO dead_letters (id, at, topic, reason, detail, payload, bytes)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
# A journal that began again gives offsets out again; the older letter of that number makes way.
_REPLACED_DEAD: Final = "DELETE FROM dead_letters WHERE id = ? AND at <> ?"
_EVICT_DEAD: Final = (
    "DELETE FROM dead_letters WHERE id IN (SELECT id FROM ("
    " SELECT id, row_number() OVER newest AS place, sum(bytes) OVER newest AS held"
    " FROM dead_letters WINDOW newest AS (ORDER BY at DESC, id DESC))"
    " WHERE place > ? OR held > ?)"
)


def write(connection: Connection, writes: Writes, bounds: Bounds) -> Written:
    """Apply ``writes``; the caller holds the transaction."""
    new = _readings(connection, writes.readings)
    if writes.robots:
        connection.executemany(_UPSERT_ROBOT, map(msgspec.structs.astuple, writes.robots))
    if writes.events:
        connection.executemany(_INSERT_EVENT, map(msgspec.structs.astuple, writes.events))
    dead, evicted = _dead_letters(connection, writes.dead_letters, bounds)
    return Written(
        readings_new=new,
        readings_duplicate=len(writes.readings) - new,
        dead_letters_new=dead,
        dead_letters_evicted=evicted,
    )


def _readings(connection: Connection, rows: Sequence[ReadingRow]) -> int:
    """Insert ``rows`` robot by robot, so that the totals of each move by what was really new."""
    by_robot: dict[str, list[ReadingRow]] = {}
    for row in rows:
        by_robot.setdefault(row.robot, []).append(row)
    new = 0
    for robot, group in by_robot.items():
        before = connection.total_changes
        clocked: list[tuple[object, ...]] = []
        clockless: list[tuple[object, ...]] = []
        for row in group:
            if row.seq is not None:
                (clockless if row.ts == row.rts else clocked).append(msgspec.structs.astuple(row))
        unnumbered = [_unnumbered(row) for row in group if row.seq is None]
        if clocked:
            connection.executemany(_INSERT_READING, clocked)
        if clockless:
            connection.executemany(_INSERT_CLOCKLESS, clockless)
        if unnumbered:
            connection.executemany(_INSERT_UNNUMBERED, unnumbered)
        if added := connection.total_changes - before:
            times = [row.ts for row in group]  # a duplicate among them is within the totals anyway
            connection.execute(_ADD_TOTAL, (robot, added, min(times), max(times)))
            new += added
    return new


def _unnumbered(row: ReadingRow) -> tuple[object, ...]:
    values = list(msgspec.structs.astuple(row))
    values[_READING_COLUMNS.index("seq")] = NO_SEQ
    return tuple(values)


def _dead_letters(
    connection: Connection, rows: Sequence[DeadLetterRow], bounds: Bounds
) -> tuple[int, int]:
    """Return how many are new and how many the bounds pushed out."""
    if not rows:
        return 0, 0
    start = connection.total_changes
    connection.executemany(_REPLACED_DEAD, [(row.id, row.at) for row in rows])
    replaced = connection.total_changes - start
    connection.executemany(
        _INSERT_DEAD,
        [
            (row.id, row.at, row.topic, row.reason, row.detail, row.payload, bytes_of(row))
            for row in rows
        ],
    )
    new = connection.total_changes - start - replaced
    count, held = connection.execute(
        "SELECT count(*), coalesce(sum(bytes), 0) FROM dead_letters"
    ).fetchone()
    if count <= bounds.dead_letters and held <= bounds.dead_letter_bytes:
        return new, replaced
    before = connection.total_changes
    connection.execute(_EVICT_DEAD, (bounds.dead_letters, bounds.dead_letter_bytes))
    return new, replaced + connection.total_changes - before


def delete_dead_letters(connection: Connection, ids: Sequence[int] | None) -> int:
    """Remove ``ids`` (None: all); return how many there were."""
    before = connection.total_changes
    if ids is None:
        connection.execute("DELETE FROM dead_letters")
    else:
        connection.executemany("DELETE FROM dead_letters WHERE id = ?", [(one,) for one in ids])
    return connection.total_changes - before
