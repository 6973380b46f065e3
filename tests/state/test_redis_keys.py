"""What stands in Redis: names, limits of life, an index that cleans itself, and a full Redis."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis as Client

from gateway.config.model import RedisState
from gateway.core.errors import Unavailable
from gateway.state.open import open_state
from gateway.state.port import Newest, StateStore
from tests.services.redis import Redis
from tests.state.waiting import answers, until, until_true


@pytest.fixture
async def client(own_redis: Redis) -> AsyncIterator[Client]:
    async with Client(port=own_redis.port) as opened:
        yield opened


@pytest.fixture
async def store(own_redis: Redis) -> AsyncIterator[StateStore]:
    config = RedisState(url=f"redis://127.0.0.1:{own_redis.port}/0", timeout_s=10.0)
    async with open_state(config) as opened:
        yield opened


async def every_key(client: Client) -> list[bytes]:
    keys: list[bytes] = await client.execute_command("KEYS", "*")  # type: ignore[no-untyped-call]
    return keys


def candidate(key: str, ts: int = 1, value: bytes = b"x") -> Newest:
    return Newest(key, ts, -1, ts, value)


async def test_every_key_has_the_prefix_and_every_value_its_limit(
    store: StateStore, client: Client
) -> None:
    await store.set("login.1", b"1", ttl_s=60)
    await store.set("site", b"1")
    await store.put_newest("pose", [candidate("r1"), candidate("r2")], ttl_s=60)
    keys = {str(key, "ascii"): await client.pttl(key) for key in await every_key(client)}
    assert set(keys) == {
        "smartair:key:login.1",
        "smartair:key:site",
        "smartair:robots:pose",
        "smartair:newest:pose:r1",
        "smartair:newest:pose:r2",
    }
    assert keys.pop("smartair:key:site") == -1
    assert all(0 < left <= 60_000 for left in keys.values())


async def test_the_index_lives_as_long_as_the_longest_value(
    store: StateStore, client: Client
) -> None:
    await store.put_newest("pose", [candidate("r1")], ttl_s=600)
    await store.put_newest("pose", [candidate("r2")], ttl_s=1)
    assert await client.pttl("smartair:robots:pose") > 500_000


async def test_robots_that_expired_leave_the_index(store: StateStore, client: Client) -> None:
    await store.put_newest("pose", [candidate(f"r{n}") for n in range(700)], ttl_s=0.1)
    await store.put_newest("pose", [candidate("stays")], ttl_s=300)

    async def read() -> bool:  # reading cleans all at once
        return len(await store.newest("pose")) == 1

    await until_true(read)
    assert await client.smembers("smartair:robots:pose") == {b"stays"}
    await store.put_newest("pose", [candidate(f"r{n}") for n in range(20)], ttl_s=0.1)
    turn = 1

    async def written() -> bool:  # and writing, a few at a time
        nonlocal turn
        turn += 1
        await store.put_newest("pose", [candidate("stays", turn)], ttl_s=300)
        return bool(await client.scard("smartair:robots:pose") == 1)

    await until_true(written)
    assert await store.newest("pose") == {"stays": b"x"}


async def test_an_index_that_was_lost_grows_again(store: StateStore, client: Client) -> None:
    await store.put_newest("pose", [candidate("r1", 5)], ttl_s=300)
    await client.delete("smartair:robots:pose")
    assert await store.newest("pose") == {}
    assert list(await store.put_newest("pose", [candidate("r1", 4)], ttl_s=300)) == [False]
    assert await store.newest("pose") == {"r1": b"x"}


async def test_scripts_that_redis_forgot_are_sent_again(store: StateStore, client: Client) -> None:
    await store.put_newest("pose", [candidate("r1", 1)], ttl_s=300)
    await client.script_flush()
    stored = await store.put_newest(
        "pose", [candidate(f"r{n}", 2) for n in range(1_200)], ttl_s=300
    )
    assert all(stored)
    await client.script_flush()
    assert await store.compare_and_set("a", None, b"1")
    assert len(await store.newest("pose")) == 1_200


async def test_a_call_with_many_is_one_round_trip_in_short_scripts(
    store: StateStore, client: Client
) -> None:
    await store.put_newest("pose", [candidate("r")], ttl_s=300)
    await client.config_resetstat()
    await store.put_newest("pose", [candidate(f"r{n}") for n in range(2_000)], ttl_s=300)
    calls = await client.info("commandstats")
    assert calls["cmdstat_evalsha"]["calls"] == 4


async def test_a_full_redis_is_unavailable_and_says_why(store: StateStore, client: Client) -> None:
    await answers(store)
    await store.set("kept", b"1")
    await client.config_set("maxmemory", 1)
    with pytest.raises(Unavailable, match="out of memory"):
        await store.set("a", b"1")
    with pytest.raises(Unavailable, match="out of memory"):
        await store.put_newest("g", [candidate("r")], ttl_s=300)
    with pytest.raises(Unavailable, match="out of memory"):
        await store.compare_and_set("a", None, b"x")
    assert await store.get("kept") == b"1"
    await client.config_set("maxmemory", 0)
    assert list(await store.put_newest("g", [candidate("r")], ttl_s=300)) == [True]
    await until(lambda: store.status().connected)


async def test_a_read_only_redis_is_unavailable(store: StateStore, client: Client) -> None:
    await answers(store)
    await client.replicaof("127.0.0.1", "1")
    with pytest.raises(Unavailable, match="replica"):
        await store.set("a", b"1")
    with pytest.raises(Unavailable, match="replica"):
        await store.put_newest("g", [candidate("r")], ttl_s=300)
    await client.replicaof("NO", "ONE")

    async def written() -> bool:
        await store.set("a", b"1")
        return True

    await until_true(written)


async def test_what_the_user_of_the_state_raises_comes_out_as_it_is(redis_server: Redis) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with open_state(RedisState(url=redis_server.url)) as store, store.subscribe("c"):
            raise LookupError("mine")
