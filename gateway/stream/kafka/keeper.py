"""Keeps a session with Kafka: connects, notices when it is of no use any more, connects again."""

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import Final

from gateway.config.model import KafkaStream
from gateway.core.backoff import Backoff
from gateway.core.errors import Unavailable
from gateway.stream.kafka.security import DEPENDENCY, Security
from gateway.stream.kafka.session import Refused, Session

log = logging.getLogger(__name__)

BACKOFF: Final = Backoff(base_s=0.2, cap_s=2.0)  # what waits for Kafka waits little longer
SLOWLY: Final = Backoff(base_s=10.0, cap_s=10.0)  # a wrong password may lock the account
_PROBE_S: Final = 4.0  # a connection that says nothing is asked so often whether it is there
_OVERLAP_S: Final = 1.5  # an attempt to connect that hangs gets company
_ATTEMPTS: Final = 4  # at the same time
_STEADY_S: Final = 5.0  # a connection that held so long makes the next pause short again
_CUT: Final = "cut off by a drill"


class Keeper:
    """Owns the one session there is, if there is one.

    Args:
        adopt: is told of every new session before anybody can use it.
        nameless: whether a session with that cluster id needs a new producer id.
    """

    def __init__(
        self,
        config: KafkaStream,
        security: Security,
        client_id: str,
        *,
        adopt: Callable[[Session], None],
        nameless: Callable[[str], bool],
        backoff: Backoff = BACKOFF,
        slowly: Backoff = SLOWLY,
    ) -> None:
        self._config = config
        self._security = security
        self._client_id = client_id
        self._adopt = adopt
        self._nameless = nameless
        self._backoff = backoff
        self._slowly = slowly
        self._rng = Random()  # noqa: S311 - jitter, not a secret
        self._tries: set[asyncio.Task[Session | Unavailable]] = set()
        self._up = asyncio.Event()
        self._whole = asyncio.Event()  # not severed
        self._whole.set()
        self.session: Session | None = None
        self.detail = "connecting to Kafka"
        self.heard_at = 0.0  # loop time when a broker last did what we asked for
        self.connects = self.failures = 0

    async def run(self) -> None:
        """Connect, and connect again, for ever."""
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            await self._whole.wait()
            try:
                session = await self._connect()
            except Unavailable as exc:
                self.failures += 1
                self._say(exc.detail)
                await asyncio.sleep(self._pause_s(exc, attempt))
                attempt += 1
                continue
            began = loop.time()
            try:
                self._adopt(session)
                self.connects += 1
                self.session = session
                self._say(f"connected to {session.brokers()} broker(s)")
                self._up.set()
                await self._watch(session)
            except BaseException:
                session.close()
                raise
            self.give_up(session, "the connection to Kafka was lost")
            attempt = 0 if loop.time() - began > _STEADY_S else attempt + 1
            await asyncio.sleep(self._backoff.delay_s(attempt, self._rng))

    async def ready(self, until: float) -> Session:
        """Return the session, waiting for one until that loop time.

        Raises:
            Unavailable: there is none; says why.
        """
        while self.session is None:
            try:
                async with asyncio.timeout_at(until):
                    await self._up.wait()
            except TimeoutError:
                raise Unavailable(self.detail, dependency=DEPENDENCY) from None
        return self.session

    def give_up(self, session: Session, why: str) -> None:
        """Close ``session``: whoever waits for an answer of it gets Unavailable."""
        session.close()
        session.lost.set()
        if self.session is session:
            self.session = None
            self._up.clear()
            self._say(why)

    def sever(self, cut: bool) -> None:  # noqa: FBT001 - a switch
        """Drop every connection and make none while ``cut``."""
        if not cut:
            self._whole.set()
            return
        self._whole.clear()
        for attempt in self._tries:
            attempt.cancel()
        if self.session is not None:
            self.give_up(self.session, _CUT)
        self._say(_CUT)

    def _pause_s(self, wrong: Unavailable, attempt: int) -> float:
        if isinstance(wrong, Refused):
            return self._slowly.base_s / 2 + self._slowly.delay_s(attempt, self._rng)
        return self._backoff.delay_s(attempt, self._rng)

    async def _connect(self) -> Session:
        """Return a new session. Attempts overlap: one that hangs in a dead link delays no other.

        Raises:
            Unavailable: the first that ended failed.
        """
        sessions: list[Session] = []
        wrong: Unavailable | None = None
        try:
            async with asyncio.TaskGroup() as group:
                done: set[asyncio.Task[Session | Unavailable]] = set()
                while not done:
                    if len(self._tries) < _ATTEMPTS:
                        self._tries.add(group.create_task(self._attempt()))
                    done, _ = await asyncio.wait(
                        self._tries, timeout=_OVERLAP_S, return_when=asyncio.FIRST_COMPLETED
                    )
                for task in self._tries:
                    task.cancel()  # it closes what it made; one that is done stays done
        finally:
            for task in self._tries:
                if task.done() and not task.cancelled() and task.exception() is None:
                    result = task.result()
                    if isinstance(result, Session):
                        sessions.append(result)
                    else:
                        wrong = result
            self._tries.clear()
            chosen = sessions.pop() if sessions and self._whole.is_set() else None
            for spare in sessions:
                spare.close()
        if chosen is None:
            raise wrong or Unavailable(_CUT, dependency=DEPENDENCY)
        return chosen

    async def _attempt(self) -> Session | Unavailable:
        session = Session(self._config, self._security, self._client_id)
        try:
            async with asyncio.timeout(2 * self._config.timeout_s):
                await session.open()
                if self._nameless(session.cluster):
                    session.identity = await session.producer_id()
        except Unavailable as exc:
            session.close()
            return exc
        except TimeoutError:
            session.close()
            return Unavailable("Kafka answers too slowly", dependency=DEPENDENCY)
        except BaseException:
            session.close()
            raise
        return session

    async def _watch(self, session: Session) -> None:
        """Return when the session is of no use any more."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(_PROBE_S):
                    await session.lost.wait()
                    return
            except TimeoutError:
                if loop.time() - self.heard_at < _PROBE_S:
                    continue
            try:
                await session.probe()
            except Unavailable as exc:
                self.give_up(session, exc.detail)
                return

    def _say(self, detail: str) -> None:
        if detail != self.detail:
            self.detail = detail
            log.log(logging.WARNING if self.session is None else logging.INFO, "kafka: %s", detail)
