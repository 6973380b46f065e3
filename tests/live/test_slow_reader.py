"""One reader that reads 1 KB/s among fast ones at 20 Hz: it slows nobody and sees young poses."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from gateway.config.model import Live as LiveConfig
from tests.live.rig import Client, Rig, now_ms, pose, running

FAST = 50
HZ = 20
ROBOTS = 3
SECONDS = 10.0
SETTLED = 3.0


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as opened:
        yield opened


async def publish(rig: Rig, seconds: float) -> float:
    """Return how late this process itself was at worst: others use the machine too."""
    start, late_s = time.monotonic(), 0.0
    for i in range(int(seconds * HZ)):
        ts = now_ms()
        rig.live.publish([pose(f"r{n}", ts, i) for n in range(ROBOTS)])
        due = start + (i + 1) / HZ
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        late_s = max(late_s, time.monotonic() - due)
    return late_s


async def read_slowly(client: Client, ages: list[float], *, every: float) -> None:
    """Read 1 KB/s for ever; note the age of the newest pose of each message."""
    start = time.monotonic()
    while True:
        await asyncio.sleep(every)
        for message in await client.read(int(1_000 * every)):
            if message["poses"] and time.monotonic() - start > SETTLED:
                newest = max(item["ts"] for item in message["poses"])
                ages.append(time.time() - newest / 1_000)


async def read_all(client: Client, ages: list[float]) -> None:
    async for message in client.messages():
        if message["type"] == "pose":
            ages.append(time.time() - message["poses"][0]["ts"] / 1_000)


def at(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


@pytest.mark.parametrize(("mute", "receive_buffer"), [(False, 0), (False, 4_096), (True, 4_096)])
async def test_a_slow_reader_sees_young_poses_and_slows_nobody(
    rig: Rig, *, mute: bool, receive_buffer: int
) -> None:
    slow = await rig.connect(receive_buffer=receive_buffer)
    slow.mute = mute
    fast = [await rig.connect() for _ in range(FAST)]
    slow_ages: list[float] = []
    fast_ages: list[list[float]] = [[] for _ in fast]
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read_slowly(slow, slow_ages, every=0.1))]
        readers += [
            group.create_task(read_all(client, ages))
            for client, ages in zip(fast, fast_ages, strict=True)
        ]
        late_s = await publish(rig, SECONDS)
        for reader in readers:
            reader.cancel()
    if late_s < 0.05:  # else frames of one tick share a message
        assert all(len(ages) > SECONDS * HZ * 0.9 for ages in fast_ages)
    assert at([age for ages in fast_ages for age in ages], 0.99) < 0.1 + late_s
    assert len(slow_ages) > (SECONDS - SETTLED) / 2  # it hears something all the time
    assert at(slow_ages, 0.95) <= 1.0 + late_s
    assert max(slow_ages) <= 1.0 + 2 * late_s
    assert rig.live.figures()["slow_readers"] == 1
    assert rig.live.figures()["cut"] == 0
    for client in (slow, *fast):
        client.close()


async def test_a_reader_that_pauses_is_conflated_and_becomes_fast_again(rig: Rig) -> None:
    client = await rig.connect(receive_buffer=4_096)
    await client.until("snapshot")
    rig.live.publish([pose("r0", now_ms(), 0)])
    await client.until("pose")
    await publish(rig, 2.0)  # nobody reads: 20 Hz are 36 kB
    assert rig.live.figures()["slow_readers"] == 1
    ages: list[float] = []
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(read_all(client, ages))
        late_s = await publish(rig, 3.0)
        reader.cancel()
    assert rig.live.figures()["slow_readers"] == 0
    assert at(ages[-HZ:], 0.9) < 0.1 + late_s
    client.close()


async def test_memory_for_a_reader_that_does_not_read_is_bounded_and_it_is_cut() -> None:
    async with running(LiveConfig(write_s=2.0, ping_s=1.0)) as rig:
        client = await rig.connect(receive_buffer=2_048)
        await client.until("snapshot")
        rig.live.publish([pose("r0", now_ms(), 0)])
        await client.until("pose")
        links = rig.live._fanout.links()
        start = time.monotonic()
        while rig.live.readers:
            await publish(rig, 0.1)
            assert all(link.buffered < 65_536 for link in links)
            assert time.monotonic() - start < 15, "never cut"
        assert 1.5 < time.monotonic() - start < 15
        assert rig.live.figures()["cut"] == 1
        client.close()


async def test_a_mute_reader_that_reads_is_not_cut() -> None:
    async with running(LiveConfig(write_s=1.0, ping_s=0.5)) as rig:
        client = await rig.connect()
        client.mute = True
        await client.until("snapshot")
        for _ in range(8):  # pings while nothing else happens
            assert await client.read() == []
        assert client.pings >= 4
        assert rig.live.readers == 1
        client.close()


async def test_a_reader_that_stops_answering_is_cut() -> None:
    async with running(LiveConfig(write_s=1.0, ping_s=0.5)) as rig:
        client = await rig.connect()
        await client.until("snapshot")
        for _ in range(2):
            await client.read()
        client.mute = True
        async for _ in client.messages():
            pass
        assert client.closed_with == 4408
        client.close()
