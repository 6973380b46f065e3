"""/api/events: what happens, as server-sent events. /api/coordinates: the newest poses."""

from aiohttp import web

from gateway.config.model import Live as LiveConfig
from gateway.services.live import Live
from gateway.web.livequery import choice_query
from gateway.web.sse import stream


class EventRoutes:
    def __init__(self, live: Live, config: LiveConfig) -> None:
        self._live = live
        self._config = config

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/events", self.events, allow_head=False),
            web.get("/api/coordinates", self.coordinates),
        ]

    async def events(self, request: web.Request) -> web.StreamResponse:
        choice, last_id = choice_query(request)
        listener, first = self._live.join_stream(choice, last_id)
        try:
            return await stream(request, listener, first, write_s=self._config.write_s)
        finally:
            self._live.leave(listener)

    async def coordinates(self, _: web.Request) -> web.Response:
        return web.Response(body=self._live.snapshot_json(), content_type="application/json")
