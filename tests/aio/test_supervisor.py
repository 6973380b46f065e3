"""Tasks end with the block, and a task that ends ends the block."""

import asyncio
from random import Random

import pytest

from gateway.aio.supervisor import Supervisor
from gateway.core.backoff import Backoff


async def test_leaving_the_block_cancels_and_waits() -> None:
    stopped = False

    async def run() -> None:
        nonlocal stopped
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            stopped = True

    async with Supervisor() as tasks:
        tasks.spawn("idle", run)
        await asyncio.sleep(0)
    assert stopped


async def test_a_bug_ends_the_block() -> None:
    async def run() -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor() as tasks:
            tasks.spawn("buggy", run)
            await asyncio.Event().wait()
    assert caught.group_contains(ZeroDivisionError)


async def test_a_task_that_returns_is_a_bug() -> None:
    async def run() -> None:
        return

    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor() as tasks:
            tasks.spawn("short", run)
            await asyncio.Event().wait()
    assert caught.group_contains(RuntimeError, match="'short' returned")


async def test_restart_survives_failures(caplog: pytest.LogCaptureFixture) -> None:
    runs, third = 0, asyncio.Event()

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            third.set()
            await asyncio.Event().wait()
        raise OSError

    async with Supervisor(Random(1)) as tasks, asyncio.timeout(5):
        tasks.spawn("flaky", run, restart=Backoff(base_s=0.001, cap_s=0.002))
        await third.wait()
    assert runs == 3
    assert caplog.text.count("task failed: name=flaky") == 2
