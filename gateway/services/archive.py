"""From the journal to history: the ``records`` reader.

At least once, and idempotent: the cursor moves after the transaction is on disk, and a record that
comes again changes nothing. A store that is away is tried again for ever, the journal keeps all.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Final

import msgspec

from gateway.core.backoff import Backoff
from gateway.core.deadletter import decode as decode_dead
from gateway.core.errors import Unavailable
from gateway.core.kinds import LABEL, Kind
from gateway.core.payloads import Connection, Event, Sensor, State
from gateway.journal.port import Read, Reader, Record
from gateway.records.port import (
    DeadLetterRow,
    EventRow,
    ReadingRow,
    RecordStore,
    RobotRow,
    Writes,
    Written,
)
from gateway.services.insist import Insist
from gateway.services.ledger import Line
from gateway.services.way import Way

log = logging.getLogger(__name__)

KINDS: Final = frozenset(
    {Kind.SENSOR, Kind.STATE, Kind.EVENT, Kind.CONNECTION, Kind.ACK, Kind.CANARY, Kind.DEAD}
)
MAX_RECORDS: Final = 2_000  # a transaction: decoding them takes a few milliseconds of the loop
LOOK_S: Final = 2.0  # between two looks at a store to which nothing is written
AWAY_LOOK_S: Final = 0.5  # the same at one that does not answer
PAUSE_S: Final = 0.05  # at least between transactions: wear of the disk against freshness

_sensor = msgspec.json.Decoder(Sensor).decode
_state = msgspec.json.Decoder(State).decode
_event = msgspec.json.Decoder(Event).decode
_connection = msgspec.json.Decoder(Connection).decode


class Archive:
    """Write what the journal holds into the record store; ``run`` never returns."""

    def __init__(
        self,
        reader: Reader,
        store: RecordStore,
        *,
        seen: Callable[[int], Iterable[RobotRow]],
        backoff: Backoff | None = None,
        rng: Random | None = None,
    ) -> None:
        self._reader = reader
        self._store = store
        self._seen = seen
        self._insist = Insist("history", backoff or Backoff(base_s=0.2, cap_s=2.0), rng)
        self._lines: dict[int, Line] = {}
        self._way = Way(reader)
        self._moved = asyncio.Event()
        self._wanted = asyncio.Event()  # somebody waits in ``reached``
        self._waiting = 0
        self._seen_at = 0.0
        self._seen_ms = 0
        self._answered_at = -LOOK_S
        self._away = ""  # why the store did not answer when nothing was written
        self.duplicates = 0
        self.evicted = 0

    async def run(self) -> None:
        """Copy for ever, in the journal's order."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look(), name="look at history")
            tasks.create_task(self._copy(), name="journal to history")

    async def _look(self) -> None:
        """See whether the store is there, also while nothing comes that could be written."""
        while True:
            if not self._insist.failing and time.monotonic() - self._answered_at >= LOOK_S:
                try:
                    await self._store.ping()
                except Unavailable as exc:
                    self._away = exc.detail or exc.code
                else:
                    self._away = ""
            await asyncio.sleep(AWAY_LOOK_S if self._away else LOOK_S)

    async def _copy(self) -> None:
        while True:
            step = await self._reader.read(max_records=MAX_RECORDS)
            self._way.take(step)
            if step.records:
                await self._write(step)
            self._reader.commit(step.next_offset)
            self._moved.set()
            if step.passed < MAX_RECORDS:  # also when all were poses: each step costs a wake-up
                await self._pause()

    async def _pause(self) -> None:
        """Let records collect, unless somebody waits to see them."""
        try:
            async with asyncio.timeout(PAUSE_S):
                await self._wanted.wait()
        except TimeoutError:
            return

    async def _write(self, step: Read) -> None:
        counts: dict[int, int] = {}
        for record in step.records:
            counts[record.kind] = counts.get(record.kind, 0) + 1
        for kind, count in counts.items():
            line = self._lines.setdefault(kind, Line())
            line.entered += count
            line.pending += count
        writes, unreadable = self._convert(step.records)
        written = await self._insist.until_taken(lambda: self._take(writes))
        self._answered_at, self._away = time.monotonic(), ""
        self.duplicates += written.readings_duplicate
        self.evicted += written.dead_letters_evicted
        for kind, count in counts.items():
            line = self._lines[kind]
            bad = unreadable.get(kind, 0)
            line.pending -= count
            line.delivered += count - bad
            if bad:
                line.dropped["unreadable"] += bad

    async def _take(self, writes: Writes) -> Written:
        """Write; with nothing to write only see that the store answers, as a canary wants it."""
        if writes.readings or writes.robots or writes.events or writes.dead_letters:
            return await self._store.write(writes)
        await self._store.ping()
        return Written()

    def _convert(self, records: Sequence[Record]) -> tuple[Writes, dict[int, int]]:
        readings: list[ReadingRow] = []
        events: list[EventRow] = []
        dead: list[DeadLetterRow] = []
        robots: dict[str, RobotRow] = {}
        unreadable: dict[int, int] = {}
        for record in records:
            try:
                match record.kind:
                    case Kind.SENSOR:
                        readings.append(_reading(record, _sensor(record.payload)))
                    case Kind.EVENT:
                        events.append(_event_row(record, _event(record.payload)))
                    case Kind.DEAD:
                        dead.append(_dead_row(record))
                        continue
                    case Kind.CANARY:  # no robot, and nothing to keep
                        continue
                    case _:
                        pass
                _merge(robots, record)
            except (msgspec.MsgspecError, RecursionError) as exc:
                # written by another version of this program, or nested as deep as can just be read
                log.warning("journal record %d is unreadable: %s", record.offset, exc)
                unreadable[record.kind] = unreadable.get(record.kind, 0) + 1
        if time.monotonic() - self._seen_at > 5.0:
            for row in self._seen(self._seen_ms):
                robots.setdefault(row.id, row)
                self._seen_ms = max(self._seen_ms, row.last_seen)
            self._seen_at = time.monotonic()
        return (
            Writes(
                readings=readings, robots=list(robots.values()), events=events, dead_letters=dead
            ),
            unreadable,
        )

    async def reached(self, offset: int, timeout_s: float) -> bool:
        """Return whether everything before journal ``offset`` is in history, waiting a little."""
        self._waiting += 1
        self._wanted.set()
        try:
            async with asyncio.timeout(timeout_s):
                while self._reader.committed < offset:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._wanted.clear()
        return True

    @property
    def failing(self) -> str:
        """Why the store does not take records now, or would not; or an empty string."""
        return self._insist.failing or self._away

    @property
    def position(self) -> int:
        """The journal offset of the next record to be read."""
        return self._reader.position

    def lines(self, committed_offset: int) -> Iterable[tuple[str, str, Line]]:
        """Return the hop ``records``: by kind what is written; ``backlog``: what is to be read."""
        yield "records", "backlog", self._way.line(committed_offset)
        for kind in sorted(KINDS):
            yield "records", LABEL[kind], self._lines.setdefault(kind, Line())


