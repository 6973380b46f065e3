"""The way in while the broker is killed, stands still, swallows, or was never there."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka.admin import AdminClient

from gateway.config.model import KafkaStream
from gateway.stream.kafka.consumer_member import SESSION_S
from gateway.stream.port import Arrived
from tests.faults.proxy import Proxy
from tests.services.kafka import Kafka
from tests.services.process import free_port
from tests.stream.consumer_rig import (
    PARTITIONS,
    PATIENCE_S,
    Reader,
    config,
    in_order,
    poses,
    put,
    reader_tasks,
    reading,
    topics,
    until,
)


async def _disconnected(reader: Reader) -> None:
    await until(lambda: not reader.consumer.status().connected)


async def test_a_broker_that_comes_late_is_killed_and_stands_still(own_kafka: Kafka) -> None:
    own_kafka.kill()
    made = config(own_kafka.servers)
    async with reading(made) as reader:
        await until(lambda: "cannot be used" in reader.consumer.status().detail)
        assert not reader.consumer.status().connected
        await asyncio.to_thread(own_kafka.start)
        await topics(own_kafka, made)
        async with reader_tasks(reader):
            await put(own_kafka, made, poses(100))
            await until(lambda: {*reader.values} >= {*range(100)})

            own_kafka.kill()
            await _disconnected(reader)
            await asyncio.to_thread(own_kafka.start)
            await put(own_kafka, made, poses(100, start=100))
            await until(lambda: {*reader.values} >= {*range(200)})

            own_kafka.freeze()
            try:
                await _disconnected(reader)
                if os.environ.get("EDGE_LONG") == "1":
                    await asyncio.sleep(SESSION_S)  # the group forgets us
            finally:
                own_kafka.thaw()
            await put(own_kafka, made, poses(100, start=200))
            await until(lambda: {*reader.values} >= {*range(300)})
        assert in_order(reader.records)
        assert reader.consumer.status().connected


async def test_a_link_that_swallows_is_noticed_and_costs_no_rebalance(
    kafka: Kafka, kafka_proxy: Proxy
) -> None:
    made = config(kafka.proxied_servers)
    await topics(kafka, made)
    async with reading(made) as reader, reader_tasks(reader):
        await put(kafka, made, poses(50))
        await until(lambda: {*reader.values} >= {*range(50)})
        before = await asyncio.to_thread(_members, kafka, made.prefix)
        kafka_proxy.black_hole()
        await put(kafka, made, poses(50, start=50))
        await _disconnected(reader)
        kafka_proxy.pass_()
        await until(lambda: {*reader.values} >= {*range(100)})
        assert len(before) == 1
        assert await asyncio.to_thread(_members, kafka, made.prefix) == before


async def test_connections_that_break_again_and_again_lose_nothing(
    kafka: Kafka, kafka_proxy: Proxy
) -> None:
    made = config(kafka.proxied_servers)
    await topics(kafka, made)
    async with reading(made) as reader, reader_tasks(reader):
        for start in range(0, 500, 50):
            await put(kafka, made, poses(50, start=start))
            if start % 100:
                kafka_proxy.reset()
            else:
                kafka_proxy.cut()
        await until(lambda: {*reader.values} >= {*range(500)})
        assert in_order(reader.records)


async def test_a_drill_cuts_off_and_heals(kafka: Kafka) -> None:
    made = config(kafka.servers)
    await topics(kafka, made)
    async with reading(made) as reader, reader_tasks(reader):
        await put(kafka, made, poses(50))
        await until(lambda: {*reader.values} >= {*range(50)})
        reader.consumer.sever(True)
        await until(lambda: "drill" in reader.consumer.status().detail)
        assert not reader.consumer.status().connected
        await put(kafka, made, poses(50, start=50))
        count = len(reader.records)
        await asyncio.sleep(1)
        assert len(reader.records) == count
        reader.consumer.sever(False)
        await until(lambda: {*reader.values} >= {*range(100)})


async def test_a_drill_may_begin_before_there_is_a_broker() -> None:
    made = config(f"127.0.0.1:{free_port()}")
    async with reading(made) as reader:
        reader.consumer.sever(True)
        await until(lambda: "drill" in reader.consumer.status().detail)
        reader.consumer.sever(False)
        await until(lambda: "cannot be used" in reader.consumer.status().detail)


async def test_damage_on_the_brokers_disk_is_passed_over_and_counted(own_kafka: Kafka) -> None:
    made = config(own_kafka.servers)
    await topics(own_kafka, made, partitions=1)
    for start in (0, 10, 20):  # a batch each
        await put(own_kafka, made, poses(10, start=start, robots=1), "none")
    await asyncio.to_thread(own_kafka.stop)
    await asyncio.to_thread(_damage, own_kafka.folder / "log" / f"{made.prefix}.pose-0")
    await asyncio.to_thread(own_kafka.start)
    async with reading(made) as reader:
        await reader.has(range(20, 30))
        assert reader.values == [*range(10), *range(20, 30)]
        assert reader.consumer.figures()["consumer_damaged_batches"] == 1


async def test_a_box_that_is_cut_off_gives_its_partitions_to_the_others_and_gets_some_back(
    kafka: Kafka, kafka_proxy: Proxy
) -> None:
    made = config(kafka.servers)
    far = config(kafka.proxied_servers, prefix=made.prefix)
    await topics(kafka, made)
    async with (
        reading(made, box="a") as first,
        reading(far, box="b") as second,
        reader_tasks(first),
    ):
        for reader in (first, second):
            await until(lambda it=reader: 0 < it.partitions_now < 5 * PARTITIONS)  # type: ignore[misc]
        second.records += await _given(kafka, made, second)  # and never committed
        kafka_proxy.black_hole()
        await first.partitions(5 * PARTITIONS)
        await until(lambda: {*first.values} >= {*second.values})
        await second.consumer.commit()  # nothing that it may commit any more
        kafka_proxy.pass_()
        async with reader_tasks(second):
            await until(lambda: 0 < second.partitions_now < 5 * PARTITIONS)
            await put(kafka, made, poses(200, start=1_000))
            await until(lambda: {*first.values, *second.values} >= {*range(1_000, 1_200)})


async def _given(broker: Kafka, made: KafkaStream, reader: Reader) -> Sequence[Arrived]:
    """Return a first read of ``reader``, of some poses."""
    await put(broker, made, poses(200, robots=40))
    async with asyncio.timeout(PATIENCE_S):
        return await reader.consumer.read()


def _members(broker: Kafka, group: str) -> list[str]:
    client = AdminClient({"bootstrap.servers": broker.servers})
    described = client.describe_consumer_groups([group])[group].result(PATIENCE_S)
    return [member.member_id for member in described.members]


def _damage(folder: Path) -> None:
    """Flip a bit of a value in the second batch of the first segment."""
    (segment,) = folder.glob("*.log")
    data = bytearray(segment.read_bytes())
    second = 12 + int.from_bytes(data[8:12], "big")
    third = second + 12 + int.from_bytes(data[second + 8 : second + 12], "big")
    data[third - 20] ^= 1
    segment.write_bytes(data)
