"""The connections to PostgreSQL: kept, dropped together when one finds the way broken, remade.

While the way is broken every call fails at once; one task looks for the server and lets the calls
in again. So an outage costs no caller a timeout but the one that discovers it.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from gateway.core.errors import Unavailable
from gateway.records.postgres.failures import (
    REFUSED,
    TIMED_OUT,
    breaks_the_way,
    is_not_storable,
    passing,
    unavailable,
)
from gateway.records.postgres.link import Session
from gateway.records.postgres.schema import NewerSchema
from gateway.records.rows import CUT

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_S: Final = 0.5  # between two looks for a server that is away
REFUSED_S: Final = 5.0  # after a refused login: servers count those
PREPARE_S: Final = 30.0  # migrations, and waiting for another box that does them
WAITING: Final = 128  # calls that wait for a connection; more are refused
STATEMENTS: Final = 6  # a call is ended after so many times the longest statement

_STARTING: Final = "the database of history was not reached yet"


class NotStorable(Exception):
    """A text or number of what was written is nothing that PostgreSQL can hold."""


class Pool:
    """At most ``size`` connections, one of them for writing alone."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Session]],
        prepare: Callable[[Session], Awaitable[None]],
        *,
        size: int,
        timeout_s: float,
    ) -> None:
        self._connect = connect
        self._prepare = prepare
        self._timeout_s = timeout_s
        self._idle: list[Session] = []
        self._all: set[Session] = set()
        self._writing = asyncio.Semaphore(1)
        self._asking = asyncio.Semaphore(size - 1)
        self._waiting = 0
        self._up = False
        self._cut = False
        self._why = _STARTING
        self._said: set[str] = set()  # reasons logged in this outage
        self.newer: NewerSchema | None = None  # the tables are of a newer version
        self._looked = asyncio.Event()  # the first look has an answer
        self._look = asyncio.Event()  # look now

    async def keep(self) -> None:
        """Look for the server whenever it is away, and prepare it; never returns."""
        while True:
            if self._up or self._cut:
                await self._look.wait()
                self._look.clear()
                continue
            await self._try()
            self._looked.set()
            if not self._up:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REFUSED_S if self._why == REFUSED else LOOK_S):
                        await self._look.wait()
                self._look.clear()

    async def _try(self) -> None:
        why, session = "", None
        try:
            session = await self._connect()
            self._all.add(session)
            async with asyncio.timeout(PREPARE_S):
                await self._prepare(session)
        except NewerSchema as exc:
            self.newer, why = exc, str(exc)
        except Exception as exc:
            why = exc.detail if isinstance(exc, Unavailable) else passing(exc)
            if not why:
                raise
        else:
            self.newer = None
        finally:
            if session is not None and (why or self._cut):
                self._drop(session)
        if why or self._cut or session is None or session.connection.is_closed():
            self._say(why)
            self._why = CUT if self._cut else why or self._why
            return
        self._idle.append(session)
        self._up, self._why = True, ""
        self._said.clear()
        log.info("history is there")

    async def run(self, work: Callable[[Session], Awaitable[T]], *, writes: bool = False) -> T:
        """Return ``work(session)`` on a connection nobody else uses. It must end its transaction.

        A connection on which anything failed is closed: what was open on it is rolled back.

        Raises:
            Unavailable: the server is away, refuses, or does not answer in time.
            NotStorable: see there.
        """
        await self._must_be_up()
        async with self._place(self._writing if writes else self._asking):
            await self._must_be_up()
            session = await self._take()
            try:
                async with asyncio.timeout(self._timeout_s * STATEMENTS):
                    result = await work(session)
            except Exception as exc:
                self._drop(session)
                if is_not_storable(exc):
                    raise NotStorable from exc
                why = CUT if self._cut else passing(exc)
                if breaks_the_way(exc):
                    self._broken(why)
                if not why:
                    raise
                raise unavailable(why) from exc
            except BaseException:  # cancelled in the middle of an answer
                self._drop(session)
                raise
            self._give_back(session)
            return result

    def sever(self, *, cut: bool) -> None:
        """Drop every connection and make none while ``cut``."""
        if cut == self._cut:
            return
        self._cut = cut
        if cut:
            self._broken(CUT)
        else:
            self._why = _STARTING
        self._look.set()

    def close(self) -> None:
        """Close every connection at once: nothing is open on them that is worth a wait."""
        self._up = False  # not worth a warning
        self._broken("history is closed")

    async def _must_be_up(self) -> None:
        if not self._up and not self._cut and not self._looked.is_set():
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._looked.wait()
            except TimeoutError as exc:
                raise unavailable(_STARTING) from exc
        if self._cut or not self._up:
            await asyncio.sleep(0)  # a caller that only tries again must not stop the event loop
            raise unavailable(self._why)

    @contextlib.asynccontextmanager
    async def _place(self, lane: asyncio.Semaphore) -> AsyncIterator[None]:
        if lane.locked() and self._waiting >= WAITING:
            raise unavailable("too many questions to history are waiting")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                await lane.acquire()
        except TimeoutError as exc:
            raise unavailable("history is busy") from exc
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            lane.release()

    async def _take(self) -> Session:
        while self._idle:
            session = self._idle.pop()
            if not session.connection.is_closed():
                return session
            self._all.discard(session)
        try:
            session = await self._connect()
        except Unavailable as exc:
            if exc.__cause__ is None or breaks_the_way(exc.__cause__):
                self._broken(exc.detail)
            raise
        self._all.add(session)
        if self._cut or not self._up:  # broken while we connected
            self._drop(session)
            raise unavailable(self._why or TIMED_OUT)
        return session

    def _give_back(self, session: Session) -> None:
        if session in self._all and not session.connection.is_closed():
            self._idle.append(session)
        else:
            self._drop(session)

    def _drop(self, session: Session) -> None:
        self._all.discard(session)
        session.connection.terminate()

    def _broken(self, why: str) -> None:
        """Drop every connection, also those in use: their callers hear of it at once."""
        if self._up:
            self._say(why)
        self._up, self._why = False, why
        self._idle.clear()
        for session in list(self._all):
            self._drop(session)
        self._look.set()

    def _say(self, why: str) -> None:
        if why and why not in self._said:
            self._said.add(why)
            log.warning("history is away: %s", why)
