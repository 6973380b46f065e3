"""/livez, /readyz, /metrics: what systemd, load balancers and Prometheus ask."""

import ipaddress

from aiohttp import web
from msgspec import Struct

from gateway.core.errors import Forbidden
from gateway.core.prometheus import CONTENT_TYPE, render
from gateway.services.figures import Figures
from gateway.services.readiness import Part, Readiness
from gateway.web.answer import json_answer
from gateway.web.describe import Media, Operation


class Alive(Struct, frozen=True):
    """The process answers."""

    ok: bool


class Ready(Struct, frozen=True):
    """Ready: every essential part is ok."""

    ready: bool
    parts: list[Part]


class HealthRoutes:
    def __init__(self, readiness: Readiness, figures: Figures) -> None:
        self._readiness = readiness
        self._figures = figures

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/livez", self.alive),
            web.get("/readyz", self.ready),
            web.get("/metrics", self.metrics),
        ]

    @Operation("Is the process alive?", "프로세스 생존 여부", answers={200: Alive})
    async def alive(self, _: web.Request) -> web.Response:
        return json_answer(Alive(ok=True))

    @Operation("What is missing, by name", "준비 상태", answers={200: Ready, 503: Ready})
    async def ready(self, _: web.Request) -> web.Response:
        parts = self._readiness.parts()
        ready = self._readiness.ready(parts)
        return json_answer(Ready(ready, parts), status=200 if ready else 503)

    @Operation(
        "Figures for Prometheus, for loopback",
        "프로메테우스 지표 (루프백 전용)",
        answers={200: Media("text/plain")},
    )
    async def metrics(self, request: web.Request) -> web.Response:
        if not ipaddress.ip_address(request.remote or "0.0.0.0").is_loopback:  # noqa: S104
            raise Forbidden("metrics are for loopback")
        page = render(self._figures.families())
        return web.Response(body=page.encode(), headers={"Content-Type": CONTENT_TYPE})
