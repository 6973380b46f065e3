"""Redis is killed, stands still, and is swallowed by the network: the state heals by itself."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.config.model import RedisState
from gateway.core.errors import Unavailable
from gateway.state.open import open_state
from gateway.state.port import Newest, StateStore
from tests.faults.proxy import Proxy
from tests.services.redis import Redis
from tests.state.waiting import answers, heard, marked, until

TIMEOUT_S = 1.0
SLACK_S = 15.0  # what a loaded machine may add to a limit


@pytest.fixture
def proxy(own_redis: Redis) -> Iterator[Proxy]:
    with Proxy(target_port=own_redis.port) as between:
        yield between


@pytest.fixture
async def store(proxy: Proxy) -> AsyncIterator[StateStore]:
    config = RedisState(url=f"redis://{proxy.address}/0", timeout_s=TIMEOUT_S, connections=4)
    async with open_state(config) as opened:
        await answers(opened)
        yield opened


async def fails(store: StateStore) -> str:
    """Return why a call fails; it may take the timeout, not more."""
    started = time.monotonic()
    with pytest.raises(Unavailable) as failure:
        await store.get("a")
    assert time.monotonic() - started < TIMEOUT_S + SLACK_S
    assert failure.value.dependency == "state"
    return failure.value.detail


async def test_killed_and_restarted_it_forgets_scripts_and_we_do_not(
    store: StateStore, own_redis: Redis
) -> None:
    async with store.subscribe("c") as subscription:
        await marked(subscription)
        assert await store.compare_and_set("a", None, b"1")
        await store.put_newest("g", [Newest("r", 1, 1, 1, b"1")], ttl_s=300)
        await store.publish("c", b"before")
        assert await heard(subscription, 1) == [b"before"]
        own_redis.kill()
        await fails(store)
        await until(lambda: not store.status().connected)
        await asyncio.to_thread(own_redis.start)
        await answers(store)
        assert await marked(subscription) == []
        assert await store.compare_and_set("a", b"1", b"2")
        stored = await store.put_newest(
            "g", [Newest("r", 1, 1, 1, b"1"), Newest("r", 2, 1, 2, b"2")], ttl_s=300
        )
        assert list(stored) == [False, True]
        assert dict(await store.newest("g")) == {"r": b"2"}
        await store.publish("c", b"after")
        assert await heard(subscription, 1) == [b"after"]
        await until(lambda: store.status().connected)


async def test_killed_in_the_middle_of_everything(store: StateStore, own_redis: Redis) -> None:
    stop = asyncio.Event()
    stored, failed = 0, 0

    async def work(number: int) -> None:
        nonlocal stored, failed
        turn = 0
        while not stop.is_set():
            turn += 1
            value = f"{number}.{turn}".encode()
            try:
                await store.put_newest(f"g{number}", [Newest("r", turn, 0, turn, value)], ttl_s=300)
                found = await store.newest(f"g{number}")
                assert found["r"] == value, f"{found} instead of {value!r}"
                await store.publish("c", value)
                stored += 1
            except Unavailable:
                failed += 1
                await asyncio.sleep(0.01)

    async with store.subscribe("c") as subscription, asyncio.TaskGroup() as group:
        await marked(subscription)
        for number in range(8):
            group.create_task(work(number))
        for _ in range(2):
            before = stored
            await until(lambda before=before: stored >= before + 50)  # type: ignore[misc]
            own_redis.kill()
            await until(lambda: not store.status().connected)
            await asyncio.to_thread(own_redis.start)
            await marked(subscription)
        before = stored
        await until(lambda: stored >= before + 50)
        stop.set()
    assert failed


async def test_a_frozen_redis_is_noticed_and_its_late_answers_are_nobodys(
    store: StateStore, own_redis: Redis
) -> None:
    for n in range(5):
        await store.set(f"k{n}", f"v{n}".encode())
    async with store.subscribe("c") as subscription:
        await marked(subscription)
        own_redis.freeze()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(5):
                    group.create_task(fails(store))
            await until(lambda: not store.status().connected)
            assert "in time" in store.status().detail
            started = time.monotonic()
            for _ in range(200):  # known to be down: nobody waits 200 s
                await fails(store)
            assert time.monotonic() - started < 100 * TIMEOUT_S
            await until(lambda: store.figures()["subscriptions_live"] == 0)
        finally:
            own_redis.thaw()
        await answers(store)
        for n in range(5):
            assert await store.get(f"k{n}") == f"v{n}".encode()
        assert await marked(subscription) == []
        await store.publish("c", b"after")
        assert await heard(subscription, 1) == [b"after"]


async def test_an_idle_link_that_is_swallowed_shows_in_the_status(
    store: StateStore, proxy: Proxy
) -> None:
    async with store.subscribe("c") as subscription:
        await marked(subscription)
        proxy.black_hole()
        await until(lambda: not store.status().connected)  # nobody asked for anything
        await until(lambda: store.figures()["subscriptions_live"] == 0)
        await fails(store)
        proxy.pass_()
        await answers(store)
        assert await marked(subscription) == []
        await store.publish("c", b"after")
        assert await heard(subscription, 1) == [b"after"]
        await until(lambda: store.status().connected)


async def test_a_connection_that_is_reset_is_replaced(store: StateStore, proxy: Proxy) -> None:
    for _ in range(3):
        proxy.reset()
        await answers(store)
        proxy.cut()
        await answers(store)
    assert store.figures()["connects"] >= 3


async def test_a_redis_that_was_never_there_is_found_when_it_comes(own_redis: Redis) -> None:
    own_redis.kill()
    config = RedisState(url=f"redis://127.0.0.1:{own_redis.port}/0", timeout_s=TIMEOUT_S)
    async with open_state(config) as store, store.subscribe("c") as subscription:
        assert not store.status().connected
        assert "refused" in await fails(store)
        await asyncio.to_thread(own_redis.start)
        await answers(store)
        assert await marked(subscription) == []
        await store.publish("c", b"1")
        assert await heard(subscription, 1) == [b"1"]


async def test_cancelled_under_delay_no_answer_reaches_another(
    store: StateStore, proxy: Proxy
) -> None:
    for n in range(10):
        await store.set(f"k{n}", f"v{n}".encode())
    proxy.delay(0.01)
    answered = 0

    async def look(n: int) -> None:
        nonlocal answered
        assert await store.get(f"k{n}") == f"v{n}".encode()
        answered += 1

    async with asyncio.TaskGroup() as group:
        for n in range(1_000):
            task = group.create_task(look(n % 10))
            asyncio.get_running_loop().call_later((n % 37) / 1000, task.cancel)
            if n % 8 == 7:
                await asyncio.sleep(0.003)
    proxy.pass_()
    for n in range(10):
        await look(n)
    assert answered >= 10
    connections = store.figures()["connections"]
    assert connections <= 4 + 1  # the configured ones, and the one for probes


async def test_calls_wait_for_a_connection_no_longer_than_the_timeout(
    store: StateStore, proxy: Proxy
) -> None:
    await answers(store)
    proxy.hold()
    async with asyncio.TaskGroup() as group:
        for _ in range(50):  # of 4 connections
            group.create_task(fails(store))
    proxy.pass_()
    await answers(store)
