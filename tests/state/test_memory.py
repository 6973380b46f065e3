"""The state in memory: its clock, and what happens when it is full."""

import pytest

from gateway.core.errors import Unavailable
from gateway.state.inbox import Inbox
from gateway.state.memory import MemoryStateStore
from gateway.state.port import Newest


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def candidate(key: str, ts: int = 1, value: bytes = b"x") -> Newest:
    return Newest(key, ts, -1, ts, value)


async def test_values_live_as_long_as_they_were_given() -> None:
    clock = Clock()
    store = MemoryStateStore(clock=clock)
    await store.set("a", b"1", ttl_s=10)
    await store.put_newest("g", [candidate("r", 5)], ttl_s=10)
    clock.now += 9.99
    assert await store.get("a") == b"1"
    assert await store.newest("g") == {"r": b"x"}
    clock.now += 0.01
    assert await store.get("a") is None
    assert await store.newest("g") == {}
    assert await store.compare_and_set("a", None, b"2", ttl_s=1)
    assert list(await store.put_newest("g", [candidate("r", 1)], ttl_s=10)) == [True]
    assert store.figures()["keys"] == 2


async def test_full_of_keys_it_says_so_and_keeps_what_it_has() -> None:
    clock = Clock()
    store = MemoryStateStore(clock=clock, most_keys=3)
    await store.set("a", b"1", ttl_s=10)
    await store.put_newest("g", [candidate("r"), candidate("s")], ttl_s=100)
    for call in (
        store.set("b", b"1"),
        store.compare_and_set("b", None, b"1"),
        store.put_newest("g", [candidate("t")], ttl_s=1),
        store.put_newest("h", [candidate("r")], ttl_s=1),
    ):
        with pytest.raises(Unavailable, match="full: 3 keys"):
            await call
    await store.set("a", b"2", ttl_s=10)  # what is there may change
    assert list(await store.put_newest("g", [candidate("r", 2)], ttl_s=100)) == [True]
    assert store.figures()["refused"] == 4
    clock.now += 10
    await store.set("b", b"1")  # in the place of what expired
    assert store.figures()["keys"] == 3
    assert await store.delete("b")
    await store.set("c", b"1")


async def test_full_of_bytes_it_says_so() -> None:
    clock = Clock()
    store = MemoryStateStore(clock=clock, most_bytes=100)
    await store.set("a", b"x" * 60)
    await store.set("b", b"x" * 30, ttl_s=10)
    with pytest.raises(Unavailable, match="100 bytes"):
        await store.set("c", b"x" * 11)
    with pytest.raises(Unavailable):
        await store.set("a", b"x" * 71)
    await store.set("a", b"x" * 70)
    await store.set("a", b"x" * 10)
    assert store.figures()["bytes"] == 40
    clock.now += 10
    await store.set("c", b"x" * 90)
    assert store.figures()["bytes"] == 100


async def test_what_expired_does_not_pile_up() -> None:
    clock = Clock()
    store = MemoryStateStore(clock=clock)
    for n in range(50_000):
        clock.now += 1
        await store.set(f"k{n}", b"1", ttl_s=10)
        await store.put_newest("g", [candidate(f"r{n}")], ttl_s=10)
    assert store.figures()["keys"] < 5_000
    assert len(await store.newest("g")) == 10


async def test_an_inbox_drops_the_oldest_above_its_limits_and_counts() -> None:
    inbox = Inbox(messages=3, size=10)
    for n in range(5):
        inbox.put(str(n).encode())
    assert list(await inbox.read()) == []
    assert list(await inbox.read()) == [b"2", b"3", b"4"]
    inbox.put(b"x" * 9)
    inbox.put(b"yy")
    inbox.put(b"z" * 11)  # alone above the limit, but the newest
    assert inbox.dropped == 4
    assert list(await inbox.read()) == []
    assert list(await inbox.read()) == [b"z" * 11]
