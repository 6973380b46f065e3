"""One connection to one Redis server. redis-py makes it and reads it; how it ends is ours.

Whatever goes wrong while replies are outstanding, a cancelled caller included, ends the connection:
the next user of a connection can therefore never read the answer to somebody else's question.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import hiredis
from redis.asyncio.connection import Connection
from redis.credentials import CredentialProvider
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeout

from gateway.config.redisurl import Address

PING: Final = hiredis.pack_command(("PING",))


class Away(Exception):
    """No answer. The text is safe to show: no secrets, no paths."""


class Cut(Away):
    """A drill has cut us off."""


class Login(CredentialProvider):
    """User and password as they stand in the file now: it may change while we run."""

    def __init__(self, user: str, password_file: str) -> None:
        self._user = user
        self._file = password_file

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Read the file. Raises Away if it cannot be read."""
        password = ""
        if self._file:
            try:
                text = await asyncio.to_thread(Path(self._file).read_text, encoding="utf-8")
            except (OSError, UnicodeDecodeError) as exc:
                raise Away("the password file cannot be read") from exc
            password = text.rstrip("\r\n")
        return (self._user, password) if self._user else (password,)


class Link(Connection):
    """A connection that is used for one exchange at a time."""

    def __init__(
        self,
        address: Address,
        *,
        tls: ssl.SSLContext | None,
        login: Login | None,
        db: int,
        timeout_s: float,
        on_end: "Callable[[Link], None]",
    ) -> None:
        super().__init__(
            host=address[0],
            port=address[1],
            db=db,
            credential_provider=login,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            driver_info=None,  # CLIENT SETINFO: an ACL user may not be allowed to
            protocol=2,
        )
        self._tls = tls
        self._on_end = on_end
        self.address = address
        self.used_at = 0.0  # loop time of the last exchange

    def _connection_arguments(self) -> Mapping[str, Any]:
        arguments: dict[str, Any] = {"host": self.host, "port": self.port}
        if self._tls is not None:
            arguments["ssl"] = self._tls
        return arguments

    async def intact(self) -> bool:
        """Whether it is connected, as far as is known, and nothing unread is waiting."""
        reader, writer = self._reader, self._writer
        if reader is None or writer is None or writer.transport.is_closing():
            return False
        return reader.exception() is None and not await self._replies().can_read()

    async def open(self) -> None:
        """Connect and log in. Raises Away."""
        try:
            await self.connect()  # type: ignore[no-untyped-call]
        except RedisError as exc:
            self.abort()
            raise Away(explain(exc)) from exc
        except BaseException:
            self.abort()
            raise

    def send(self, data: bytes) -> None:
        """Send packed commands. Raises Away if the connection is closed."""
        if self._writer is None:
            raise Away("the connection is closed")
        self._writer.write(data)

    def ping(self) -> None:
        """Ask for a sign of life; a closed connection says so to whoever reads it."""
        if self._writer is not None:
            self._writer.write(PING)

    async def receive(self) -> Any:
        """Return one reply; an error reply is returned, not raised. Raises Away."""
        try:
            return await self._replies().read_response()
        except (RedisError, OSError) as exc:
            self.abort()
            raise Away(explain(exc)) from exc

    async def exchange(self, data: bytes, count: int) -> list[Any]:
        """Send packed commands and return their ``count`` replies. Raises Away.

        If it does not return, for whatever reason, the connection is ended.
        """
        try:
            self.send(data)
            return [await self.receive() for _ in range(count)]
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """End the connection at once; what was not sent is not sent."""
        writer = self._writer
        self._replies().on_disconnect()
        self._reader = self._writer = None
        if writer is not None:
            writer.transport.abort()
        self._on_end(self)

    def _replies(self) -> Any:  # its base class has no types
        return self._parser


def explain(exc: BaseException) -> str:
    """Return why there was no answer, in words that are safe to show."""
    if isinstance(exc, AuthenticationError):
        return "it refuses the login (state.user, state.password_file)"
    if isinstance(exc, BusyLoadingError):
        return "it is loading its data"
    if isinstance(exc, RedisTimeout):
        return "it does not answer in time"
    if isinstance(exc, InvalidResponse):
        return "it does not speak Redis"
    if isinstance(exc, ResponseError):
        return refusal(exc)
    link: BaseException | None = exc
    while link is not None:
        if isinstance(link, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {link.verify_message}"
        if isinstance(link, ssl.SSLError):
            return f"TLS failed: {link.reason or 'the connection was closed'}"
        if isinstance(link, socket.gaierror):
            return "the name of its host cannot be resolved"
        if isinstance(link, OSError):
            # asyncio puts the address into strerror, and no errno if it tried several
            return os.strerror(link.errno).lower() if link.errno else "no connection to it"
        link = link.__cause__ or link.__context__
    return "the connection was closed"


def refusal(error: ResponseError) -> str:
    """Return what an error reply says, by its code."""
    text = str(error)
    code = error.status_code or text.partition(" ")[0]
    if code == "OOM" or "OOM command not allowed" in text:
        return "it is out of memory (maxmemory)"
    known = {
        "READONLY": "it is a replica, or read-only",
        "NOPERM": "the user may not do this (its ACL)",
        "NOAUTH": "it asks for a login (state.password_file)",
        "MASTERDOWN": "it lost its master",
        "CLUSTERDOWN": "the cluster is down",
        "TRYAGAIN": "the cluster is moving these keys",
        "BUSY": "it is busy with a script",
        "MISCONF": "it cannot save to its disk",
        "NOREPLICAS": "it has too few replicas",
        "WRONGTYPE": "the key holds something else",
    }
    return known.get(code, f"it refuses with {code[:32]}")
