"""/api/events: what happens, as server-sent events. /api/coordinates: the newest poses."""

from aiohttp import web
from msgspec import Struct

from gateway.config.model import Live as LiveConfig
from gateway.core.errors import InvalidInput, Unavailable
from gateway.services.live import Live
from gateway.services.live_poses import PoseJson
from gateway.web.describe import Media, Operation
from gateway.web.livequery import EventHeaders, EventQuery, choice_query
from gateway.web.sse import stream


class Snapshot(Struct, frozen=True):
    """The newest pose of every robot; ``offset`` poses were accepted in ``epoch``."""

    epoch: str
    offset: int
    poses: list[PoseJson]


class EventRoutes:
    def __init__(self, live: Live, config: LiveConfig) -> None:
        self._live = live
        self._config = config

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/events", self.events, allow_head=False),
            web.get("/api/coordinates", self.coordinates),
        ]

    @Operation(
        "What happens, as server-sent events",
        "실시간 이벤트 (SSE)",
        about="Each `data` is one object of the type that `event` names. It never ends by itself.",
        query=EventQuery,
        headers=EventHeaders,
        answers={200: Media("text/event-stream")},
        errors=[InvalidInput, Unavailable],
    )
    async def events(self, request: web.Request) -> web.StreamResponse:
        choice, last_id = choice_query(request)
        listener, first = self._live.join_stream(choice, last_id)
        try:
            return await stream(request, listener, first, write_s=self._config.write_s)
        finally:
            self._live.leave(listener)

    @Operation("The newest poses", "최신 위치", answers={200: Snapshot})
    async def coordinates(self, _: web.Request) -> web.Response:
        return web.Response(body=self._live.snapshot_json(), content_type="application/json")
