"""From nothing to a subscribed connection, and how it is found to be dead."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.bus.client.connection import Connection
from gateway.bus.client.identity import Address, Login
from gateway.bus.client.wire import UNSUPPORTED_VERSION, Greeting

_PING_SHARE: Final = 0.75  # of the keep-alive: the broker must hear us within all of it
_REFUSED: Final = 0x80  # SUBACK codes from here on


class Away(Exception):
    """The broker cannot be used now; the message says why."""


class VersionRefused(Away):
    """The broker may not speak this version of MQTT."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A subscribed connection. ``refused``: filters that the broker did not grant."""

    session_present: bool
    keepalive_s: float
    refused: Sequence[str]


async def open_connection(
    address: Address, login: Login, make: Callable[[], Connection], *, timeout_s: float
) -> Connection:
    """Return an open connection (TCP, TLS), with nothing sent on it yet.

    Raises:
        OSError: it could not be opened, or not in time.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        _, connection = await loop.create_connection(
            make, address.host, address.port, ssl=login.tls
        )
        return connection


async def introduce(
    connection: Connection,
    greeting: Greeting,
    filters: Sequence[str],
    *,
    version: str,
    timeout_s: float,
) -> Ready:
    """Send CONNECT and, when it was accepted, SUBSCRIBE; return when both are answered.

    Messages may come before that and are handed over.

    Raises:
        VersionRefused: another version of MQTT may be accepted.
        Away: refused, no answer in time, closed.
    """
    connection.greet(greeting)
    if not await _either(connection, connection.answered, "CONNECT", timeout_s):
        gone = f"{connection.closed.result()} before it answered to MQTT {version}"
        raise VersionRefused(gone) if connection.silent else Away(gone)
    answer = connection.answered.result()
    if answer.code in UNSUPPORTED_VERSION:
        raise VersionRefused(f"refused MQTT {version}: {answer.reason}")
    if answer.code:
        raise Away(f"refused: {answer.reason}")
    connection.subscribe(filters)
    if not await _either(connection, connection.granted, "SUBSCRIBE", timeout_s):
        raise Away(connection.closed.result())
    codes = connection.granted.result()
    if len(codes) != len(filters):
        raise Away("protocol error: SUBACK with a wrong number of codes")
    refused = [name for name, code in zip(filters, codes, strict=True) if code >= _REFUSED]
    if len(refused) == len(filters):
        raise Away(f"subscriptions refused: {', '.join(refused)}")
    keepalive_s = greeting.keepalive_s if answer.keepalive_s is None else answer.keepalive_s
    return Ready(answer.session_present, keepalive_s, refused)


async def _either(
    connection: Connection, answer: asyncio.Future[Any], question: str, timeout_s: float
) -> bool:
    """Wait for ``answer``; return False when the connection closed without it."""
    await asyncio.wait(
        {answer, connection.closed}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
    )
    if not answer.done() and not connection.closed.done():
        raise Away(f"no answer to {question} within {timeout_s:g} s")
    return answer.done()


async def watch(connection: Connection, *, keepalive_s: float, timeout_s: float) -> str:
    """Ping until the connection is dead; return why it is.

    A broker that hangs is found within ``keepalive_s + timeout_s``, and ``timeout_s`` after
    ``connection.prod``. Pings go out while reading is paused, but nobody is waiting for their
    answers then. ``keepalive_s`` 0: the broker wants none, and only a prod finds a hung one.
    """
    loop = asyncio.get_running_loop()
    period_s = keepalive_s * _PING_SHARE or float("inf")
    next_ping = loop.time() + period_s
    asked_at: float | None = None  # the oldest ping without a sign of life since
    while not connection.closed.done():
        wake_at = next_ping if asked_at is None else min(next_ping, asked_at + timeout_s)
        pause_s = None if wake_at == float("inf") else max(0.0, wake_at - loop.time())
        signs: set[asyncio.Future[Any]] = {connection.closed, connection.prodded}
        await asyncio.wait(signs, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
        now = loop.time()
        if connection.prodded.done():
            connection.prodded = loop.create_future()
            if asked_at is None:
                next_ping = now
        if asked_at is not None and (connection.paused or connection.heard_at >= asked_at):
            asked_at = None
        if asked_at is not None and now - asked_at >= timeout_s:
            connection.abort(f"no sign of life within {timeout_s:g} s of a ping")
            await connection.closed
        elif now >= next_ping:
            connection.ping()
            next_ping = now + period_s
            if asked_at is None and not connection.paused:
                asked_at = now
    return connection.closed.result()