def _reading(record: Record, value: Sensor) -> ReadingRow:
    return ReadingRow(
        robot=record.robot,
        ts=record.ts,
        rts=record.rts,
        seq=value.seq,
        pm1=value.pm1,
        pm25=value.pm25,
        pm10=value.pm10,
        co2=value.co2,
        tvoc=value.tvoc,
        temp=value.temp,
        rh=value.rh,
        pressure=value.pressure,
        x=value.x,
        y=value.y,
        room=value.room,
    )


def _event_row(record: Record, value: Event) -> EventRow:
    return EventRow(
        offset=record.offset,
        robot=record.robot,
        ts=record.ts,
        rts=record.rts,
        code=value.code,
        level=value.level,
        x=value.x,
        y=value.y,
        room=value.room,
    )


def _dead_row(record: Record) -> DeadLetterRow:
    letter = decode_dead(record.payload)
    return DeadLetterRow(
        id=record.offset,
        topic=letter.topic,
        payload=letter.payload,
        reason=letter.reason,
        detail=letter.detail,
        at=record.rts,
    )


def _merge(robots: dict[str, RobotRow], record: Record) -> None:
    """Fold ``record`` into the one upsert per robot of this transaction."""
    row = robots.get(record.robot) or RobotRow(id=record.robot, last_seen=record.rts)
    last_seen = max(row.last_seen, record.rts)
    if record.kind == Kind.STATE:
        state = _state(record.payload)
        row = msgspec.structs.replace(
            row,
            state=state.state,
            state_ts=record.ts,
            battery=state.battery,
            fan=state.fan,
            filter=state.filter,
            error=state.error,
        )
    elif record.kind == Kind.CONNECTION:
        connection = _connection(record.payload)
        row = msgspec.structs.replace(
            row,
            connection=connection.state,
            connection_ts=record.ts,
            firmware=connection.fw or row.firmware,
            model=connection.model or row.model,
        )
    robots[record.robot] = msgspec.structs.replace(row, last_seen=last_seen)
