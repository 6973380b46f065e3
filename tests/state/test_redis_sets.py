"""Several Redis servers: Sentinels that fail over, a cluster whose parts move and die."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis as Client
from redis.crc import key_slot
from redis.exceptions import ResponseError

from gateway.config.model import RedisState
from gateway.core.errors import Unavailable
from gateway.state.open import open_state
from gateway.state.port import Newest, StateStore
from tests.services import need
from tests.services.redis import Redis
from tests.services.redis_cluster import RedisCluster
from tests.services.redis_sentinel import RedisSentinel
from tests.state.waiting import answers, heard, marked, until, until_true

ROBOTS = [f"robot-{n}" for n in range(300)]


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[RedisSentinel]:
    need("redis-server")
    with RedisSentinel(tmp_path / "servers", down_ms=300) as servers:
        yield servers


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    need("redis-server")
    with RedisCluster(tmp_path / "servers") as servers:
        yield servers


async def ask(client: Client, *command: str | bytes | int) -> Any:
    return await client.execute_command(*command)  # type: ignore[no-untyped-call]


def poses(ts: int) -> list[Newest]:
    return [Newest(robot, ts, 0, ts, f"{robot}@{ts}".encode()) for robot in ROBOTS]


async def writes(store: StateStore, ts: int) -> None:
    """Write a pose of every robot, which may take some attempts, and read them all."""

    async def written() -> bool:
        await store.put_newest("pose", poses(ts), ttl_s=300)
        return True

    await until_true(written)
    assert dict(await store.newest("pose")) == {pose.key: pose.value for pose in poses(ts)}


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_the_state_follows_a_failover(sentinel: RedisSentinel, how: str) -> None:
    config = RedisState(url=sentinel.url, timeout_s=1.0)
    async with open_state(config) as store, store.subscribe("c") as subscription:
        await writes(store, 1)
        await marked(subscription)
        old = await asyncio.to_thread(sentinel.master)
        other = next(one for one in sentinel.instances if one is not old)
        if how == "killed":
            old.kill()
        else:
            old.freeze()
        await asyncio.to_thread(sentinel.wait_for_master, other)
        await writes(store, 2)
        await until(lambda: store.figures()["subscriptions_live"] == 1)
        await marked(subscription)
        await store.publish("c", b"after")
        assert await heard(subscription, 1) == [b"after"]
        if how == "frozen":  # it thinks that it is the master until it is told
            old.thaw()
            await writes(store, 3)
        await until(lambda: store.status().connected)


async def test_a_master_that_became_a_replica_is_left(sentinel: RedisSentinel) -> None:
    config = RedisState(url=sentinel.url, timeout_s=1.0)
    async with open_state(config) as store:
        await writes(store, 1)
        old = await asyncio.to_thread(sentinel.master)
        other = next(one for one in sentinel.instances if one is not old)
        async with Client(port=sentinel.sentinels[0].port) as client:

            async def begun() -> bool:
                try:
                    await ask(client, "SENTINEL", "FAILOVER", sentinel.service)
                except ResponseError:  # it has not heard of the replica yet
                    return False
                return True

            await until_true(begun)
        await asyncio.to_thread(sentinel.wait_for_master, other)
        await writes(store, 2)


async def test_without_sentinels_the_master_still_serves(sentinel: RedisSentinel) -> None:
    config = RedisState(url=sentinel.url, timeout_s=1.0)
    async with open_state(config) as store:
        await writes(store, 1)
        sentinel.sentinels[0].kill()
        store.sever(True)
        store.sever(False)
        await writes(store, 2)
        await until(lambda: store.status().connected)


async def test_a_service_that_sentinels_do_not_know_is_told(sentinel: RedisSentinel) -> None:
    url = sentinel.url.replace("/edge/", "/other/")
    async with open_state(RedisState(url=url, timeout_s=1.0)) as store:
        await until(lambda: "does not know the service" in store.status().detail)
        with pytest.raises(Unavailable):
            await store.get("a")


async def test_a_node_of_a_cluster_dies_and_comes_back(cluster: RedisCluster) -> None:
    config = RedisState(url=cluster.url, timeout_s=1.0)
    async with open_state(config) as store, store.subscribe("c") as subscription:
        await writes(store, 1)
        await marked(subscription)
        for node in cluster.nodes[:2]:
            node.kill()
            await until(lambda: not store.status().connected)
            with pytest.raises(Unavailable):
                await store.put_newest("pose", poses(2), ttl_s=300)
            await asyncio.to_thread(node.start)
        await until(lambda: store.status().connected)
        await writes(store, 3)
        await until(lambda: store.figures()["subscriptions_live"] == 1)
        await store.publish("c", b"after")
        assert (await heard(subscription, 1))[-1:] == [b"after"]


async def test_slots_that_move_are_followed(cluster: RedisCluster) -> None:
    source, target, _ = cluster.nodes
    key = next(f"k{n}" for n in range(10_000) if key_slot(f"smartair:key:k{n}".encode()) < 5_000)
    slot = key_slot(f"smartair:key:{key}".encode())
    config = RedisState(url=cluster.url, timeout_s=2.0)
    async with (
        open_state(config) as store,
        Client(port=source.port) as one,
        Client(port=target.port) as two,
    ):
        await answers(store)
        await store.set(key, b"1")
        ids: Any = [await ask(client, "CLUSTER", "MYID") for client in (one, two)]
        await ask(two, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        await ask(one, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        await ask(one, "MIGRATE", "127.0.0.1", target.port, f"smartair:key:{key}", 0, 5_000)
        assert await store.get(key) == b"1"  # ASK
        assert await store.compare_and_set(key, b"1", b"2", ttl_s=300)
        for client in (two, one):
            await ask(client, "CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        assert await store.get(key) == b"2"  # MOVED
        assert await store.compare_and_set(key, b"2", b"3")
        assert await store.get(key) == b"3"


async def test_a_server_that_is_no_cluster_is_told(redis_server: Redis) -> None:
    url = f"redis+cluster://127.0.0.1:{redis_server.port}"
    async with open_state(RedisState(url=url, timeout_s=1.0)) as store:
        await until(lambda: "not part of a cluster" in store.status().detail)
