"""What one write does inside its one transaction.

Locks are taken in the same order by every box, so that two never wait for each other: the robots of
the readings (in reading_totals, by id), then the rows of robots (by id), then the box's own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.records.port import (
    DeadLetterRow,
    EventRow,
    ReadingRow,
    RobotRow,
    Writes,
    Written,
)
from gateway.records.postgres.link import Connection, Session
from gateway.records.rows import DAY_MS, NO_SEQ, Bounds, bytes_of

_READING: Final = ReadingRow.__struct_fields__
_ROBOT: Final = RobotRow.__struct_fields__
_EVENT: Final = EventRow.__struct_fields__
_SEQ: Final = _READING.index("seq")
_MEASURED: Final = tuple(n for n in _READING if n not in ("robot", "ts", "rts", "seq"))

_INCOMING: Final = "incoming_readings"
_COLUMNS: Final = ", ".join(_READING)

_LOCK: Final = (
    'SELECT 1 FROM reading_totals WHERE robot = ANY($1::text[]) ORDER BY robot COLLATE "C"'
    " FOR UPDATE"
)
_MAKE: Final = (
    f"INSERT INTO reading_totals SELECT robot, 0, {2**63 - 1}, {-(2**63) + 1}"  # noqa: S608
    " FROM unnest($1::text[]) AS given(robot) ON CONFLICT DO NOTHING"
)
# LATERAL with LIMIT or OFFSET: one search of an index per key, whatever the planner believes.
_TIMES_THERE: Final = (
    "SELECT given.robot, given.ts FROM unnest($1::text[], $2::bigint[]) AS given(robot, ts)"
    " CROSS JOIN LATERAL (SELECT 1 FROM readings r"
    " WHERE r.robot = given.robot AND r.ts = given.ts LIMIT 1) AS found"
)
_CLOCKLESS_THERE: Final = (
    "SELECT found.*"  # noqa: S608 - our own names
    " FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS given(robot, seq, ts)"
    f" CROSS JOIN LATERAL (SELECT {_COLUMNS} FROM readings r WHERE r.robot = given.robot"
    f" AND r.seq = given.seq AND r.ts = r.rts AND r.seq >= 0 AND r.ts > given.ts - {DAY_MS}"
    " OFFSET 0) AS found"
)
_KEYS_THERE: Final = (
    "SELECT given.robot, given.ts, given.seq"
    " FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS given(robot, seq, ts)"
    " CROSS JOIN LATERAL (SELECT 1 FROM readings r WHERE r.robot = given.robot"
    " AND r.ts = given.ts AND r.seq = given.seq LIMIT 1) AS found"
)
_INSERT: Final = (
    f"WITH new AS (INSERT INTO readings ({_COLUMNS}) SELECT {_COLUMNS} FROM {_INCOMING}"  # noqa: S608
    " ON CONFLICT DO NOTHING RETURNING robot, ts),"
    " added AS (SELECT robot, count(*) AS readings, min(ts) AS first_ts, max(ts) AS last_ts"
    " FROM new GROUP BY robot),"
    " moved AS (UPDATE reading_totals t SET readings = t.readings + a.readings,"
    " first_ts = least(t.first_ts, a.first_ts), last_ts = greatest(t.last_ts, a.last_ts)"
    " FROM added a WHERE t.robot = a.robot)"
    " SELECT coalesce(sum(readings), 0)::bigint FROM added"
)
_KEPT: Final = ", ".join(
    f"{column} = coalesce(excluded.{column}, robots.{column})"
    for column in _ROBOT
    if column not in ("id", "last_seen", "error")
)
_UPSERT_ROBOT: Final = (
    f"INSERT INTO robots ({', '.join(_ROBOT)})"  # noqa: S608 - our own names
    f" VALUES ({', '.join(f'${n}' for n in range(1, len(_ROBOT) + 1))})"
    " ON CONFLICT (id) DO UPDATE SET last_seen = greatest(robots.last_seen, excluded.last_seen),"
    " error = CASE WHEN excluded.state IS NULL THEN coalesce(excluded.error, robots.error)"
    f" ELSE excluded.error END, {_KEPT}"
)
_EVENT_NAMES: Final = ", ".join(f'"{column}"' for column in _EVENT)
_INSERT_EVENT: Final = (
    f"INSERT INTO events (box, {_EVENT_NAMES})"  # noqa: S608
    f" VALUES ({', '.join(f'${n}' for n in range(1, len(_EVENT) + 2))}) ON CONFLICT DO NOTHING"
)
# A journal that began again gives offsets out again; the older letter of that number makes way.
_REPLACE_DEAD: Final = (
    "WITH gone AS (DELETE FROM dead_letters d USING unnest($2::bigint[], $3::bigint[])"
    " AS given(id, at) WHERE d.box = $1 AND d.id = given.id AND d.at <> given.at RETURNING 1)"
    " SELECT count(*) FROM gone"
)
_INSERT_DEAD: Final = (
    "WITH new AS (INSERT INTO dead_letters (box, id, at, topic, reason, detail, payload, bytes)"
    " SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[],"
    " $7::bytea[], $8::bigint[]) ON CONFLICT DO NOTHING RETURNING 1) SELECT count(*) FROM new"
)
_EVICT_DEAD: Final = (
    "WITH gone AS (DELETE FROM dead_letters WHERE box = $1 AND id IN (SELECT id FROM ("
    " SELECT id, row_number() OVER newest AS place, sum(bytes) OVER newest AS held"
    " FROM dead_letters WHERE box = $1 WINDOW newest AS (ORDER BY at DESC, id DESC)) AS kept"
    " WHERE place > $2 OR held > $3) RETURNING 1) SELECT count(*) FROM gone"
)


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose events and dead letters these are, and how many of the latter are kept."""

    box: str
    bounds: Bounds


