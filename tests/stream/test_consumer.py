"""The way in against a real Kafka: what is read, where reading begins, what is committed."""

import asyncio
import os
import time

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from gateway.core.kinds import Kind
from tests.faults.proxy import Proxy
from tests.services.kafka import Kafka
from tests.stream.consumer_rig import (
    LABELS,
    PARTITIONS,
    PATIENCE_S,
    Put,
    committed,
    config,
    in_order,
    poses,
    put,
    reader_tasks,
    reading,
    topics,
    until,
)

HOUR_MS = 3_600_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def test_every_kind_but_dead_letters_comes_with_its_headers(kafka: Kafka) -> None:
    made = config(kafka.servers)
    await topics(kafka, made)
    headers = (("site", "home"), ("rts", "1763000000000"), ("box", "b"), ("seq", "9"))
    await put(kafka, made, [Put(label, "r1", label.encode(), headers) for label in LABELS])
    async with reading(made) as reader:
        await reader.until(lambda it: len(it.records) >= 5)
        kinds = {each.kind: each for each in reader.records}
        assert set(kinds) == {Kind.POSE, Kind.SENSOR, Kind.STATE, Kind.EVENT, Kind.CANARY}
        assert {each.payload.decode() for each in reader.records} == {*LABELS} - {"dead-letter"}
        pose = kinds[Kind.POSE]
        assert (pose.robot, pose.site, pose.box, pose.rts) == ("r1", "home", "b", 1763000000000)
        assert pose.place.startswith(f"{made.prefix}.pose[")
        assert pose.place.endswith("]@0")
        status = reader.consumer.status()
        assert status.connected
        assert f"{5 * PARTITIONS} partitions" in status.detail


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_is_read_in_order(kafka: Kafka, codec: str) -> None:
    made = config(kafka.servers)
    await topics(kafka, made)
    await put(kafka, made, poses(2_500), codec)
    async with reading(made) as reader:
        await reader.has(range(2_500))
        assert in_order(reader.records)


async def test_records_of_third_parties_come_as_they_are(kafka: Kafka) -> None:
    made = config(kafka.servers)
    await topics(kafka, made)
    strange = [
        Put("pose", None, None),
        Put("pose", b"\xff\xfe", b"\x00"),
        Put("event", "", b""),
        Put("state", "r" * 500, b"{}", [("site", None)]),
        Put("sensor", "r1", b"{}", [("rts", "soon"), ("rts", "17")]),
    ]
    before = now_ms()
    await put(kafka, made, strange)
    async with reading(made) as reader:
        await reader.until(lambda it: len(it.records) >= len(strange))
        found = {(each.kind, each.robot, each.payload) for each in reader.records}
        assert found == {
            (Kind.POSE, "", b""),
            (Kind.POSE, "\ufffd\ufffd", b"\x00"),
            (Kind.EVENT, "", b""),
            (Kind.STATE, "r" * 500, b"{}"),
            (Kind.SENSOR, "r1", b"{}"),
        }
        times = {each.kind: each.rts for each in reader.records}
        assert times.pop(Kind.SENSOR) == 17
        assert all(before - 1_000 <= rts <= now_ms() for rts in times.values())


async def test_reading_goes_on_after_what_was_committed(kafka: Kafka) -> None:
    made = config(kafka.servers)
    await topics(kafka, made)
    async with reading(made) as reader:
        await reader.partitions(5 * PARTITIONS)
        await put(kafka, made, poses(100))
        await reader.has(range(100))
        await put(kafka, made, poses(50, start=100))
        await reader.has(range(100, 150), commit=False)
    async with reading(made) as reader:
        await put(kafka, made, poses(1, start=150))
        await reader.has(range(100, 151), commit=False)
        assert min(reader.values) == 100


async def test_offsets_are_committed_soon_and_only_behind_what_is_safe(kafka: Kafka) -> None:
    made = config(kafka.servers)
    await topics(kafka, made)
    await put(kafka, made, poses(100))
    async with reading(made) as reader:
        await reader.has(range(100), commit=False)
        assert await committed(kafka, made) == 0
        await reader.consumer.commit()
        async with asyncio.timeout(PATIENCE_S):
            while (at := await committed(kafka, made)) < 100:  # noqa: ASYNC110 - far away
                await asyncio.sleep(0.05)
        assert at == 100


async def test_a_new_group_begins_ten_minutes_back(kafka: Kafka) -> None:
    made = config(kafka.servers)
    await topics(kafka, made)
    old = [each._replace(ms=now_ms() - HOUR_MS) for each in poses(200)]
    await put(kafka, made, old)
    recent = [each._replace(ms=now_ms() - 60_000) for each in poses(50, start=200)]
    await put(kafka, made, recent)
    async with reading(made) as reader:
        await reader.has(range(200, 250))
        assert set(reader.values) == set(range(200, 250))


