"""Building and running the aiohttp application."""

import errno
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager

from aiohttp import hdrs, http_parser, web

from gateway.config.model import Http
from gateway.web.access import Access, harden
from gateway.web.connection import Site
from gateway.web.errors import Check, answering


class CannotListen(OSError):
    """The HTTP port cannot be opened. The message says which, why, and what to change."""


def build_app(
    routes: Iterable[web.AbstractRouteDef],
    *,
    http: Http,
    on_drain: Callable[[], Awaitable[None] | None],
    access: Access,
) -> web.Application:
    """Return the application. ``on_drain`` must end the open streams."""
    routes = list(_with_and_without_slash(routes))
    methods = {route.method for route in routes if isinstance(route, web.RouteDef)}
    app = web.Application(
        client_max_size=http.max_body_bytes,
        middlewares=[answering(access, _about_the_server(methods))],
    )
    app.add_routes(routes)
    app.on_response_prepare.append(harden)

    async def drain(_: web.Application) -> None:
        waiting = on_drain()
        if inspect.isawaitable(waiting):
            await waiting

    app.on_shutdown.append(drain)  # runs after the sockets close, before handlers are waited for
    return app


def _about_the_server(methods: Iterable[str]) -> Check:
    """Answer requests that name no path: ``OPTIONS *`` (RFC 9110 section 9.3.7) and CONNECT."""
    allow = sorted({*methods, hdrs.METH_HEAD, hdrs.METH_OPTIONS})

    def check(request: web.Request) -> web.Response | None:
        if request.method == hdrs.METH_CONNECT:
            raise web.HTTPMethodNotAllowed(request.method, allow)
        if request.method == hdrs.METH_OPTIONS and request.raw_path == "*":
            return web.Response(status=204, headers={hdrs.ALLOW: ",".join(allow)})
        return None

    return check


def _with_and_without_slash(
    routes: Iterable[web.AbstractRouteDef],
) -> Iterator[web.AbstractRouteDef]:
    """Yield every route for its path with and without the last slash: no redirects."""
    for route in routes:
        yield route
        if isinstance(route, web.RouteDef) and route.path != "/":
            other = route.path.removesuffix("/") if route.path.endswith("/") else route.path + "/"
            unnamed = {key: value for key, value in route.kwargs.items() if key != "name"}
            yield web.RouteDef(route.method, other, route.handler, unnamed)


@asynccontextmanager
async def listening(app: web.Application, http: Http) -> AsyncIterator[tuple[str, int]]:
    """Serve ``app`` inside the block and drain it on the way out. Yields the bound host and port.

    Raises:
        CannotListen: the port is taken, or the address is not this machine's.
    """
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        # Two parsers disagree about what a request is; only the C one is hardened enough.
        raise CannotListen(
            "aiohttp is installed without its C parser; install a binary wheel of it"
        )
    runner = web.AppRunner(
        app, handler_cancellation=True, shutdown_timeout=http.drain_s, access_log=None
    )
    await runner.setup()
    try:
        try:
            await Site(runner, http).start()
        except OSError as exc:
            raise _cannot_listen(exc, http) from exc
        host, port = runner.addresses[0][:2]
        yield host, port
    finally:
        await runner.cleanup()


def _cannot_listen(exc: OSError, http: Http) -> CannotListen:
    reason = os.strerror(exc.errno).lower() if exc.errno else str(exc)
    change = {
        errno.EADDRINUSE: "choose another with --set http.port=...",
        errno.EACCES: "ports below 1024 need a privilege; choose another with --set http.port=...",
        errno.EADDRNOTAVAIL: "choose an address of this machine with --set http.host=...",
    }.get(exc.errno or 0, "see [http] host and port")
    return CannotListen(f"cannot listen on {http.host}:{http.port}: {reason}; {change}")
