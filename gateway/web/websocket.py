"""WebSockets whose frames somebody else writes: handshake, reading, pongs, limits, close."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import msgspec
from aiohttp import WSMsgType, web

from gateway.aio.link import TRY_LATER, Link
from gateway.core import wsframe
from gateway.core.errors import GatewayError, Unavailable

MAX_MESSAGE: Final = 65_536  # bytes from a client; larger closes with 1009
MESSAGES_PER_S: Final = 50  # from a client, pongs to our pings not counted; more closes with 1008
GOODBYE_S: Final = 1.0  # for the answer to a close frame
POLICY: Final = 1008
NORMAL: Final = 1000

_ENDS: Final = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})
_SENDABLE: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013})

R = TypeVar("R", bound=Link)


class _Socket(web.WebSocketResponse):
    """aiohttp's side of it. ``leave`` runs before any close frame, so that nothing follows one."""

    leave: Callable[[], None] | None = None

    def __init__(self) -> None:
        super().__init__(
            compress=False,
            autoping=False,
            autoclose=False,
            max_msg_size=MAX_MESSAGE,
            timeout=GOODBYE_S,
        )

    async def close(self, *, code: int = NORMAL, message: bytes = b"", drain: bool = True) -> bool:
        leave, self.leave = self.leave, None
        if leave is not None:
            leave()
        return await super().close(code=code, message=message, drain=drain)


async def serve(
    request: web.Request,
    *,
    join: Callable[[asyncio.Transport], R],
    leave: Callable[[R], None],
    on_text: Callable[[R, str], None],
    on_pong: Callable[[R, int], None],
) -> web.WebSocketResponse:
    """Open a WebSocket and read it until it ends.

    ``on_text`` may raise a GatewayError: the client is told, and the socket stays open.
    """
    socket = _Socket()
    await socket.prepare(request)
    socket.headers.clear()  # sent: 1 kB that an idle socket need not keep
    transport = request.transport
    if transport is None:  # the client is gone already
        return socket
    try:
        reader = join(transport)
    except Unavailable as exc:
        await socket.close(code=TRY_LATER, message=exc.detail.encode())
        return socket
    del join  # with what it closes over, a third of a kilobyte for as long as the socket is open
    socket.leave = partial(leave, reader)
    allowed, second = MESSAGES_PER_S, 0
    try:
        while True:
            message = await socket.receive()
            if message.type is WSMsgType.PONG:
                number = wsframe.number_of(bytes(message.data))
                if number is not None and number <= reader.number:
                    on_pong(reader, number)
                    continue
            elif message.type in _ENDS:
                break
            now = int(time.monotonic())
            if now != second:
                allowed, second = MESSAGES_PER_S, now
            allowed -= 1
            if allowed < 0:
                await socket.close(code=POLICY, message=b"too many messages")
                return socket
            if message.type is WSMsgType.PING:
                reader.write(wsframe.pong(bytes(message.data)))
            elif message.type is WSMsgType.TEXT:
                _tell(reader, on_text, message.data)
            elif message.type is WSMsgType.BINARY:
                reader.write(error_frame("INVALID", "text messages only"))
        if reader.closed:
            transport.close()  # our close frame went out before: this was the answer
        code = int(message.data or NORMAL) if message.type is WSMsgType.CLOSE else NORMAL
        await socket.close(code=code if code in _SENDABLE or 3000 <= code <= 4999 else NORMAL)
    finally:
        leave(reader)
    return socket


def _tell(reader: R, on_text: Callable[[R, str], None], text: str) -> None:
    try:
        on_text(reader, text)
    except GatewayError as exc:
        reader.write(error_frame(exc.code, exc.detail))


def error_frame(code: str, detail: str) -> bytes:
    """Return what a client is told about a message that made no sense."""
    return wsframe.text(msgspec.json.encode({"type": "error", "code": code, "detail": detail}))
