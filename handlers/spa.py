"""/: the page that whoever opens the gateway sees. One HTML file, served as it is: docs/page.md."""

import html
from importlib.resources import files
from typing import Final

from aiohttp import hdrs, web

from gateway.web.describe import Media, Operation
from gateway.web.document import html_document

# Read at import, like code: the file is part of the package, in a checkout and in a wheel.
_SOURCE: Final = files("handlers").joinpath("static/index.html").read_text("utf-8")
_ICON: Final = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    b'<circle cx="16" cy="16" r="14" fill="#0f766e"/>'
    b'<path d="M16 4l6 10a7 7 0 1 1-12 0z" fill="#fff"/></svg>'
)


class SpaRoutes:
    """Serve the page.

    ``mqtt`` (the broker's URL) and ``topics`` (the robots' prefix and site) stand in the commands
    that the page offers while there is no robot yet.
    """

    def __init__(
        self, *, mqtt: str = "mqtt://127.0.0.1:1883", topics: str = "smartair/v1/home"
    ) -> None:
        page = _SOURCE.replace("@MQTT@", html.escape(mqtt))
        page = page.replace("@TOPICS@", html.escape(topics))
        self._page = html_document(page)

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/", self.page), web.get("/favicon.ico", self.icon)]

    @Operation(
        "The page: robots on a map, air, the ledger",
        "화면: 지도 위의 로봇, 공기질, 원장",
        answers={200: Media("text/html")},
        cached=True,
    )
    async def page(self, request: web.Request) -> web.Response:
        return self._page.answer(request)

    @Operation("The page's icon", "아이콘", answers={200: Media("image/svg+xml")})
    async def icon(self, _: web.Request) -> web.Response:
        return web.Response(
            body=_ICON,
            content_type="image/svg+xml",
            headers={hdrs.CACHE_CONTROL: "max-age=86400"},
        )