async def test_a_new_group_misses_nothing_from_its_first_moment_on(kafka: Kafka) -> None:
    made = config(kafka.servers)
    await topics(kafka, made)
    async with reading(made) as reader:  # nothing is there yet, and it never reads anything
        await reader.partitions(5 * PARTITIONS)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await reader.consumer.read()
    old = [each._replace(ms=now_ms() - HOUR_MS) for each in poses(30)]
    await put(kafka, made, old)  # as a backlog brings them
    async with reading(made) as reader:
        await reader.has(range(30))


async def test_topics_that_are_made_later_are_found(kafka: Kafka) -> None:
    made = config(kafka.servers)
    async with reading(made) as reader:
        await until(lambda: f"no topic {made.prefix}.canary" in reader.consumer.status().detail)
        names = await asyncio.to_thread(_topics, kafka)
        assert not [name for name in names if name.startswith(made.prefix)]  # asking makes none
        await topics(kafka, made)
        await put(kafka, made, poses(10))
        await reader.has(range(10))


async def test_a_topic_that_is_made_again_is_read_from_its_beginning(kafka: Kafka) -> None:
    made = config(kafka.servers)
    await topics(kafka, made)
    async with reading(made) as reader:
        await put(kafka, made, poses(300))
        await reader.has(range(300))
        await asyncio.to_thread(_delete, kafka, f"{made.prefix}.pose")
        await topics(kafka, made, ["pose"])
        old = [each._replace(ms=now_ms() - HOUR_MS) for each in poses(20, start=300)]
        await put(kafka, made, old)
        await reader.has(range(300, 320))
        await put(kafka, made, poses(20, start=320))
        await reader.has(range(320, 340))


async def test_offsets_that_retention_removed_are_counted_and_reading_goes_on(
    kafka: Kafka,
) -> None:
    made = config(kafka.servers)
    await topics(kafka, made, partitions=1)
    async with reading(made) as reader:
        await put(kafka, made, poses(10))
        await reader.has(range(10))
    await put(kafka, made, poses(90, start=10))
    await asyncio.to_thread(_remove_before, kafka, f"{made.prefix}.pose", 60)
    async with reading(made) as reader:
        await reader.has(range(60, 100))
        assert min(reader.values) == 60
        assert reader.consumer.figures()["consumer_lost_to_retention"] == 50


async def test_two_boxes_share_and_a_join_in_the_middle_loses_nothing(kafka: Kafka) -> None:
    made = config(kafka.servers)
    await topics(kafka, made)
    half, count = 1_500, 3_000
    async with reading(made, box="a") as first:
        await first.partitions(5 * PARTITIONS)
        await put(kafka, made, poses(half))
        await first.has(range(half), commit=False)
        async with reading(made, box="b") as second:
            for reader in (first, second):
                await until(lambda it=reader: 0 < it.partitions_now < 5 * PARTITIONS)  # type: ignore[misc]
            await first.consumer.commit()  # of what was read before the join: not ours any more
            async with reader_tasks(first, second):
                await put(kafka, made, poses(half, start=half))
                await until(lambda: {*first.values, *second.values} >= {*range(count)})
                theirs = {each.source for each in second.records}
                moved = {int(each.payload) for each in first.records if each.source in theirs}
                await until(lambda: {*second.values} >= moved)
            assert moved & {*range(half)}
            assert in_order(first.records)
            assert in_order(second.records)
        await first.partitions(5 * PARTITIONS)  # b said good-bye
        await put(kafka, made, poses(100, start=count))
        await first.has(range(count, count + 100))


async def test_a_consumer_that_is_not_read_takes_no_more_from_the_broker(
    kafka: Kafka, kafka_proxy: Proxy
) -> None:
    made = config(kafka.proxied_servers)
    await topics(kafka, made, partitions=1)
    noise = [Put("pose", "r1", os.urandom(50_000)) for _ in range(400)]  # 20 MB
    await put(kafka, made, noise, "none")
    before = kafka_proxy.counts.down
    async with reading(made) as reader:
        reader.records += await reader.consumer.read()
        await asyncio.sleep(2)  # in which it could take all of it
        assert 0 < len(reader.records) < 40
        assert kafka_proxy.counts.down - before < 4 * 2**20
        assert reader.consumer.figures()["consumer_behind_records"] > 300
        await reader.until(lambda it: len(it.records) >= 400)


def _topics(broker: Kafka) -> list[str]:
    return list(AdminClient({"bootstrap.servers": broker.servers}).list_topics(timeout=20).topics)


def _delete(broker: Kafka, topic: str) -> None:
    client = AdminClient({"bootstrap.servers": broker.servers})
    client.delete_topics([topic], operation_timeout=30)[topic].result(30)
    deadline = time.monotonic() + 30
    while topic in client.list_topics(timeout=20).topics:
        assert time.monotonic() < deadline, "the topic does not go"
        time.sleep(0.05)


def _remove_before(broker: Kafka, topic: str, offset: int) -> None:
    client = AdminClient({"bootstrap.servers": broker.servers})
    place = TopicPartition(topic, 0, offset)
    for removed in client.delete_records([place]).values():
        removed.result(30)
