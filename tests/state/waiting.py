"""Waiting for conditions of a state: nothing here has a tight limit."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from gateway.core.errors import Unavailable
from gateway.state.port import StateStore, Subscription

PATIENCE_S = 30.0


async def until(condition: Callable[[], bool]) -> None:
    """Return when ``condition`` holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - it may depend on another process
            await asyncio.sleep(0.01)


async def until_true(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return when ``condition`` holds; no answer counts as no."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                if await condition():
                    return
            except Unavailable:
                pass
            await asyncio.sleep(0.01)


async def answers(store: StateStore) -> float:
    """Return when a call gets through, and after how many seconds."""
    started = time.monotonic()

    async def asked() -> bool:
        await store.get("there")
        return True

    await until_true(asked)
    return time.monotonic() - started


async def marked(subscription: Subscription) -> list[bytes]:
    """Read until the mark for missed messages; return what came before it."""
    before: list[bytes] = []
    async with asyncio.timeout(PATIENCE_S):
        while messages := await subscription.read():
            before += messages
    return before


async def heard(subscription: Subscription, count: int) -> list[bytes]:
    """Read ``count`` messages; marks among them do not matter."""
    messages: list[bytes] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(messages) < count:
            messages += await subscription.read()
    return messages
