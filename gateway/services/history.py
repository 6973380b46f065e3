"""Air readings: taking them by REST, and asking for what was."""

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from msgspec import Struct

from gateway.core.aqi import aqi
from gateway.core.errors import BadRange, NotFound
from gateway.core.payloads import Sensor
from gateway.core.posted import read_batch, read_one
from gateway.core.times import MAX_MS, days_of, parse_ms, rfc3339
from gateway.records.port import METRIC_NAMES, Bucket, ReadingRow, RecordStore
from gateway.services.history_shapes import (
    MAX_BUCKETS,
    Accepted,
    LatestReading,
    RangeQuery,
    Reading,
    RobotReadings,
    as_reading,
)
from gateway.services.zones import Zones

DAY_MS: Final = 86_400_000
LAST_MS: Final = MAX_MS - 2 * DAY_MS  # a question ends before the calendar does, in every zone

WIDTHS_MS: Final = {"10s": 10_000, "1m": 60_000, "5m": 300_000, "1h": 3_600_000, "1d": DAY_MS}


class Raw(Struct, frozen=True):
    """A page of readings, oldest first."""

    rows: list[ReadingRow]
    cursor: str | None


class Intake(Protocol):
    """The road of readings that come by REST: the same as that of MQTT."""

    async def submit_sensor(self, items: Sequence[tuple[str, Sensor]]) -> None:
        """Return when all are durable and, if history is well, visible there.

        Raises:
            Unavailable: they are not durable; sending them again changes nothing.
        """


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class History:
    """The readings of all robots."""

    def __init__(
        self,
        store: RecordStore,
        intake: Intake,
        *,
        timezone: str,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        self._store = store
        self._intake = intake
        self._zones = Zones(timezone)
        self._now_ms = now_ms

    async def post(self, body: bytes) -> Accepted:
        """Take one reading. Raises InvalidInput, Unprocessable, Unavailable."""
        item = read_one(body, await self._zones.get())
        await self._intake.submit_sensor([item])
        return Accepted(1, [])

    async def post_batch(self, body: bytes) -> Accepted:
        """Take the good ones of an array of readings. Raises as ``post`` for the array itself."""
        good, bad = read_batch(body, await self._zones.get())
        if good:
            await self._intake.submit_sensor(good)
        return Accepted(len(good), bad)

    async def raw(self, robot: str, asked: RangeQuery) -> Raw:
        """Return a page of readings. Raises BadRange, InvalidInput (cursor), NotFound."""
        from_ms, to_ms = await self._span(asked)
        page = await self._store.readings(
            robot, from_ms, to_ms, limit=asked.limit, cursor=asked.cursor
        )
        if not page.rows:
            await self._must_exist(robot)
        return Raw(page.rows, page.cursor)

    async def range(self, robot: str, asked: RangeQuery) -> Bucket:
        """Return min, avg and max per bucket, for the metrics asked for or all that have data.

        Raises:
            BadRange: times, bucket, metrics or zone make no sense together.
            NotFound: nothing is known of ``robot``.
        """
        from_ms, to_ms = await self._span(asked)
        names = _metrics(asked.metrics)
        width = _width_ms(asked, to_ms - from_ms)
        edges: Sequence[int] | int = width
        if width == DAY_MS:
            edges = days_of(from_ms, to_ms, await self._zones.get(asked.tz))
        elif asked.tz is not None:
            await self._zones.get(asked.tz)  # a wrong name is wrong whatever the bucket
        found = await self._store.buckets(
            robot, from_ms, to_ms, metrics=names or METRIC_NAMES, edges_ms=edges
        )
        if not found.t:
            await self._must_exist(robot)
        if names:
            return found
        measured = {
            name: columns
            for name, columns in found.values.items()
            if any(value is not None for value in columns[0])
        }
        return Bucket(found.t, measured)

    async def latest(self, robot: str) -> LatestReading:
        """Return the newest reading of ``robot``. Raises NotFound if there is none."""
        row = await self._store.latest_reading(robot)
        if row is None:
            raise NotFound("no reading of that robot is known")
        return self._latest(row)

    async def latest_of_all(self) -> list[LatestReading]:
        """Return each robot's newest reading, by robot id."""
        return [self._latest(row) for row in await self._store.latest_readings()]

    async def stats(self) -> list[RobotReadings]:
        """Return how much there is of each robot, by robot id."""
        return [
            RobotReadings(each.robot, each.readings, rfc3339(each.first_ts), rfc3339(each.last_ts))
            for each in await self._store.totals()
        ]

    def _latest(self, row: ReadingRow) -> LatestReading:
        reading = as_reading(row)
        return LatestReading(
            **{name: getattr(reading, name) for name in Reading.__struct_fields__},
            age_s=max(0, self._now_ms() - row.ts) / 1000,
            aqi=aqi(row.pm25, row.pm10),
        )

    async def _span(self, asked: RangeQuery) -> tuple[int, int]:
        zone = await self._zones.get()

        def moment(name: str, text: str) -> int:
            try:
                number = text.isascii() and text.isdecimal() and len(text) < 16
                ms = int(text) if number else parse_ms(text, zone)
            except ValueError as exc:
                raise BadRange(f"?{name}: {exc}") from exc
            if ms > LAST_MS:
                raise BadRange(f"?{name}: expected a time before 9999-12-30")
            return ms

        to_ms = self._now_ms() + 1 if asked.to is None else moment("to", asked.to)
        from_ms = max(0, to_ms - DAY_MS) if asked.from_ is None else moment("from", asked.from_)
        if from_ms >= to_ms:
            raise BadRange("from must be before to")
        return from_ms, to_ms

    async def _must_exist(self, robot: str) -> None:
        known = await self._store.robot(robot) or await self._store.latest_reading(robot)
        if known is None:
            raise NotFound("no robot of that id is known")


def _metrics(text: str | None) -> list[str]:
    """Return the metrics asked for, each once; none: all that have data."""
    names = list(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))
    for name in names:
        if name not in METRIC_NAMES:
            raise BadRange(f"?metrics: expected some of {', '.join(METRIC_NAMES)}")
    return names


def _width_ms(asked: RangeQuery, length_ms: int) -> int:
    """Return the bucket's width; ``auto`` is the narrowest with at most ``points`` buckets."""
    if asked.bucket == "auto":
        fitting = (width for width in WIDTHS_MS.values() if -(-length_ms // width) <= asked.points)
        width = next(fitting, DAY_MS)
    else:
        width = WIDTHS_MS[asked.bucket]
    if -(-length_ms // width) > MAX_BUCKETS:
        raise BadRange(f"more than {MAX_BUCKETS} buckets: ask for a shorter range or wider buckets")
    return width