async def write(session: Session, writes: Writes, scope: Scope) -> Written:
    """Apply ``writes``; if anything raises, closing the connection undoes it."""
    connection = session.connection
    await connection.execute("BEGIN")
    if writes.readings:
        await _lock(connection, sorted({row.robot for row in writes.readings}))
    new = await _readings(session, writes.readings) if writes.readings else 0
    if writes.robots:
        rows = sorted(writes.robots, key=lambda row: row.id or "")
        await connection.executemany(_UPSERT_ROBOT, [msgspec.structs.astuple(row) for row in rows])
    if writes.events:
        events = [(scope.box, *msgspec.structs.astuple(row)) for row in writes.events]
        await connection.executemany(_INSERT_EVENT, events)
    dead, evicted = await _dead_letters(connection, writes.dead_letters, scope)
    await connection.execute("COMMIT")
    return Written(
        readings_new=new,
        readings_duplicate=len(writes.readings) - new,
        dead_letters_new=dead,
        dead_letters_evicted=evicted,
    )


async def _lock(connection: Connection, robots: Sequence[str]) -> None:
    """Lock ``robots``, which are sorted, for this transaction.

    Those nobody ever wrote are made first, outside of it: making them while others are locked would
    be a second order of locks, and end in a deadlock with a box that makes the same ones.
    """
    if len(await connection.fetch(_LOCK, robots)) < len(robots):
        await connection.execute("ROLLBACK")
        await connection.execute(_MAKE, robots)
        await connection.execute("BEGIN")
        await connection.execute(_LOCK, robots)


async def _readings(session: Session, rows: Sequence[ReadingRow]) -> int:
    """Insert ``rows``; the totals of each robot move by what was really new."""
    connection = session.connection
    if not session.staged:
        await connection.execute(
            f"CREATE TEMPORARY TABLE {_INCOMING} (LIKE readings) ON COMMIT DELETE ROWS"
        )
        session.staged = True
    records = await _once(connection, rows)
    await connection.copy_records_to_table(_INCOMING, records=records, columns=_READING)
    new: int = await connection.fetchval(_INSERT)
    return new


_Key = tuple[str, int, int]  # robot, ts, seq


