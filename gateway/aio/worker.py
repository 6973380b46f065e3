"""Blocking calls on threads of their own, each thread with a resource of its own."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, closing
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from gateway.core.errors import Unavailable

log = logging.getLogger(__name__)


class Closable(Protocol):
    """What a thread works with. Made, used and closed on that thread only."""

    def close(self) -> None: ...


R = TypeVar("R", bound=Closable)
T = TypeVar("T")


class Worker(Generic[R]):
    """Run calls on threads. One thread keeps their order; more run them side by side.

    Bounded: with ``capacity`` calls waiting or running, the next one is *refused* (Unavailable).
    A call whose caller gave up is skipped if it has not begun; one that has begun runs to its end,
    so a caller that timed out does not know whether it took effect.
    """

    def __init__(self, name: str, *, capacity: int, deadline_s: float) -> None:
        self._name = name
        self._deadline_s = deadline_s
        self._capacity = capacity
        self._places = threading.BoundedSemaphore(capacity)
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[R], Any]] | None] = SimpleQueue()

    async def call(self, work: Callable[[R], T]) -> T:
        """Return what ``work`` returns on a thread, or raise what it raises.

        Raises:
            Unavailable: too many calls wait, or there was no answer within the deadline.
        """
        if not self._places.acquire(blocking=False):
            raise Unavailable(
                f"{self._name} has {self._capacity} calls waiting", dependency=self._name
            )
        future: Future[T] = Future()
        future.add_done_callback(self._leave)
        self._calls.put((future, work))
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.wrap_future(future)
        except TimeoutError as exc:
            raise Unavailable(
                f"{self._name} did not answer in {self._deadline_s:g} s", dependency=self._name
            ) from exc

    def _leave(self, _: Future[Any]) -> None:
        self._places.release()

    def _run(self, make: Callable[[], R], ended: Future[None]) -> None:
        ended.set_running_or_notify_cancel()  # a waiter that gives up cannot cancel it any more
        try:
            with closing(make()) as resource:
                while (item := self._calls.get()) is not None:
                    _settle(*item, resource)
                    del item  # or an idle thread would hold what its last call carried
        finally:
            ended.set_result(None)


def _settle(future: Future[T], work: Callable[[R], T], resource: R) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work(resource)
    except BaseException as exc:  # noqa: BLE001 - it is raised again, at the caller
        future.set_exception(exc)
    else:
        future.set_result(result)


@asynccontextmanager
async def open_worker(
    name: str,
    make: Callable[[], R],
    *,
    threads: int = 1,
    capacity: int,
    deadline_s: float,
) -> AsyncIterator[Worker[R]]:
    """Run ``threads`` threads inside the block; ``make`` gives each its resource.

    Leaving the block lets calls that wait finish, for at most ``deadline_s``; a thread that hangs
    in the kernel after that is left behind (they are daemons) and said so.
    """
    worker: Worker[R] = Worker(name, capacity=capacity, deadline_s=deadline_s)
    all_ended: list[Future[None]] = []
    for number in range(threads):
        ended: Future[None] = Future()
        all_ended.append(ended)
        threading.Thread(
            target=worker._run,  # noqa: SLF001 - the other half of the same thing
            args=(make, ended),
            name=f"{name}-{number}",
            daemon=True,
        ).start()
    try:
        yield worker
    finally:
        for _ in all_ended:
            worker._calls.put(None)  # noqa: SLF001
        try:
            async with asyncio.timeout(deadline_s):
                for ended in all_ended:
                    await asyncio.wrap_future(ended)
        except TimeoutError:
            log.error("thread still busy at the end, left behind: name=%s", name)  # noqa: TRY400
