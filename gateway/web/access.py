"""Who may talk to the gateway from where: Host, Origin, and the headers that bind a browser.

Until there are logins the gateway trusts whoever reaches its loopback port. A browser on this
machine reaches it for any page it has open, so two things stand in the way: a page whose name was
made to point at 127.0.0.1 (DNS rebinding) still sends that name as Host, and a page of another
origin still sends its Origin.
"""

import re
from dataclasses import dataclass
from typing import Final

from aiohttp import HttpVersion11, hdrs, web

from gateway.core.errors import CrossSite, Forbidden, InvalidInput
from gateway.web.errors import STARTED

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:@/?#\[\]\\,]+)(?::([0-9]{1,5}))?")
_ORIGIN: Final = re.compile(r"(https?)://(.+)")
_DEFAULT_PORT: Final = {"http": "80", "https": "443"}
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


@dataclass(frozen=True, slots=True)
class Access:
    """The names under which the gateway may be addressed, without ports, in lower case."""

    hosts: frozenset[str]

    @classmethod
    def on_loopback(cls, host: str) -> "Access":
        """Return the rule for ``[auth] mode = "off"``: loopback names and the bound ``host``."""
        return cls(_LOOPBACK_NAMES | {f"[{host}]" if ":" in host else host.lower()})

    def __call__(self, request: web.Request) -> None:
        """Let ``request`` pass.

        Raises:
            InvalidInput: no Host, several, one that is none (RFC 9112 section 3.2), or another than
                an absolute target names (section 3.2.2).
            Forbidden: a Host that is not ours.
            CrossSite: a page of another origin changes state or opens a WebSocket.
        """
        name, port = self._host(request)
        changes = request.method not in SAFE_METHODS
        if changes or request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
            for origin in request.headers.getall(hdrs.ORIGIN, ()):
                if not _same_place(origin, name, port):
                    raise CrossSite("this page's origin may not do that here")

    def _host(self, request: web.Request) -> tuple[str, str]:
        hosts = request.headers.getall(hdrs.HOST, [])
        if not hosts and request.version < HttpVersion11:
            return "", ""  # HTTP/1.0 had no Host; no browser speaks it
        match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if match is None:
            raise InvalidInput("exactly one valid Host header is needed", path="Host")
        name, port = match[1].lower(), match[2] or ""
        if name not in self.hosts:
            raise Forbidden("the gateway does not answer to this host name")
        if request.host not in (hosts[0], name.strip("[]")):  # that of an absolute target
            raise InvalidInput("the request target and Host name different hosts", path="Host")
        return name, port


def _same_place(origin: str, name: str, port: str) -> bool:
    """Say whether ``origin`` is a page that this very host and port served."""
    parts = _ORIGIN.fullmatch(origin)
    place = _HOST.fullmatch(parts[2]) if parts else None
    if parts is None or place is None:
        return False
    default = _DEFAULT_PORT[parts[1]]
    return (place[1].lower(), place[2] or default) == (name, port or default)


async def harden(request: web.Request, response: web.StreamResponse) -> None:
    """Add what every answer carries, unless the handler set it itself; runs before the status line.

    On ``app.on_response_prepare``, so that streams and WebSockets get it too.
    """
    request[STARTED] = response
    headers = response.headers
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    if request.path.startswith("/api"):
        headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    headers.popall(hdrs.SERVER, None)  # no banner
