"""/api/robots: the registry."""

from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from gateway.core.payloads import Id
from gateway.services.robots import Robots
from gateway.web.answer import json_answer
from gateway.web.params import path_id, query


class _Page(Struct, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 1_000
    cursor: Id | None = None


class RobotRoutes:
    def __init__(self, robots: Robots) -> None:
        self._robots = robots

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/robots", self.list_all),
            web.get("/api/robots/{robotId}", self.show),
        ]

    async def list_all(self, request: web.Request) -> web.Response:
        asked = query(request, _Page)
        return json_answer(await self._robots.page(limit=asked.limit, cursor=asked.cursor))

    async def show(self, request: web.Request) -> web.Response:
        return json_answer(await self._robots.show(path_id(request, "robotId")))
