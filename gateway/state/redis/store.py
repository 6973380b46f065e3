"""The shared state in Redis: commands, publish/subscribe, and knowing whether it is there."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final, TypeVar

from redis.exceptions import ResponseError

from gateway.config.model import ConfigError, RedisState
from gateway.config.redisurl import RedisUrl, parse_redis_url
from gateway.core.errors import Unavailable
from gateway.state.inbox import Inbox
from gateway.state.port import Newest, StateStatus, Subscription
from gateway.state.redis.cluster import Cluster, show
from gateway.state.redis.dial import CUT, Dialer, make_tls
from gateway.state.redis.link import Away, refusal
from gateway.state.redis.names import Names
from gateway.state.redis.newest import NewestValues
from gateway.state.redis.pool import Command, script
from gateway.state.redis.scripts import COMPARE_AND_SET
from gateway.state.redis.servers import Sentinel, Servers, Single
from gateway.state.redis.subscription import BACKOFF, Listener

log = logging.getLogger(__name__)
T = TypeVar("T")

PROBE_S: Final = 2.0  # between two looks at a server that answers
_SUSPECT_S: Final = 0.05  # and so soon after something failed
_PING: Final = Command(b"", ("PING",))
_START_S: Final = 1.0  # the start waits so long for the first answer


class RedisStateStore:
    """Implements ``StateStore``."""

    def __init__(
        self, config: RedisState, url: RedisUrl, dialer: Dialer, tasks: asyncio.TaskGroup
    ) -> None:
        self._timeout_s = config.timeout_s
        self._dialer = dialer
        self._servers = servers_of(dialer, url, config.connections)
        self._names = Names(config.prefix, self._servers.buckets)
        self._newest = NewestValues(self._servers, self._names)
        self._tasks = tasks
        self._listeners: set[Listener] = set()
        self._where = ", ".join(show(host) for host in url.hosts)
        self._away = "it was not asked yet"
        self._told = False
        self._first = asyncio.Event()  # the first look is done
        self._look = asyncio.Event()
        self._unavailable = self._outages = self._dropped = self._received = 0

    async def get(self, key: str) -> bytes | None:
        """See ``StateStore``."""
        name = self._names.key(key)
        value: bytes | None = await self._ask(Command(name, ("GET", name)))
        return value

    async def set(self, key: str, value: bytes, *, ttl_s: float | None = None) -> None:
        """See ``StateStore``."""
        name = self._names.key(key)
        life = () if ttl_s is None else ("PX", _ms(ttl_s))
        await self._ask(Command(name, ("SET", name, value, *life)))

    async def delete(self, key: str) -> bool:
        """See ``StateStore``."""
        name = self._names.key(key)
        return bool(await self._ask(Command(name, ("DEL", name))))

    async def compare_and_set(
        self, key: str, expected: bytes | None, value: bytes | None, *, ttl_s: float | None = None
    ) -> bool:
        """See ``StateStore``."""
        arguments = (
            *(("", "") if expected is None else ("1", expected)),
            *(("", "") if value is None else ("1", value)),
            "" if ttl_s is None else _ms(ttl_s),
        )
        return bool(await self._ask(script(COMPARE_AND_SET, (self._names.key(key),), arguments)))

    async def put_newest(
        self, group: str, candidates: Sequence[Newest], *, ttl_s: float
    ) -> Sequence[bool]:
        """See ``StateStore``."""
        return await self._answer(self._newest.put(group, candidates, ttl_ms=_ms(ttl_s)))

    async def newest(self, group: str) -> Mapping[str, bytes]:
        """See ``StateStore``."""
        return await self._answer(self._newest.all(group))

    async def publish(self, channel: str, payload: bytes) -> None:
        """See ``StateStore``."""
        name = self._names.channel(channel)
        await self._ask(Command(name, ("PUBLISH", name, payload)))

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[Subscription]:
        """See ``StateStore``."""
        inbox = Inbox()
        name = self._names.channel(channel)
        listener = Listener(self._servers, name, inbox, self._timeout_s, self._look.set)
        self._listeners.add(listener)
        task = self._tasks.create_task(listener.run(), name=f"state channel {channel}")
        try:
            yield inbox
        finally:
            task.cancel()
            self._listeners.discard(listener)
            self._dropped += inbox.dropped
            self._received += listener.received
            await asyncio.wait((task,))

    async def ping(self) -> None:
        """See ``StateStore``."""
        if self._away:
            raise self._refuse(self._away)
        await self._ask(_PING)

    def status(self) -> StateStatus:
        """See ``StateStore``."""
        if self._away:
            return StateStatus(connected=False, detail=f"Redis {self._where}: {self._away}")
        return StateStatus(connected=True, detail=f"Redis {self._where}")

    def figures(self) -> Mapping[str, int | float]:
        """See ``StateStore``."""
        listeners = self._listeners
        return {
            "connected": int(not self._away),
            "connections": self._dialer.open,
            "connects": self._dialer.connects,
            "connects_failed": self._dialer.failures,
            "commands": self._servers.commands,
            "unavailable": self._unavailable,
            "outages": self._outages,
            "subscriptions": len(listeners),
            "subscriptions_live": sum(listener.live for listener in listeners),
            "messages_received": self._received + sum(each.received for each in listeners),
            "messages_dropped": self._dropped + sum(each.inbox.dropped for each in listeners),
        }

    def sever(self, cut: bool) -> None:  # noqa: FBT001 - a switch
        """See ``StateStore``."""
        self._dialer.sever(cut)
        if cut:
            self._away = CUT
        self._look.set()

    async def run(self) -> None:
        """Ask the servers again and again whether they answer, for ever."""
        attempt, rng = 0, Random()  # noqa: S311 - jitter, not a secret
        while True:
            self._look.clear()
            try:
                await self._probe()
            except Away:
                pause_s = BACKOFF.delay_s(attempt, rng)
                attempt += 1
            else:
                attempt, pause_s = 0, PROBE_S
            self._first.set()
            try:
                async with asyncio.timeout(pause_s):
                    await self._look.wait()
                await asyncio.sleep(_SUSPECT_S)
            except TimeoutError:
                continue

    async def started(self) -> None:
        """Return when the servers were asked for the first time, or after a while."""
        try:
            async with asyncio.timeout(_START_S):
                await self._first.wait()
        except TimeoutError:
            log.warning("state is not there yet: redis=%s", self._where)

    async def _probe(self) -> None:
        try:
            await self._servers.probe()
        except Away as away:
            if not self._away:
                self._outages += 1
            if not self._told:  # once per outage: its reason may change with every attempt
                log.warning("state is away: redis=%s reason=%s", self._where, away)
            self._told = True
            self._away = str(away)
            raise
        if self._away:
            log.info("state is there: redis=%s", self._where)
            self._away, self._told = "", False
            for listener in self._listeners:
                listener.retry()

    async def _ask(self, command: Command) -> Any:
        (reply,) = await self._answer(self._servers.run((command,)))
        if isinstance(reply, ResponseError):
            raise self._refuse(refusal(reply)) from reply
        return reply

    async def _answer(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except Away as away:
            raise self._refuse(str(away)) from away
        finally:
            if self._servers.suspect and not self._away:
                self._look.set()

    def _refuse(self, reason: str) -> Unavailable:
        self._unavailable += 1
        return Unavailable(f"the shared state (Redis) is not there: {reason}", dependency="state")


@asynccontextmanager
async def connect(config: RedisState) -> AsyncIterator[RedisStateStore]:
    """Keep the connections until the block is left. Servers that are away do not stop the start.

    Raises:
        ConfigError: the URL, or a certificate, cannot be used.
    """
    try:
        url = parse_redis_url(config.url)
    except ValueError as exc:
        raise ConfigError(f"state.url: {exc}") from exc
    dialer = Dialer(config, url, await asyncio.to_thread(make_tls, config, url))
    try:
        async with asyncio.TaskGroup() as tasks:
            store = RedisStateStore(config, url, dialer, tasks)
            keeper = tasks.create_task(store.run(), name="state of the state")
            try:
                await store.started()
                yield store
            finally:
                keeper.cancel()
    except BaseExceptionGroup as group:  # whoever uses the state raised it: as memory would
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
    finally:
        dialer.close()


def servers_of(dialer: Dialer, url: RedisUrl, size: int) -> Servers:
    """Return the servers of ``url``; nothing is asked yet."""
    match url.arrangement:
        case "standalone":
            return Single(dialer, url.hosts[0], size=size)
        case "sentinel":
            return Sentinel(dialer, url, size=size)
        case "cluster":
            return Cluster(dialer, url, size=size)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
