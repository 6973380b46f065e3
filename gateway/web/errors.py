"""Exceptions to responses: the only table of status codes."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from math import ceil
from random import SystemRandom
from typing import Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware
from msgspec import Struct

from gateway.core.errors import (
    BadRange,
    Conflict,
    CrossSite,
    Forbidden,
    GatewayError,
    InvalidInput,
    NotFound,
    SlowConsumer,
    TooLarge,
    Unavailable,
    Unprocessable,
)

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Check = Callable[[web.Request], web.StreamResponse | None]
"""Looks at a request before its handler: None lets it pass; an answer or an exception does not."""

STARTED: Final = web.RequestKey("started", web.StreamResponse)
"""The response of a request whose status line is on its way: too late to answer anything else."""

STATUS: Final[dict[type[GatewayError], int]] = {
    InvalidInput: 400,
    BadRange: 400,
    Forbidden: 403,
    CrossSite: 403,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
    Unprocessable: 422,
    SlowConsumer: 429,
    Unavailable: 503,
}

_CODE_OF_STATUS: Final = {400: "INVALID", 404: "NOT_FOUND", 413: "TOO_LARGE"}
_DETAIL_OF_STATUS: Final = {
    404: "nothing is served at this path",
    405: "this path does not answer that method",
    413: "the body is over its limit",
}

_random: Final = SystemRandom()


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A failure (RFC 9457). ``code`` is for programs, ``detail`` for people.

    ``path`` is the JSON path of what is wrong, or a query parameter as ``?from``; ``dependency``
    is what is down.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    trace_id: str
    path: str | None = None
    dependency: str | None = None


def answering(*checks: Check) -> Middleware:
    """Return the one middleware: ``checks`` first, then the handler, and every failure an answer.

    Expected failures get their status, bugs an opaque 500. One middleware, because a stream keeps
    the frame of each for as long as it is open.
    """

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            for check in checks:
                if (ready := check(request)) is not None:
                    return ready
            return await handler(request)
        except ConnectionError:
            raise  # the client left in the middle of its answer; aiohttp ends the connection
        except Exception as exc:
            failed = _failed(request, exc)
            if failed is None:
                raise
            return failed

    return answer


def _failed(request: web.Request, exc: Exception) -> web.StreamResponse | None:
    """Return the answer to ``exc``; None: it is an answer itself, below 400."""
    match exc:
        case GatewayError():
            answer, reason = problem(exc), exc.code
        case web.HTTPException():
            if exc.status < HTTPStatus.BAD_REQUEST:
                return None
            answer, reason = _of_http_exception(exc), exc.reason
        case web.RequestPayloadError():
            answer = problem(InvalidInput("the body is not what its Content-Encoding says"))
            answer.force_close()  # where the next request would begin is not known
            reason = InvalidInput.code
        case _:
            trace_id = _trace_id()
            log.error(
                "unhandled error: method=%s path=%s trace_id=%s",
                request.method,
                request.path,
                trace_id,
                exc_info=exc,
            )
            detail = "the gateway failed; its log has the trace id"
            answer, reason = _answer(500, "INTERNAL", detail, trace_id), "INTERNAL"
    started = request.get(STARTED)
    return answer if started is None else _cut(request, started, reason)


def problem(exc: GatewayError) -> web.Response:
    """Return ``exc`` as application/problem+json (RFC 9457)."""
    status = _status(exc)
    trace_id = _trace_id()
    match exc:
        case InvalidInput():
            return _answer(status, exc.code, exc.detail, trace_id, path=exc.path)
        case Unprocessable():
            return _answer(status, exc.reason, exc.detail, trace_id, path=exc.path)
        case Unavailable():
            answer = _answer(status, exc.code, exc.detail, trace_id, dependency=exc.dependency)
            answer.headers[hdrs.RETRY_AFTER] = str(max(1, ceil(exc.retry_after_s)))
            return answer
        case _:
            return _answer(status, exc.code, exc.detail, trace_id)


def _status(exc: GatewayError) -> int:
    for kind in type(exc).__mro__:  # a subclass answers as what it is a kind of
        if kind in STATUS:
            return STATUS[kind]
    return 500


def _of_http_exception(exc: web.HTTPException) -> web.Response:
    code = _CODE_OF_STATUS.get(exc.status) or HTTPStatus(exc.status).name
    detail = _DETAIL_OF_STATUS.get(exc.status) or exc.text or exc.reason
    answer = _answer(exc.status, code, detail, _trace_id())
    for name in (hdrs.ALLOW, hdrs.RETRY_AFTER, hdrs.SEC_WEBSOCKET_VERSION, hdrs.UPGRADE):
        if name in exc.headers:
            answer.headers[name] = exc.headers[name]
    return answer


def _answer(status: int, code: str, detail: str, trace_id: str, **more: str) -> web.Response:
    body = Problem(
        type="about:blank",  # RFC 9457 section 4.2.1: title is then the phrase of the status
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        trace_id=trace_id,
        **more,
    )
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/problem+json"
    )


def _cut(request: web.Request, started: web.StreamResponse, reason: str) -> web.StreamResponse:
    """End a connection whose answer broke after its first byte: it must not look complete."""
    log.warning("answer cut off: method=%s path=%s reason=%s", request.method, request.path, reason)
    if request.transport is not None:
        request.transport.abort()
    return started


def _trace_id() -> str:
    """Return 16 random bytes as hex: the form of a W3C trace id."""
    return f"{_random.getrandbits(128):032x}"
