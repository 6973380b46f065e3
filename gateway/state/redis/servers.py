"""Which server is asked: the one of the URL, or the master that Sentinels name."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

from redis.exceptions import ResponseError

from gateway.config.redisurl import Address, RedisUrl
from gateway.state.redis.dial import Dialer
from gateway.state.redis.link import Away, Cut, Link, refusal
from gateway.state.redis.pool import SLOW, Command, Pool, pack

_ROLE: Final = pack(("ROLE",))


class Servers(Protocol):
    """One or more Redis servers that together hold the state."""

    generation: int
    """Changes when other servers are asked than before: subscriptions then move."""

    buckets: int
    """Into how many parts a group of newest values is divided, each on one server."""

    @property
    def suspect(self) -> bool:
        """Whether something failed since the last probe."""

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies, error replies included; one round trip per server. Raises Away."""

    async def probe(self) -> None:
        """Find the servers and ask whether they answer. Raises Away."""

    async def dial(self, key: bytes) -> Link:
        """Return a connection of its own to where the channel ``key`` belongs. Raises Away."""

    @property
    def commands(self) -> int:
        """Commands answered since the start."""


class Single:
    """The server of a ``redis://`` URL."""

    buckets: int = 1

    def __init__(self, dialer: Dialer, address: Address, *, size: int) -> None:
        self.generation = 0
        self._dialer = dialer
        self._pool = Pool(dialer, address, size=size)

    @property
    def suspect(self) -> bool:
        """See ``Servers``."""
        return self._pool.suspect

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """See ``Servers``."""
        return await self._pool.run(commands)

    async def probe(self) -> None:
        """See ``Servers``."""
        await self._pool.probe()

    async def dial(self, key: bytes) -> Link:
        """See ``Servers``."""
        return await self._dialer.dial(self._pool.address)

    @property
    def commands(self) -> int:
        """See ``Servers``."""
        return self._pool.commands


class Sentinel:
    """The master of a service, wherever the Sentinels say it is. Asked again at every probe."""

    buckets: int = 1

    def __init__(self, dialer: Dialer, url: RedisUrl, *, size: int) -> None:
        self.generation = 0
        self._dialer = dialer
        self._sentinels = list(url.hosts)  # the one that answered last is asked first
        self._question = pack(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.service))
        self._size = size
        self._link: Link | None = None  # to the first Sentinel
        self._pool: Pool | None = None
        self._commands = 0  # of earlier masters

    @property
    def suspect(self) -> bool:
        """See ``Servers``."""
        return self._pool is not None and self._pool.suspect

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """See ``Servers``."""
        if self._pool is None:
            raise Away("the Sentinels have not named its master yet")
        return await self._pool.run(commands)

    async def probe(self) -> None:
        """See ``Servers``."""
        try:
            address = await self._locate()
        except Away as away:
            if self._pool is None or isinstance(away, Cut):
                raise
            await self._pool.probe()  # without Sentinels the last master may still serve
            return
        if self._pool is None or self._pool.address != address:
            if self._pool is not None:
                self._commands += self._pool.commands
                self._pool.close()
            self._pool = Pool(self._dialer, address, size=self._size)
            self.generation += 1
        await self._pool.probe()
        await self._check_role(self._pool)

    async def dial(self, key: bytes) -> Link:
        """See ``Servers``."""
        if self._pool is None:
            raise Away("the Sentinels have not named its master yet")
        return await self._dialer.dial(self._pool.address)

    @property
    def commands(self) -> int:
        """See ``Servers``."""
        return self._commands + (0 if self._pool is None else self._pool.commands)

    async def _check_role(self, pool: Pool) -> None:
        (reply,) = await pool.run([Command(b"", ("ROLE",))])
        if isinstance(reply, list) and reply and reply[0] != b"master":
            pool.away = "the server that the Sentinels name is not the master yet"
            raise Away(pool.away)

    async def _locate(self) -> Address:
        reason = ""
        budget_s = self._dialer.timeout_s / 2 / len(self._sentinels)
        for address in tuple(self._sentinels):
            try:
                async with asyncio.timeout(budget_s):
                    found = await self._ask(address)
            except TimeoutError:
                self._forget()
                reason = SLOW
                continue
            except Away as away:
                self._forget()
                reason = str(away)
                continue
            if found is not None:
                return found
            self._forget()
            reason = "it does not know the service of state.url"
        raise Away(f"no Sentinel names the master, the last one: {reason}")

    async def _ask(self, address: Address) -> Address | None:
        link = self._link
        if link is None or link.address != address or not await link.intact():
            self._forget()
            link = self._link = await self._dialer.dial(address, sentinel=True)
            self._sentinels.remove(address)
            self._sentinels.insert(0, address)
        (reply,) = await link.exchange(self._question, 1)
        if isinstance(reply, ResponseError):
            raise Away(refusal(reply))
        return None if reply is None else (reply[0].decode(), int(reply[1]))

    def _forget(self) -> None:
        if self._link is not None:
            self._link.abort()
            self._link = None
