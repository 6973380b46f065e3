"""/livez, /readyz, /metrics: what systemd, load balancers and Prometheus ask."""

import ipaddress

import msgspec
from aiohttp import web

from gateway.core.errors import Forbidden
from gateway.core.prometheus import CONTENT_TYPE, render
from gateway.services.figures import Figures
from gateway.services.readiness import Readiness
from gateway.web.answer import json_answer


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

    async def alive(self, _: web.Request) -> web.Response:
        return json_answer({"ok": True})

    async def ready(self, _: web.Request) -> web.Response:
        parts = self._readiness.parts()
        ready = self._readiness.ready(parts)
        body = {"ready": ready, "parts": [msgspec.structs.asdict(part) for part in parts]}
        return json_answer(body, status=200 if ready else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        if not ipaddress.ip_address(request.remote or "0.0.0.0").is_loopback:  # noqa: S104
            raise Forbidden("metrics are for loopback")
        page = render(self._figures.families())
        return web.Response(body=page.encode(), headers={"Content-Type": CONTENT_TYPE})
