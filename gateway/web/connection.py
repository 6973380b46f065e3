"""One HTTP/1.1 connection: aiohttp's, with an answer of ours for what is no request."""

import asyncio
import logging
from functools import partial
from typing import cast

from aiohttp import hdrs, web

from gateway.config.model import Http
from gateway.core.errors import InvalidInput
from gateway.web.errors import problem

log = logging.getLogger(__name__)

KEEPALIVE_S = 75.0  # longer than proxies keep theirs, so that it is they who close


class Connection(web.RequestHandler):
    """aiohttp's connection; a malformed request is no news for the log and gets no banner."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer bytes that are not HTTP with 400 and close."""
        if status >= 500 or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        log.debug("not HTTP: remote=%s reason=%s", request.remote, type(exc).__name__)
        answer = _Plain(problem(InvalidInput("the request is not valid HTTP/1.1")))
        answer.force_close()
        return answer

    def log_exception(self, *args: object, **kw: object) -> None:
        """Log a failure, but not a body that nobody read and that cannot be decoded."""
        if isinstance(kw.get("exc_info"), web.RequestPayloadError):
            log.debug("undecodable body: %s", kw["exc_info"])
        else:
            super().log_exception(*args, **kw)


class _Plain(web.Response):
    """An answer that does not pass ``on_response_prepare``, because nobody could be asked."""

    def __init__(self, answer: web.Response) -> None:
        super().__init__(
            body=answer.body, status=answer.status, content_type="application/problem+json"
        )

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall(hdrs.SERVER, None)


class Site(web.BaseSite):
    """The listening socket of ``[http]``."""

    __slots__ = ("_http",)

    def __init__(self, runner: web.AppRunner, http: Http) -> None:
        super().__init__(runner, backlog=http.backlog)
        self._http = http

    @property
    def name(self) -> str:
        return f"http://{self._http.host}:{self._http.port}"

    async def start(self) -> None:
        """Open the port. Raises OSError."""
        await super().start()
        loop = asyncio.get_running_loop()
        manager = cast("web.Server", self._runner.server)  # BaseSite refuses a runner without one
        no_log = cast("logging.Logger", None)  # as AppRunner passes it
        self._server = await loop.create_server(
            partial(
                Connection, manager, loop=loop, access_log=no_log, keepalive_timeout=KEEPALIVE_S
            ),
            self._http.host,
            self._http.port,
            backlog=self._http.backlog,
            reuse_address=True,
        )
