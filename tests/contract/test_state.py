"""What gateway.state.port promises, on every backend."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from gateway.config.model import MemoryState, RedisState
from gateway.core.errors import Unavailable
from gateway.state.open import open_state
from gateway.state.port import Newest, StateStore, Subscription
from tests.services import need
from tests.services.redis_cluster import RedisCluster
from tests.services.redis_sentinel import RedisSentinel
from tests.state.waiting import answers, heard, marked, until, until_true

T = 1_700_000_000_000
_numbers = itertools.count()


@pytest.fixture(scope="module")
def redis_sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisSentinel]:
    need("redis-server")
    with RedisSentinel(tmp_path_factory.mktemp("sentinel")) as servers:
        yield servers


@pytest.fixture(scope="module")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    need("redis-server")
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


@pytest.fixture(params=["memory", "redis", "sentinel", "cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[StateStore]:
    fixtures = {
        "redis": "redis_server",
        "sentinel": "redis_sentinel",
        "cluster": "redis_cluster",
    }
    config: MemoryState | RedisState = MemoryState()
    if name := fixtures.get(request.param):
        server = request.getfixturevalue(name)
        prefix = f"contract-{next(_numbers)}"
        config = RedisState(url=server.url, prefix=prefix, timeout_s=10.0)
    async with open_state(config) as opened:
        await answers(opened)
        yield opened


def newest(key: str, ts: int, seq: int = -1, *, rts: int = T, value: bytes = b"") -> Newest:
    return Newest(key, T + ts, seq, rts, value or f"{ts}.{seq}".encode())


async def test_nothing_is_there_until_it_is_set(store: StateStore) -> None:
    assert await store.get("a") is None
    await store.set("a", b"1")
    await store.set("b", b"2")
    await store.set("a", b"\x00\xff\r\n")
    assert await store.get("a") == b"\x00\xff\r\n"
    assert await store.get("b") == b"2"


async def test_an_empty_value_is_a_value(store: StateStore) -> None:
    await store.set("a", b"")
    assert await store.get("a") == b""
    assert not await store.compare_and_set("a", None, b"1")
    assert await store.compare_and_set("a", b"", b"1")


async def test_a_value_expires(store: StateStore) -> None:
    await store.set("a", b"1", ttl_s=0.2)
    await store.set("stays", b"1", ttl_s=300)

    async def gone() -> bool:
        return await store.get("a") is None

    await until_true(gone)
    assert await store.get("stays") == b"1"
    assert not await store.delete("a")
    assert await store.compare_and_set("a", None, b"2")


async def test_a_value_set_for_ever_forgets_an_earlier_limit(store: StateStore) -> None:
    await store.set("a", b"1", ttl_s=0.3)
    await store.set("a", b"2")
    await store.set("b", b"1", ttl_s=0.3)

    async def gone() -> bool:
        return await store.get("b") is None

    await until_true(gone)
    assert await store.get("a") == b"2"


async def test_delete_says_whether_there_was_something(store: StateStore) -> None:
    await store.set("a", b"1")
    assert await store.delete("a") is True
    assert await store.delete("a") is False
    assert await store.get("a") is None


async def test_compare_and_set_replaces_what_is_expected_only(store: StateStore) -> None:
    assert await store.compare_and_set("a", None, b"1") is True
    assert await store.compare_and_set("a", None, b"2") is False
    assert await store.compare_and_set("a", b"2", b"3") is False
    assert await store.get("a") == b"1"
    assert await store.compare_and_set("a", b"1", b"2") is True
    assert await store.compare_and_set("a", b"1", None) is False
    assert await store.compare_and_set("a", b"2", None) is True
    assert await store.get("a") is None
    assert await store.compare_and_set("a", None, None) is True


async def test_a_login_that_nobody_approves_expires(store: StateStore) -> None:
    assert await store.compare_and_set("login", None, b"pending", ttl_s=300)
    assert await store.compare_and_set("login", b"pending", b"approved", ttl_s=0.2)

    async def gone() -> bool:
        return await store.get("login") is None

    await until_true(gone)
    assert not await store.compare_and_set("login", b"approved", b"used")


async def test_one_of_many_wins_each_compare_and_set(store: StateStore) -> None:
    await store.set("count", b"0")

    async def add() -> None:
        while True:
            now = await store.get("count")
            assert now is not None
            if await store.compare_and_set("count", now, str(int(now) + 1).encode()):
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(30):
            group.create_task(add())
    assert await store.get("count") == b"30"


RULE: dict[str, tuple[Newest, Newest, bool]] = {
    "later": (newest("r", 0), newest("r", 1), True),
    "earlier": (newest("r", 1), newest("r", 0), False),
    "earlier with a higher seq": (newest("r", 1, 5), newest("r", 0, 6), False),
    "same time, higher seq": (newest("r", 0, 9), newest("r", 0, 10), True),
    "same time, lower seq": (newest("r", 0, 10), newest("r", 0, 9), False),
    "the same again": (newest("r", 0, 3), newest("r", 0, 3, value=b"again"), False),
    "the same again without seq": (newest("r", 0), newest("r", 0, value=b"again"), True),
    "a seq after none": (newest("r", 0), newest("r", 0, 0), True),
    "no seq after one": (newest("r", 0, 4), newest("r", 0), True),
    "largest seq": (newest("r", 0, 2**53 - 2), newest("r", 0, 2**53 - 1), True),
    "clock set back, 10 s later": (newest("r", 500_000), newest("r", 0, rts=T + 10_000), True),
    "clock set back, just before": (newest("r", 500_000), newest("r", 0, rts=T + 9_999), False),
}


@pytest.mark.parametrize("case", RULE)
async def test_the_newer_value_stays(store: StateStore, case: str) -> None:
    before, after, replaces = RULE[case]
    assert list(await store.put_newest("g", [before], ttl_s=300)) == [True]
    assert list(await store.put_newest("g", [after], ttl_s=300)) == [replaces]
    assert dict(await store.newest("g")) == {"r": (after if replaces else before).value}


async def test_candidates_of_one_call_meet_each_other_in_order(store: StateStore) -> None:
    candidates = [newest("r", 1), newest("other", 7), newest("r", 3), newest("r", 2)]
    stored = await store.put_newest("g", candidates, ttl_s=300)
    assert list(stored) == [True, True, True, False]
    assert dict(await store.newest("g")) == {"r": b"3.-1", "other": b"7.-1"}


async def test_many_are_stored_in_one_call_and_come_back(store: StateStore) -> None:
    keys = [f"robot-{n}" for n in range(1_700)]
    first = [newest(key, n % 7, value=bytes([n % 256]) * 9) for n, key in enumerate(keys)]
    assert all(await store.put_newest("many", first, ttl_s=300))
    second = [newest(key, n % 2 * 100, 1, value=b"second") for n, key in enumerate(keys)]
    stored = await store.put_newest("many", second, ttl_s=300)
    assert list(stored) == [n % 2 == 1 or n % 7 == 0 for n in range(1_700)]
    found = await store.newest("many")
    assert len(found) == 1_700
    for n, key in enumerate(keys):
        assert found[key] == (b"second" if stored[n] else first[n].value)


async def test_groups_and_keys_are_apart(store: StateStore) -> None:
    await store.put_newest("pose", [newest("r", 5, value=b"pose")], ttl_s=300)
    await store.put_newest("state", [newest("r", 1, value=b"state")], ttl_s=300)
    await store.set("pose", b"key")
    await store.set("r", b"key")
    assert dict(await store.newest("pose")) == {"r": b"pose"}
    assert dict(await store.newest("state")) == {"r": b"state"}
    assert dict(await store.newest("nothing")) == {}
    assert list(await store.put_newest("pose", [], ttl_s=300)) == []


async def test_newest_values_expire_one_by_one(store: StateStore) -> None:
    await store.put_newest("g", [newest("short", 5), newest("renewed", 5)], ttl_s=0.3)
    await store.put_newest("g", [newest("renewed", 6), newest("long", 5)], ttl_s=300)

    async def gone() -> bool:
        return "short" not in await store.newest("g")

    await until_true(gone)
    assert dict(await store.newest("g")) == {"renewed": b"6.-1", "long": b"5.-1"}
    assert list(await store.put_newest("g", [newest("short", 0)], ttl_s=300)) == [True]
    assert (await store.newest("g"))["short"] == b"0.-1"


async def test_subscribers_hear_what_is_published_from_now_on(store: StateStore) -> None:
    await store.publish("c", b"before")
    async with store.subscribe("c") as one, store.subscribe("c") as two:
        assert list(await one.read()) == []
        assert list(await two.read()) == []
        for n in range(50):
            await store.publish("c", str(n).encode())
            await store.publish("d", b"another channel")
        expected = [str(n).encode() for n in range(50)]
        assert await heard(one, 50) == expected
        assert await heard(two, 50) == expected
    await store.publish("c", b"nobody listens")


async def _read(subscription: Subscription) -> Sequence[bytes]:
    return await subscription.read()


async def test_a_cancelled_read_loses_nothing(store: StateStore) -> None:
    async with store.subscribe("c") as subscription:
        await marked(subscription)
        loop = asyncio.get_running_loop()
        messages: list[bytes] = []
        cancelled = 0
        for n in range(20):
            reading = loop.create_task(_read(subscription))
            await asyncio.sleep(0)
            publishing = loop.create_task(store.publish("c", str(n).encode()))
            for _ in range(n % 4):
                await asyncio.sleep(0)
            reading.cancel()
            try:
                messages += await reading
            except asyncio.CancelledError:
                cancelled += 1
            await publishing
        messages += await heard(subscription, 20 - len(messages))
        assert messages == [str(n).encode() for n in range(20)]
        assert cancelled


async def test_a_slow_reader_keeps_the_newest_and_is_told(store: StateStore) -> None:
    async with store.subscribe("c") as subscription:
        await marked(subscription)
        for n in range(40):  # MiB; above what a subscription holds
            await store.publish("c", n.to_bytes(1) * 2**20)
        await until(lambda: store.figures()["messages_dropped"] >= 8)
        assert list(await subscription.read()) == []
        kept: list[bytes] = []
        while not kept or kept[-1][0] != 39:
            kept += await heard(subscription, 1)
        assert [message[0] for message in kept] == list(range(40 - len(kept), 40))
        assert store.figures()["messages_dropped"] == 40 - len(kept)


async def test_cut_off_every_call_fails_and_then_it_heals(store: StateStore) -> None:
    await store.set("a", b"1")
    async with store.subscribe("c") as subscription:
        await marked(subscription)
        assert store.status().connected
        store.sever(True)
        assert not store.status().connected
        for call in (
            store.get("a"),
            store.set("a", b"2"),
            store.delete("a"),
            store.compare_and_set("a", None, b"2"),
            store.put_newest("g", [newest("r", 0)], ttl_s=300),
            store.newest("g"),
            store.publish("c", b"lost"),
            store.ping(),
        ):
            with pytest.raises(Unavailable) as failure:
                await call
            assert failure.value.dependency == "state"
        store.sever(False)
        await answers(store)
        assert await marked(subscription) == []
        await until(lambda: store.status().connected)
        assert await store.get("a") == b"1"
        await store.publish("c", b"found")
        assert await heard(subscription, 1) == [b"found"]


async def test_cancelled_look_ups_never_answer_somebody_else(store: StateStore) -> None:
    rng = random.Random(4)
    for n in range(20):
        await store.set(f"k{n}", f"v{n}".encode())
    await store.put_newest("g", [newest("r", 1, value=b"pose")], ttl_s=300)
    wrong: list[object] = []
    done = asyncio.Event()

    async def look(n: int) -> None:
        value: object = await store.get(f"k{n}")
        if value != f"v{n}".encode():
            wrong.append((n, value))

    async def look_many(n: int) -> None:
        found = dict(await store.newest("g"))
        if found != {"r": b"pose"}:
            wrong.append((n, found))

    async def load(n: int) -> None:
        while not done.is_set():
            await look(n % 20)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for n in range(6):
            group.create_task(load(n))
        for n in range(1_000):
            task = group.create_task(look_many(n) if n % 5 == 0 else look(n % 20))
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            if n % 3:
                await asyncio.sleep(rng.random() * 0.002)
            task.cancel()
        done.set()
    assert wrong == []
    assert await store.get("k7") == b"v7"


async def test_it_answers_a_ping_and_has_figures(store: StateStore) -> None:
    await store.ping()
    await until(lambda: store.status().connected)
    figures = store.figures()
    assert figures["connected"] == 1
    assert all(isinstance(value, int | float) for value in figures.values())


async def test_a_robot_may_have_any_name(store: StateStore) -> None:
    names: Sequence[str] = ["A.b-c_d:e", "0", "x" * 64]
    await store.put_newest("g.h-i_j:k", [newest(name, 1) for name in names], ttl_s=300)
    assert sorted(await store.newest("g.h-i_j:k")) == sorted(names)
