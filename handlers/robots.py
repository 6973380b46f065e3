"""/api/robots: the registry."""

from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta, Struct

from gateway.core.errors import BadRange, Unavailable
from gateway.core.payloads import Id, RobotId
from gateway.services.robots import Robot, RobotPage, Robots
from gateway.web.answer import json_answer
from gateway.web.describe import Link, Operation
from gateway.web.params import path_id, query


class RobotsQuery(Struct, frozen=True):
    """A page of robots: those after the id ``cursor``."""

    limit: Annotated[int, Meta(ge=1, le=1_000)] = 1_000
    cursor: Id | None = None


_NEXT: Final = {"next": Link("robots.list_all", {"cursor": "$response.body#/cursor"})}


class RobotRoutes:
    def __init__(self, robots: Robots) -> None:
        self._robots = robots

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/robots", self.list_all),
            web.get("/api/robots/{robotId}", self.show),
        ]

    @Operation(
        "Every robot that was ever heard of, by id",
        "알려진 모든 로봇 (id 순)",
        query=RobotsQuery,
        answers={200: RobotPage},
        errors=[BadRange, Unavailable],
        links=_NEXT,
    )
    async def list_all(self, request: web.Request) -> web.Response:
        asked = query(request, RobotsQuery)
        return json_answer(await self._robots.page(limit=asked.limit, cursor=asked.cursor))

    @Operation(
        "One robot",
        "로봇 하나",
        path={"robotId": RobotId},
        answers={200: Robot},
        errors=[Unavailable],
    )
    async def show(self, request: web.Request) -> web.Response:
        return json_answer(await self._robots.show(path_id(request, "robotId")))
