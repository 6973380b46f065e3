"""A subscription that heals: its own connection, its own pings, and a mark for what was missed."""

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import Any, Final

from redis.exceptions import ResponseError

from gateway.core.backoff import Backoff
from gateway.state.inbox import Inbox
from gateway.state.redis.link import Away, Link, refusal
from gateway.state.redis.pool import SLOW, pack
from gateway.state.redis.servers import Servers

log = logging.getLogger(__name__)

BACKOFF: Final = Backoff(base_s=0.1, cap_s=0.9)  # with one attempt before: back within 3 s
PING_S: Final = 2.0  # a connection that was silent for so long is asked whether it lives


class Listener:
    """Fills ``inbox`` with what is published on ``channel``, for ever."""

    def __init__(
        self,
        servers: Servers,
        channel: bytes,
        inbox: Inbox,
        timeout_s: float,
        on_lost: Callable[[], None],
    ) -> None:
        """``on_lost`` is called when a subscription was live and is not any more."""
        self._on_lost = on_lost
        self._servers = servers
        self._channel = channel
        self.inbox = inbox
        self._timeout_s = timeout_s
        self._heard_at = 0.0
        self._rng = Random()  # noqa: S311 - jitter, not a secret
        self.live = False  # subscribed now
        self.received = 0
        self.outages = 0
        self._retry = asyncio.Event()

    def retry(self) -> None:
        """Try again now: the server is known to be back."""
        self._retry.set()

    async def run(self) -> None:
        """Subscribe, and subscribe again after every outage."""
        attempt = 0
        while True:
            try:
                await self._listen()
            except Away as away:
                if self.live:
                    log.warning("state subscription lost: reason=%s", away)
            if self.live:
                self.live = False
                self.outages += 1
                attempt = 0
                self._on_lost()
            self._retry.clear()
            try:
                async with asyncio.timeout(BACKOFF.delay_s(attempt, self._rng)):
                    await self._retry.wait()
            except TimeoutError:
                attempt += 1

    async def _listen(self) -> None:
        """Return when other servers are to be asked. Raises Away."""
        generation = self._servers.generation
        link = await self._servers.dial(self._channel)
        try:
            await self._subscribe(link)
            self.live = True
            self.inbox.missed()
            await self._until_silent(link, lambda: self._servers.generation != generation)
        finally:
            link.abort()

    async def _subscribe(self, link: Link) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                (reply,) = await link.exchange(pack(("SUBSCRIBE", self._channel)), 1)
        except TimeoutError as exc:
            raise Away(SLOW) from exc
        if isinstance(reply, ResponseError):
            raise Away(refusal(reply)) from reply

    async def _until_silent(self, link: Link, moved: Callable[[], bool]) -> None:
        """Read until the connection fails, or nothing came in spite of a ping. Raises Away."""
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        ended = asyncio.Event()
        failed: list[Away] = []

        async def read() -> None:
            try:
                while True:
                    self._take(await link.receive())
                    self._heard_at = loop.time()
            except Away as away:
                failed.append(away)
            finally:
                ended.set()

        async with asyncio.TaskGroup() as group:
            task = group.create_task(read())
            try:
                silent = await self._watch(link, ended, moved)
            finally:
                task.cancel()
        if silent:
            raise Away(SLOW)
        if failed:
            raise failed[0]

    async def _watch(self, link: Link, ended: asyncio.Event, moved: Callable[[], bool]) -> bool:
        """Return True if nothing came in spite of a ping, False if the link ended or moved."""
        loop = asyncio.get_running_loop()
        asked_at = 0.0
        while not ended.is_set() and not moved():
            now = loop.time()
            if asked_at <= self._heard_at:
                wait_s = self._heard_at + PING_S - now
                if wait_s <= 0:
                    link.ping()
                    asked_at, wait_s = now, self._timeout_s
            else:
                wait_s = asked_at + self._timeout_s - now
                if wait_s <= 0:
                    return True
            try:
                async with asyncio.timeout(min(wait_s, 0.5)):
                    await ended.wait()
            except TimeoutError:
                continue
        return False

    def _take(self, reply: Any) -> None:
        if isinstance(reply, list) and len(reply) == 3 and reply[0] == b"message":
            self.received += 1
            self.inbox.put(reply[2])
