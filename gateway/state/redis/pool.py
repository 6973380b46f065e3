"""The connections to one Redis server, and whether it is there."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import hiredis
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from gateway.config.redisurl import Address
from gateway.state.redis.dial import Dialer
from gateway.state.redis.link import PING, Away, Cut, Link, refusal
from gateway.state.redis.scripts import SHA

SLOW: Final = "it does not answer in time"
MOST_WAITING: Final = 4_096  # callers that wait for a connection
IDLE_S: Final = 30.0  # an unused connection is closed after that: a firewall may forget it sooner


class Command(NamedTuple):
    """One command. ``key`` says where it belongs in a cluster.

    ``script``: the Lua text that the EVALSHA in ``args`` names; a server that forgot it gets it.
    """

    key: bytes
    args: tuple[bytes | str | int, ...]
    script: str = ""

    def packed(self) -> bytes:
        """Return it as it goes over the wire."""
        return pack(self.args)

    def in_full(self) -> bytes:
        """Return it with the text of its script."""
        return pack(("EVAL", self.script, *self.args[2:]))


def script(text: str, keys: Sequence[bytes], arguments: Sequence[bytes | str | int]) -> Command:
    """Return the call of a script. ``keys`` are all on one server; the first says which."""
    return Command(keys[0], ("EVALSHA", SHA[text], len(keys), *keys, *arguments), text)


def pack(args: tuple[bytes | str | int, ...]) -> bytes:
    """Return a command as it goes over the wire."""
    data: bytes = hiredis.pack_command(args)  # type: ignore[arg-type]  # its stub means 1-tuples
    return data


class Pool:
    """Up to ``size`` connections to ``address``, made when needed.

    ``away`` holds why the server is known not to answer; calls then fail at once, until ``probe``
    got through. A cancelled call ends its connection.
    """

    def __init__(self, dialer: Dialer, address: Address, *, size: int) -> None:
        self.address = address
        self.away = ""
        self.suspect = False  # something failed since the last probe
        self.commands = 0
        self._dialer = dialer
        self._idle: list[Link] = []  # the last used is taken first
        self._free = asyncio.Semaphore(size)
        self._waiting = 0
        self._closed = False
        self._own: Link | None = None  # for probes, kept open
        self._timeout_s = dialer.timeout_s

    async def run(self, commands: Sequence[Command], *, asking: bool = False) -> list[Any]:
        """Return the replies to ``commands``; one round trip. Error replies are returned too.

        Raises:
            Away: no answer within the timeout, or the server takes no writes.
        """
        if self.away:
            raise Away(self.away)
        if self._waiting >= MOST_WAITING:
            raise Away("too many calls are waiting for it")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._free:
                    replies = await self._run(commands, asking=asking)
        except TimeoutError as exc:
            self.suspect = True
            self._drop()  # the others may be as dead as this one
            raise Away(SLOW) from exc
        except Away as exc:
            self.suspect = not isinstance(exc, Cut)
            raise
        finally:
            self._waiting -= 1
        self.commands += len(commands)
        for reply in replies:
            if isinstance(reply, ReadOnlyError):  # the master of before a failover
                self.suspect = True
                self._drop()
        return replies

    async def probe(self) -> None:
        """Ask whether the server answers, and note it. Raises Away."""
        self.suspect = False
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._ping()
        except TimeoutError as exc:
            self._note_away(SLOW)
            raise Away(SLOW) from exc
        except Away as exc:
            self._note_away(str(exc))
            raise
        self.away = ""
        horizon = asyncio.get_running_loop().time() - IDLE_S
        while self._idle and self._idle[0].used_at < horizon:
            self._idle.pop(0).abort()

    def close(self) -> None:
        """End the connections that are not in use; those in use end when they are given back."""
        self._closed = True
        self._drop()
        if self._own is not None:
            self._own.abort()
            self._own = None

    def _note_away(self, reason: str) -> None:
        self.away = reason
        self._drop()
        if self._own is not None:
            self._own.abort()
            self._own = None

    async def _ping(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            try:
                if await own.intact():
                    await _expect_pong(own)
                    self._keep(own)
                    return
            except Away:
                pass  # it may just have been restarted: a new connection decides
            own.abort()
        fresh = await self._dialer.dial(self.address)
        await _expect_pong(fresh)
        self._keep(fresh)

    def _keep(self, own: Link) -> None:
        if self._closed:
            own.abort()
        else:
            self._own = own

    async def _run(self, commands: Sequence[Command], *, asking: bool) -> list[Any]:
        packed = [command.packed() for command in commands]
        link = await self._take() or await self._dialer.dial(self.address)
        replies = await _exchange(link, packed, asking)
        unknown = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = await _exchange(link, [commands[n].in_full() for n in unknown], asking)
            for n, reply in zip(unknown, again, strict=True):
                replies[n] = reply
        if self._closed:
            link.abort()
        else:
            link.used_at = asyncio.get_running_loop().time()
            self._idle.append(link)
        return replies

    async def _take(self) -> Link | None:
        while self._idle:
            link = self._idle.pop()
            if await link.intact():
                return link
            link.abort()
        return None

    def _drop(self) -> None:
        while self._idle:
            self._idle.pop().abort()


_ASKING: Final = pack(("ASKING",))


async def _exchange(link: Link, packed: list[bytes], asking: bool) -> list[Any]:  # noqa: FBT001
    """Return the replies to packed commands; ``asking`` goes before each of them."""
    if not asking:
        return await link.exchange(b"".join(packed), len(packed))
    data = _ASKING + _ASKING.join(packed)
    return (await link.exchange(data, 2 * len(packed)))[1::2]


async def _expect_pong(link: Link) -> None:
    (reply,) = await link.exchange(PING, 1)
    if reply != b"PONG":
        link.abort()
        raise Away(refusal(reply) if isinstance(reply, ResponseError) else "it answers no ping")
