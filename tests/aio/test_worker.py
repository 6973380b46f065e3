import asyncio
import gc
import threading
import weakref
from functools import partial

import pytest

from gateway.aio.worker import open_worker
from gateway.core.errors import Unavailable


class Desk:
    """A resource that knows its thread."""

    def __init__(self) -> None:
        self.thread = threading.current_thread().name
        self.done: list[int] = []
        self.closed = threading.Event()

    def close(self) -> None:
        assert threading.current_thread().name == self.thread
        self.closed.set()


def _note(number: int, desk: Desk) -> None:
    desk.done.append(number)


async def test_calls_run_in_order_on_the_thread_of_their_resource() -> None:
    async with open_worker("desk", Desk, capacity=200, deadline_s=5) as desk:
        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(desk.call(partial(_note, number)))
        seen = await desk.call(lambda d: d)
        assert seen.done == list(range(100))
        assert seen.thread == "desk-0" != threading.current_thread().name
    assert seen.closed.is_set()


async def test_a_failure_reaches_its_caller_and_nobody_else() -> None:
    async with open_worker("desk", Desk, capacity=2, deadline_s=5) as desk:
        with pytest.raises(ZeroDivisionError):
            await desk.call(lambda _: 1 // 0)
        assert await desk.call(lambda _: 7) == 7


async def test_over_capacity_is_refused_and_heals() -> None:
    gate = threading.Event()
    async with open_worker("desk", Desk, capacity=2, deadline_s=5) as desk:
        async with asyncio.TaskGroup() as group:
            group.create_task(desk.call(lambda _: gate.wait(5)))
            waiting = group.create_task(desk.call(lambda _: 1))
            await asyncio.sleep(0)
            with pytest.raises(Unavailable) as caught:
                await desk.call(lambda _: 2)
            gate.set()
        assert (await waiting, caught.value.dependency) == (1, "desk")
        assert await desk.call(lambda _: 3) == 3


async def test_no_answer_within_the_deadline_is_unavailable() -> None:
    gate = threading.Event()
    async with open_worker("desk", Desk, capacity=2, deadline_s=0.05) as desk:
        with pytest.raises(Unavailable):
            await desk.call(lambda _: gate.wait(5))
        gate.set()


async def test_a_call_given_up_before_it_began_never_runs() -> None:
    gate, ran = threading.Event(), threading.Event()
    async with open_worker("desk", Desk, capacity=3, deadline_s=5) as desk:
        async with asyncio.TaskGroup() as group:
            group.create_task(desk.call(lambda _: gate.wait(5)))
            given_up = group.create_task(desk.call(lambda _: ran.set()))
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.wait([given_up])
            gate.set()
        await desk.call(lambda _: None)
        assert not ran.is_set()


async def test_several_threads_run_side_by_side() -> None:
    meet = threading.Barrier(2)  # passes only if two are inside at the same time
    async with (
        open_worker("desk", Desk, threads=2, capacity=4, deadline_s=5) as desk,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(desk.call(lambda _: meet.wait(5)))
        group.create_task(desk.call(lambda _: meet.wait(5)))


async def test_what_a_failed_call_carried_is_let_go() -> None:
    class Cargo:
        pass

    def fail(cargo: Cargo, _: Desk) -> None:
        raise ZeroDivisionError(str(cargo))

    cargo = Cargo()
    watch = weakref.ref(cargo)
    async with open_worker("desk", Desk, capacity=2, deadline_s=5) as desk:
        with pytest.raises(ZeroDivisionError):
            await desk.call(partial(fail, cargo))
        await desk.call(lambda _: None)  # the thread has gone on
        del cargo
        gc.collect()
        assert watch() is None


async def test_a_thread_that_hangs_does_not_hold_up_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = threading.Event()
    async with open_worker("desk", Desk, capacity=2, deadline_s=0.05) as desk:
        with pytest.raises(Unavailable):
            await desk.call(lambda _: gate.wait(5))
    assert "left behind: name=desk" in caplog.text
    gate.set()
