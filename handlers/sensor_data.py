"""/api/sensor-data: air readings."""

from collections.abc import Iterator
from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta, Raw

from gateway.core.errors import BadRange, InvalidInput, Unavailable
from gateway.core.payloads import METRICS, RobotId
from gateway.core.posted import MAX_BATCH, PostedReading
from gateway.records.port import Bucket, ReadingRow
from gateway.services.history import History
from gateway.services.history_shapes import (
    Accepted,
    Columns,
    LatestReading,
    LatestReadings,
    RangeQuery,
    RawPage,
    Reading,
    Totals,
    as_reading,
)
from gateway.web.answer import json_answer, large_answer
from gateway.web.describe import Link, Operation
from gateway.web.params import path_id, query

# A robot may have any id but the names of this family's own pages.
_OWN: Final = ("latest", "stats", "export", "batch")
_ROBOT: Final = f"{{robotId:(?!(?:{'|'.join(_OWN)})(?:/|$))[^/]+}}"
_ROWS_AT_ONCE: Final = 500  # encoded in one step of the event loop: about 2 ms

_PATH: Final = {"robotId": Annotated[RobotId, Meta(description=f"any but {', '.join(_OWN)}")]}

# What the types of the bodies cannot say: a metric is needed, and of many each is judged by itself.
_ANY_METRIC: Final = [
    {"required": [name], "properties": {name: {"type": "number"}}} for name in METRICS
]
_EXAMPLE: Final = {"robotId": "r1", "measuredAt": "2026-01-31T12:00:00+09:00", "pm25": 12.5}
_Posted = Annotated[PostedReading, Meta(extra_json_schema={"anyOf": _ANY_METRIC})]
_SHOWN: Final = [{"$ref": f"#/components/schemas/{PostedReading.__name__}"}, {}]
_Batch = Annotated[
    list[Annotated[Raw, Meta(extra_json_schema={"anyOf": _SHOWN})]],
    Meta(extra_json_schema={"maxItems": MAX_BATCH}),
]
_OF_ROBOT: Final = {
    "range": Link("sensor_data.range", {"robotId": "$request.body#/robotId"}),
    "latest": Link("sensor_data.latest", {"robotId": "$request.body#/robotId"}),
    "robot": Link("robots.show", {"robotId": "$request.body#/robotId"}),
}


class SensorDataRoutes:
    def __init__(self, history: History) -> None:
        self._history = history

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/sensor-data", self.post),
            web.post("/api/sensor-data/batch", self.post_batch),
            web.get("/api/sensor-data/latest", self.latest_of_all),
            web.get("/api/sensor-data/stats", self.stats),
            web.get(f"/api/sensor-data/{_ROBOT}", self.range),
            web.get(f"/api/sensor-data/{_ROBOT}/latest", self.latest),
        ]

    @Operation(
        "Post one reading",
        "측정값 하나 보내기",
        about="Answered when it is on disk; normally it is in history by then, too. A reading that "
        "is there already counts as accepted and changes nothing: sending again is safe.",
        body=_Posted,
        example=_EXAMPLE,
        answers={202: Accepted},
        errors=["OUT_OF_RANGE", "NO_METRIC", Unavailable],
        links=_OF_ROBOT,
    )
    async def post(self, request: web.Request) -> web.Response:
        return json_answer(await self._history.post(await request.read()), status=202)

    @Operation(
        "Post up to 1000 readings",
        "측정값 여러 개 보내기 (최대 1000)",
        about="Each is judged by itself: what does not fit is listed in `rejected`.",
        body=_Batch,
        example=[_EXAMPLE],
        answers={202: Accepted},
        errors=["TOO_MANY", Unavailable],
    )
    async def post_batch(self, request: web.Request) -> web.Response:
        return json_answer(await self._history.post_batch(await request.read()), status=202)

    @Operation(
        "The newest reading of every robot",
        "모든 로봇의 최신 측정값",
        answers={200: LatestReadings},
        errors=[Unavailable],
    )
    async def latest_of_all(self, _: web.Request) -> web.Response:
        return json_answer(LatestReadings(await self._history.latest_of_all()))

    @Operation(
        "The newest reading of a robot",
        "로봇의 최신 측정값",
        about="With US AQI and Korean grades: estimates, an index is defined for a 24 h mean.",
        path=_PATH,
        answers={200: LatestReading},
        errors=[Unavailable],
    )
    async def latest(self, request: web.Request) -> web.Response:
        return json_answer(await self._history.latest(path_id(request, "robotId")))

    @Operation(
        "How many readings there are",
        "저장된 측정값의 수",
        answers={200: Totals},
        errors=[Unavailable],
    )
    async def stats(self, _: web.Request) -> web.Response:
        return json_answer(Totals(await self._history.stats()))

    @Operation(
        "A range of readings, aggregated or raw",
        "기간 조회 (집계 또는 원본)",
        about="Minimum, average and maximum per bucket, by column; `bucket=raw` gives the rows.",
        path=_PATH,
        query=RangeQuery,
        answers={200: (Columns, RawPage)},
        errors=[BadRange, InvalidInput, Unavailable],
    )
    async def range(self, request: web.Request) -> web.Response:
        robot, asked = path_id(request, "robotId"), query(request, RangeQuery)
        if asked.bucket == "raw":
            page = await self._history.raw(robot, asked)
            return await large_answer({"rows": _readings(page.rows), "cursor": page.cursor})
        return await large_answer(_columns(await self._history.range(robot, asked)))


def _readings(rows: list[ReadingRow]) -> Iterator[list[Reading]]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield [as_reading(row) for row in rows[start : start + _ROWS_AT_ONCE]]


def _columns(found: Bucket) -> dict[str, object]:
    """Return ``{t: [..], pm25: {min: [..], avg: [..], max: [..]}, ..}``."""
    metrics = {
        name: {"min": low, "avg": mean, "max": high}
        for name, (low, mean, high) in found.values.items()
    }
    return {"t": found.t, **metrics}
