"""/api/sensor-data: air readings."""

from collections.abc import Iterator
from typing import Final

from aiohttp import web

from gateway.records.port import Bucket, ReadingRow
from gateway.services.history import History, RangeQuery, Reading, as_reading
from gateway.web.answer import json_answer, large_answer
from gateway.web.params import path_id, query

# A robot may have any id but the names of this family's own pages.
_ROBOT: Final = "{robotId:(?!(?:latest|stats|export|batch)(?:/|$))[^/]+}"
_ROWS_AT_ONCE: Final = 500  # encoded in one step of the event loop: about 2 ms


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

    async def post(self, request: web.Request) -> web.Response:
        return json_answer(await self._history.post(await request.read()), status=202)

    async def post_batch(self, request: web.Request) -> web.Response:
        return json_answer(await self._history.post_batch(await request.read()), status=202)

    async def latest_of_all(self, _: web.Request) -> web.Response:
        return json_answer({"items": await self._history.latest_of_all(), "cursor": None})

    async def latest(self, request: web.Request) -> web.Response:
        return json_answer(await self._history.latest(path_id(request, "robotId")))

    async def stats(self, _: web.Request) -> web.Response:
        return json_answer({"items": await self._history.stats(), "cursor": None})

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
