"""The masters of a Redis cluster, and which of them holds what."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, MovedError, ResponseError

from gateway.config.redisurl import Address, RedisUrl
from gateway.state.redis.dial import Dialer
from gateway.state.redis.link import Away, Cut, Link, refusal
from gateway.state.redis.pool import Command, Pool

_REDIRECTIONS: Final = 5
_SLOTS: Final = Command(b"", ("CLUSTER", "SLOTS"))


class Cluster:
    """Sends every command to the master that holds its key; follows MOVED and ASK.

    Where the slots are is looked up at every probe, and at once after a MOVED.
    """

    buckets: int = 16

    def __init__(self, dialer: Dialer, url: RedisUrl, *, size: int) -> None:
        self.generation = 0
        self._dialer = dialer
        self._seeds = {address: Pool(dialer, address, size=size) for address in url.hosts}
        self._size = size
        self._masters: dict[Address, Pool] = {}
        self._by_slot: list[Pool | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._commands = 0  # of earlier masters
        self._moved = False
        self._teller: Address | None = None  # who told last who holds what

    @property
    def suspect(self) -> bool:
        """See ``Servers``."""
        return self._moved or any(pool.suspect for pool in self._masters.values())

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """See ``Servers``."""
        replies: list[Any] = [None] * len(commands)
        waiting: dict[tuple[Pool, bool], list[int]] = {}
        for n, command in enumerate(commands):
            waiting.setdefault((self._holder(command.key), False), []).append(n)
        for _ in range(_REDIRECTIONS):
            await self._round(commands, waiting, replies)
            waiting = self._redirected(waiting, replies)
            if not waiting:
                return replies
        raise Away("the cluster sends us from one server to the next")

    async def probe(self) -> None:
        """See ``Servers``."""
        await self._look_up()
        pools = tuple(self._masters.values())
        gone = await _each(pool.probe() for pool in pools)
        for pool, away in zip(pools, gone, strict=True):
            if away is not None:
                raise Away(f"{show(pool.address)}: {away}")
        if None in self._by_slot:
            raise Away("the cluster does not cover all slots")

    async def dial(self, key: bytes) -> Link:
        """See ``Servers``."""
        return await self._dialer.dial(self._holder(key).address)

    @property
    def commands(self) -> int:
        """See ``Servers``."""
        return self._commands + sum(pool.commands for pool in self._masters.values())

    def _holder(self, key: bytes) -> Pool:
        pool = self._by_slot[key_slot(key)]
        if pool is None:
            raise Away("the cluster has not told yet who holds what")
        return pool

    async def _round(
        self,
        commands: Sequence[Command],
        waiting: dict[tuple[Pool, bool], list[int]],
        replies: list[Any],
    ) -> None:
        async def ask(pool: Pool, asking: bool, numbers: list[int]) -> None:  # noqa: FBT001
            found = await pool.run([commands[n] for n in numbers], asking=asking)
            for n, reply in zip(numbers, found, strict=True):
                replies[n] = reply

        if len(waiting) == 1:
            (((pool, asking), numbers),) = waiting.items()
            await ask(pool, asking, numbers)
            return
        gone = await _each(ask(*place, numbers) for place, numbers in waiting.items())
        for away in gone:
            if away is not None:
                raise away

    def _redirected(
        self, asked: dict[tuple[Pool, bool], list[int]], replies: list[Any]
    ) -> dict[tuple[Pool, bool], list[int]]:
        waiting: dict[tuple[Pool, bool], list[int]] = {}
        for (pool, _), numbers in asked.items():
            for n in numbers:
                reply = replies[n]
                if not isinstance(reply, AskError):  # MovedError is one, too
                    continue
                moved = isinstance(reply, MovedError)
                self._moved = self._moved or moved
                target = self._pool((reply.host or pool.address[0], reply.port))
                waiting.setdefault((target, not moved), []).append(n)
        return waiting

    def _pool(self, address: Address) -> Pool:
        pool = self._masters.get(address)
        if pool is None:
            pool = self._masters[address] = Pool(self._dialer, address, size=self._size)
        return pool

    async def _look_up(self) -> None:
        """Learn who holds what: from the one that told last time, else from all. Raises Away."""
        self._moved = False
        known = {**self._seeds, **self._masters}
        teller = known.get(self._teller) if self._teller is not None else None
        if teller is not None and not teller.away:
            try:
                await self._ask_slots(teller)
            except Away as away:
                if isinstance(away, Cut):
                    raise
            else:
                return
        self._teller = None
        gone = await _each(self._ask_slots(pool) for pool in known.values())
        if self._teller is None:
            reasons = [str(away) for away in gone if away is not None]
            raise Away(f"no server of the cluster tells who holds what: {reasons[-1]}")

    async def _ask_slots(self, pool: Pool) -> None:
        if pool.away or pool.address not in self._masters:
            await pool.probe()
        (reply,) = await pool.run([_SLOTS])
        if isinstance(reply, ResponseError):
            disabled = "cluster support disabled" in str(reply)
            raise Away("it is not part of a cluster" if disabled else refusal(reply))
        if self._teller is None or self._teller == pool.address:
            self._teller = pool.address
            self._note(reply, pool.address)

    def _note(self, ranges: Any, asked: Address) -> None:
        before = set(self._masters)
        now: dict[Address, list[tuple[int, int]]] = {}
        for first, last, master, *_ in ranges:
            host = (master[0] or b"").decode()
            address = (host if host not in ("", "?") else asked[0], int(master[1]))
            now.setdefault(address, []).append((int(first), int(last)))
        for address in before - set(now):
            gone = self._masters.pop(address)
            self._commands += gone.commands
            gone.close()
        by_slot: list[Pool | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for address, held in now.items():
            pool = self._pool(address)
            for first, last in held:
                by_slot[first : last + 1] = [pool] * (last + 1 - first)
        if set(now) != before or by_slot != self._by_slot:
            self.generation += 1
        self._by_slot = by_slot


async def _each(parts: Iterable[Any]) -> list[Away | None]:
    """Await all side by side; return why each of them failed, None where it did not."""

    async def attempt(part: Any) -> Away | None:
        try:
            await part
        except Away as away:
            return away
        return None

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(attempt(part)) for part in parts]
    return [task.result() for task in tasks]


def show(address: Address) -> str:
    """Return host:port."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
