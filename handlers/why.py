"""/api/admin/why: the flight recorder."""

from aiohttp import web

from gateway.core.errors import NotFound, Unavailable
from gateway.core.payloads import RobotId
from gateway.services.why import FlightRecorder
from gateway.services.why_answer import Why
from gateway.web.answer import json_answer
from gateway.web.describe import Operation
from gateway.web.params import path_id


class WhyRoutes:
    def __init__(self, recorder: FlightRecorder) -> None:
        self._recorder = recorder

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/admin/why/{robot}", self.why)]

    @Operation(
        "Where a robot's messages of the last 15 minutes are, and why",
        "로봇의 최근 15분 메시지 경로와 이유",
        about="Newest first, at most 200 of each kind; docs/why.md explains hops and verdicts.",
        path={"robot": RobotId},
        answers={200: Why},
        errors=[NotFound, Unavailable],
    )
    async def why(self, request: web.Request) -> web.Response:
        return json_answer(await self._recorder.why(path_id(request, "robot")))
