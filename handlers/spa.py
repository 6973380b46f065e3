"""/: the page that whoever opens the gateway sees. One HTML file, served as it is: docs/page.md."""

import base64
import gzip
import hashlib
import html
import re
from importlib.resources import files
from typing import Final

from aiohttp import ETag, hdrs, web

# Read at import, like code: the file is part of the package, in a checkout and in a wheel.
_SOURCE: Final = files("handlers").joinpath("static/index.html").read_text("utf-8")
_INLINE: Final = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)
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
        self._plain = page.encode()
        self._packed = gzip.compress(self._plain, mtime=0)
        self._tag = hashlib.sha256(self._plain).hexdigest()[:32]
        self._headers = {
            "Content-Security-Policy": content_security_policy(page),
            "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
            hdrs.CACHE_CONTROL: "no-cache",  # keep it, but ask each time: an update shows at once
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
        }

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/", self.page), web.get("/favicon.ico", self.icon)]

    async def page(self, request: web.Request) -> web.Response:
        packed = "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower()
        tag = f"{self._tag}-gzip" if packed else self._tag  # RFC 9110 8.8.3.3: one per encoding
        if any(known.value in (tag, "*") for known in request.if_none_match or ()):
            answer = web.Response(status=304, headers=self._headers)
        else:
            body = self._packed if packed else self._plain
            answer = web.Response(
                body=body, content_type="text/html", charset="utf-8", headers=self._headers
            )
            if packed:
                answer.headers[hdrs.CONTENT_ENCODING] = "gzip"
        answer.etag = ETag(tag)
        return answer

    async def icon(self, _: web.Request) -> web.Response:
        return web.Response(
            body=_ICON,
            content_type="image/svg+xml",
            headers={hdrs.CACHE_CONTROL: "max-age=86400"},
        )


def content_security_policy(page: str) -> str:
    """Return the policy that lets exactly the inline script and style of ``page`` run.

    ``connect-src 'self'`` covers the WebSocket of the same origin (CSP level 3, section 6.7.2.8).
    Trusted types without any policy make the browser refuse text as markup.
    """
    found: dict[str, list[str]] = {"script": [], "style": []}
    for tag, text in _INLINE.findall(page):
        found[tag].append(_source_hash(text))
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(found['script'])}",
            f"style-src {' '.join(found['style'])}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _source_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
