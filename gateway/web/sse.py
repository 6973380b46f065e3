"""Server-sent events over aiohttp (WHATWG HTML, section "Server-sent events")."""

import asyncio
from contextlib import suppress
from typing import Final

from aiohttp import web

from gateway.aio.tcp import give_up_after, keep_little_in_flight
from gateway.services.live_listeners import StreamListener

RETRY_MS: Final = 2_000  # how long a browser waits before it comes back
SEND_BUFFER: Final = 32_768

_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store, no-transform",  # a proxy that compresses would hold events back
    "X-Accel-Buffering": "no",  # nginx: do not collect a full buffer first
}


async def stream(
    request: web.Request, listener: StreamListener, first: bytes, *, write_s: float
) -> web.StreamResponse:
    """Write ``first`` and then what ``listener`` hears, until it ends or the client leaves.

    A client that takes nothing for ``write_s`` is cut off: TCP alone would let it hold this task
    for ever. The browser comes back by itself, with the id of the last event it got.
    """
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(request)
    response.headers.clear()  # sent: 1 kB that an idle stream need not keep
    transport = request.transport
    if transport is None:
        return response
    listener.transport = transport
    keep_little_in_flight(transport, send_buffer=SEND_BUFFER)
    give_up_after(transport, write_s)
    data: bytes | None = b"retry: %d\n\n" % RETRY_MS + first
    with suppress(ConnectionError):  # the client left
        try:
            while data is not None:
                async with asyncio.timeout(write_s):
                    await response.write(data)
                data = await listener.next()
        except TimeoutError:
            transport.abort()
    return response
