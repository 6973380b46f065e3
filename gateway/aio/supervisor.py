"""The one place that starts long-lived tasks."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from types import TracebackType
from typing import Self

from gateway.core.backoff import Backoff

log = logging.getLogger(__name__)


class Supervisor:
    """Own the background tasks of the process.

    Leaving the block cancels the tasks and waits for them. A task that raises, or returns, takes
    the process down; systemd restarts it. A task spawned with ``restart`` is started again instead,
    after a growing pause.
    """

    def __init__(self, rng: Random | None = None) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []
        self._rng = rng or Random()  # noqa: S311 - jitter, not a secret

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(exc_type, exc, traceback)

    def spawn(
        self, name: str, run: Callable[[], Awaitable[None]], *, restart: Backoff | None = None
    ) -> None:
        """Run ``run`` until the block is left. ``run`` must not return."""
        self._tasks.append(self._group.create_task(self._keep(name, run, restart), name=name))

    async def _keep(
        self, name: str, run: Callable[[], Awaitable[None]], restart: Backoff | None
    ) -> None:
        attempt = 0
        while True:
            try:
                await run()
            except Exception:
                if restart is None:
                    raise
                pause_s = restart.delay_s(attempt, self._rng)
                log.exception(
                    "task failed: name=%s attempt=%d pause_s=%.2f", name, attempt, pause_s
                )
                await asyncio.sleep(pause_s)
                attempt += 1
            else:
                raise RuntimeError(f"background task {name!r} returned")