async def _once(connection: Connection, rows: Sequence[ReadingRow]) -> Iterable[tuple[object, ...]]:
    """Return the rows that may be new, each once. What has its key there already may be among them.

    Of each robot those with a number and a clock come first, then those with a number, then the
    others: the order in which SQLite takes them.
    """
    chosen: dict[_Key, tuple[object, ...]] = {}
    clockless: list[ReadingRow] = []
    unnumbered: list[ReadingRow] = []
    for row in rows:
        if row.seq is None:
            unnumbered.append(row)
        elif row.ts == row.rts:
            clockless.append(row)
        else:
            chosen.setdefault((row.robot, row.ts, row.seq), msgspec.structs.astuple(row))
    if clockless:
        await _choose_clockless(connection, clockless, chosen)
    if unnumbered:
        await _choose_unnumbered(connection, unnumbered, chosen)
    return chosen.values()


async def _choose_clockless(
    connection: Connection, rows: Sequence[ReadingRow], chosen: dict[_Key, tuple[object, ...]]
) -> None:
    """Add those that are not there: no other of the last day has the number and every value.

    A robot without a clock gets the receive time, so what it sends again after a lost PUBACK comes
    with another time. Its number and all of its values tell: a number alone may begin again.
    """
    keys = [row.robot for row in rows], [row.seq for row in rows], [row.ts for row in rows]
    there = {tuple(key) for key in await connection.fetch(_KEYS_THERE, *keys)}
    times: dict[tuple[object, ...], list[int]] = {}
    for found in await connection.fetch(_CLOCKLESS_THERE, *keys):
        same = found["robot"], found["seq"], *(found[name] for name in _MEASURED)
        times.setdefault(same, []).append(found["ts"])
    for row in rows:
        seq = NO_SEQ if row.seq is None else row.seq  # only those with a number are given
        same = row.robot, seq, *(getattr(row, name) for name in _MEASURED)
        before = times.setdefault(same, [])
        key = row.robot, row.ts, seq
        if key in there or key in chosen or any(ts > row.ts - DAY_MS for ts in before):
            continue
        before.append(row.ts)
        chosen[key] = msgspec.structs.astuple(row)


async def _choose_unnumbered(
    connection: Connection, rows: Sequence[ReadingRow], chosen: dict[_Key, tuple[object, ...]]
) -> None:
    """Add those whose time is not there: any reading of that millisecond is the same one."""
    found = await connection.fetch(
        _TIMES_THERE, [row.robot for row in rows], [row.ts for row in rows]
    )
    there = {(robot, ts) for robot, ts in found} | {(robot, ts) for robot, ts, _ in chosen}
    for row in rows:
        if (row.robot, row.ts) not in there:
            there.add((row.robot, row.ts))
            values: list[Any] = list(msgspec.structs.astuple(row))
            values[_SEQ] = NO_SEQ
            chosen[row.robot, row.ts, NO_SEQ] = tuple(values)


async def _dead_letters(
    connection: Connection, rows: Sequence[DeadLetterRow], scope: Scope
) -> tuple[int, int]:
    """Return how many are new and how many the bounds pushed out."""
    if not rows:
        return 0, 0
    box, bounds = scope.box, scope.bounds
    ids, times = [row.id for row in rows], [row.at for row in rows]
    replaced: int = await connection.fetchval(_REPLACE_DEAD, box, ids, times)
    new: int = await connection.fetchval(
        _INSERT_DEAD,
        *(box, ids, times),
        [row.topic for row in rows],
        [row.reason for row in rows],
        [row.detail for row in rows],
        [row.payload for row in rows],
        [bytes_of(row) for row in rows],
    )
    evicted: int = await connection.fetchval(
        _EVICT_DEAD, box, bounds.dead_letters, bounds.dead_letter_bytes
    )
    return new, replaced + evicted


async def delete_dead_letters(session: Session, box: str, ids: Sequence[int] | None) -> int:
    """Remove ``ids`` (None: all) of ``box``; return how many there were."""
    gone: int = await session.connection.fetchval(
        "WITH gone AS (DELETE FROM dead_letters WHERE box = $1"
        " AND ($2::bigint[] IS NULL OR id = ANY($2)) RETURNING 1) SELECT count(*) FROM gone",
        box,
        None if ids is None else [one for one in ids if abs(one) < 2**63],
    )
    return gone
