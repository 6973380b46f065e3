"""What every stream keeps, and what it does with a real Kafka that other programs read too."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from confluent_kafka import Producer as OtherProducer

from gateway.config.model import KafkaStream, NoStream
from gateway.core import deadletter
from gateway.core.deadletter import DeadLetter
from gateway.core.errors import Unavailable
from gateway.core.kinds import Kind
from gateway.stream.open import open_stream
from gateway.stream.port import Message, Refusal, Stream
from tests.faults.proxy import Proxy
from tests.services.kafka import Kafka
from tests.stream.producer_rig import (
    BOX,
    RTS,
    SITE,
    Record,
    config,
    insist,
    message,
    read,
    until,
)


@asynccontextmanager
async def opened(settings: KafkaStream) -> AsyncIterator[Stream]:
    """Open a stream."""
    group = f"{settings.prefix}-test"
    async with open_stream(settings, site=SITE, box=BOX, group=group) as stream:
        assert stream is not None
        yield stream


def by_robot(records: list[Record]) -> dict[bytes, list[int]]:
    """Return each key's numbers, in the order of its partition."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for record in records:
        found[record.key].append(record.seq)
    return found


def firsts(numbers: list[int]) -> list[int]:
    """Return the numbers without repetitions, in the order in which they came first."""
    return list(dict.fromkeys(numbers))


async def test_none_is_no_stream() -> None:
    async with open_stream(NoStream(), site=SITE, box=BOX, group="g") as stream:
        assert stream is None


async def test_records_arrive_in_order_with_key_headers_and_payload(kafka: Kafka) -> None:
    settings = config(kafka.servers)
    kinds = (Kind.POSE, Kind.SENSOR, Kind.STATE, Kind.EVENT, Kind.CANARY)
    sent = [message(n, f"r{n % 20}", kinds[n % 5]) for n in range(2_000)]
    async with opened(settings) as stream:
        for at in range(0, len(sent), 300):
            assert not await stream.producer.send(sent[at : at + 300])
        assert stream.producer.status().connected
        assert stream.figures()["producer_records"] == 2_000
    for kind, name in zip(kinds, ("pose", "sensor", "state", "event", "canary"), strict=True):
        mine = [m for m in sent if m[1] == kind]
        records = await read(kafka.servers, f"{settings.prefix}.{name}", len(mine))
        assert len(records) == len(mine)
        payloads = {m[0]: m for m in mine}
        for record in records:
            _, _, robot, _, rts, payload = payloads[record.seq]
            assert (record.key, record.value) == (robot.encode(), payload)
            assert record.time == (1, rts)  # CreateTime
            assert record.headers == {
                "site": SITE, "box": BOX, "rts": str(rts), "seq": str(record.seq)
            }  # fmt: skip
        for numbers in by_robot(records).values():
            assert numbers == sorted(numbers)


async def test_dead_letters_say_where_and_why(kafka: Kafka) -> None:
    settings = config(kafka.servers)
    letter = DeadLetter("smartair/v1/home/r1/pose", "INVALID", "found 1 at $.x", b"\xff{")
    async with opened(settings) as stream:
        dead = message(1, kind=Kind.DEAD, payload=deadletter.encode(letter))
        assert not await stream.producer.send([dead, message(2)])
    (record,) = await read(kafka.servers, f"{settings.prefix}.dead-letter", 1)
    assert (record.key, record.value) == (b"r1", b"\xff{")
    assert record.headers == {
        "site": SITE, "box": BOX, "rts": str(RTS + 1), "topic": "smartair/v1/home/r1/pose",
        "reason": "INVALID", "detail": "found 1 at $.x",
    }  # fmt: skip


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4", "zstd"])
async def test_third_parties_read_every_compression(kafka: Kafka, compression: str) -> None:
    settings = config(kafka.servers, compression=compression)
    async with opened(settings) as stream:
        await stream.producer.send([message(n, f"r{n % 3}") for n in range(300)])
    topic = f"{settings.prefix}.pose"
    records = await read(kafka.servers, topic, 300)  # librdkafka
    assert sorted(record.seq for record in records) == list(range(300))
    shown = await asyncio.to_thread(
        kafka.tool, "org.apache.kafka.tools.consumer.ConsoleConsumer",
        "--bootstrap-server", kafka.servers, "--topic", topic, "--from-beginning",
        "--max-messages", "300", "--timeout-ms", "30000",
        "--property", "print.key=true", "--property", "print.headers=true",
    )  # fmt: skip
    lines = [line for line in shown.splitlines() if "seq:" in line]
    assert len(lines) == 300
    assert f"site:{SITE},box:{BOX},rts:" in lines[0]


async def test_partitions_are_those_that_other_clients_choose(kafka: Kafka) -> None:
    settings = config(kafka.servers, partitions=7)
    robots = [f"robot-{n}" for n in range(60)] + ["r", "ab", "abc", "로봇", "x" * 64]
    async with opened(settings) as stream:
        await stream.producer.send([message(n, robot) for n, robot in enumerate(robots)])
    topic = f"{settings.prefix}.pose"

    def others() -> None:
        other = OtherProducer({"bootstrap.servers": kafka.servers,
                               "partitioner": "murmur2_random"})  # fmt: skip
        for robot in robots:
            other.produce(topic, key=robot.encode(), value=b"librdkafka")
        assert other.flush(30) == 0
        lines = "".join(f"{robot}\tjava\n" for robot in robots)
        kafka.tool(
            "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", kafka.servers,
            "--topic", topic, "--property", "parse.key=true", stdin=lines,
        )  # fmt: skip

    await asyncio.to_thread(others)
    records = await read(kafka.servers, topic, 3 * len(robots))
    chosen: dict[bytes, list[int]] = defaultdict(list)
    for record in records:
        chosen[record.key].append(record.partition)
    assert set(chosen) == {robot.encode() for robot in robots}
    assert all(len(at) == 3 and len(set(at)) == 1 for at in chosen.values())
    assert len({at[0] for at in chosen.values()}) == 7


async def test_a_record_that_is_too_large_is_refused_alone(kafka: Kafka) -> None:
    settings = config(kafka.servers, create_topics=False, compression="none")
    names = [f"{settings.prefix}.{name}" for name in
             ("sensor", "state", "event", "dead-letter", "canary")]  # fmt: skip
    kafka.create_topics(names, partitions=1)
    topic = f"{settings.prefix}.pose"
    kafka.create_topics([topic], partitions=1, config={"max.message.bytes": "20000"})
    large = b'{"seq":57,"pad":"%s"}' % (b"x" * 30_000)
    sent: list[Message] = [message(n, f"r{n % 4}") for n in range(200)]
    sent[57] = message(57, "r1", payload=large)
    async with opened(settings) as stream:
        (refusal,) = await stream.producer.send(sent)
        assert isinstance(refusal, Refusal)
        assert (refusal.place, refusal.code) == (57, "TOO_LARGE")
        assert not await stream.producer.send([message(200, "r1")])
    records = await read(kafka.servers, topic, 200)
    assert sorted(record.seq for record in records) == [n for n in range(201) if n != 57]
    for numbers in by_robot(records).values():
        assert numbers == sorted(numbers)


async def test_our_own_limit_refuses_without_asking(kafka: Kafka) -> None:
    settings = config(kafka.servers, max_record_bytes="4KiB", batch_bytes="4KiB")
    large = b'{"pad":"%s"}' % (b"x" * 5_000)
    async with opened(settings) as stream:
        refusals = await stream.producer.send([message(0, payload=large), message(1)])
        assert [(r.place, r.code) for r in refusals] == [(0, "TOO_LARGE")]
        assert [r.place for r in await stream.producer.send([message(2, payload=large)])] == [0]
    assert [r.seq for r in await read(kafka.servers, f"{settings.prefix}.pose", 1)] == [1]


async def test_a_time_that_kafka_refuses_is_left_out(kafka: Kafka) -> None:
    settings = config(kafka.servers)
    ahead = RTS * 3  # a box whose clock is a century ahead
    async with opened(settings) as stream:
        wrong: list[Message] = [(n, Kind.POSE, "r1", 1, ahead, b'{"seq":%d}' % n) for n in (1, 2)]
        assert not await stream.producer.send(wrong)
        assert not await stream.producer.send([message(3)])
    records = await read(kafka.servers, f"{settings.prefix}.pose", 3)
    assert [record.seq for record in records] == [1, 2, 3]
    assert [record.time[1] for record in records] == [-1, -1, RTS + 3]
    assert records[0].headers["rts"] == str(ahead)


async def test_compacted_topics_and_those_with_their_own_clock_take_our_records(
    kafka: Kafka,
) -> None:
    settings = config(kafka.servers, create_topics=False)
    kafka.create_topics(
        [f"{settings.prefix}.{name}" for name in
         ("pose", "sensor", "state", "event", "dead-letter", "canary")],
        config={"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"},
    )  # fmt: skip
    async with opened(settings) as stream:
        assert not await stream.producer.send([message(1), message(2)])
    records = await read(kafka.servers, f"{settings.prefix}.pose", 2)
    assert [record.seq for record in records] == [1, 2]


async def test_a_missing_topic_is_named_until_it_is_there(kafka: Kafka) -> None:
    settings = config(kafka.servers, create_topics=False, timeout_s=1.0)
    async with opened(settings) as stream:
        producer = stream.producer
        await until(lambda: f"{settings.prefix}.pose" in producer.status().detail)
        assert not producer.status().connected
        assert "create_topics" in producer.status().detail
        with pytest.raises(Unavailable, match=f"{settings.prefix}.pose"):
            await producer.send([message(1)])
        kafka.create_topics(
            f"{settings.prefix}.{name}" for name in
            ("pose", "sensor", "state", "event", "dead-letter", "canary")
        )  # fmt: skip
        await until(lambda: producer.status().connected)
        assert not await producer.send([message(1)])


async def test_topics_deleted_meanwhile_are_made_again(kafka: Kafka) -> None:
    settings = config(kafka.servers)
    topic = f"{settings.prefix}.pose"
    async with opened(settings) as stream:
        await stream.producer.send([message(1), message(2)])
        await asyncio.to_thread(
            kafka.tool, "org.apache.kafka.tools.TopicCommand",
            "--bootstrap-server", kafka.servers, "--delete", "--topic", topic,
        )  # fmt: skip
        await insist(lambda: stream.producer.send([message(3), message(4)]))
    assert firsts([r.seq for r in await read(kafka.servers, topic, 2)]) == [3, 4]


async def test_cut_off_by_a_drill(kafka: Kafka, kafka_proxy: Proxy) -> None:
    settings = config(kafka.proxied_servers, timeout_s=1.0)
    async with opened(settings) as stream:
        await stream.producer.send([message(1)])
        stream.sever(True)
        assert not stream.producer.status().connected
        assert "drill" in stream.producer.status().detail
        with pytest.raises(Unavailable):
            await stream.producer.send([message(2)])
        stream.sever(False)
        await insist(lambda: stream.producer.send([message(2), message(3)]))
    records = await read(kafka.servers, f"{settings.prefix}.pose", 3)
    assert [record.seq for record in records] == [1, 2, 3]


@pytest.mark.parametrize("fault", ["black_hole", "hold", "reset", "refuse"])
async def test_a_bad_link_loses_nothing_and_keeps_the_order(
    kafka: Kafka, kafka_proxy: Proxy, fault: str
) -> None:
    settings = config(kafka.proxied_servers, timeout_s=1.0)
    count = 0

    def some() -> list[Message]:
        return [message(n, f"r{n % 5}") for n in range(count, count + 50)]

    async with opened(settings) as stream:
        producer = stream.producer
        await insist(lambda: producer.send(some()))
        count += 50
        getattr(kafka_proxy, fault)()
        if fault == "refuse":
            kafka_proxy.cut()
        if fault != "reset":
            with pytest.raises(Unavailable):
                await producer.send(some())
            assert not producer.status().connected
        kafka_proxy.pass_()
        await insist(lambda: producer.send(some()))
        count += 50
        await insist(lambda: producer.send(some()))
        count += 50
        assert producer.status().connected
    records = await read(kafka.servers, f"{settings.prefix}.pose", count)
    numbers = by_robot(records)
    assert sorted(n for found in numbers.values() for n in set(found)) == list(range(count))
    for found in numbers.values():
        assert firsts(found) == sorted(set(found))
    assert len(records) == count  # sent again as the same batches: Kafka drops what it has


async def test_a_send_that_is_cancelled_is_sent_again_without_a_trace(
    kafka: Kafka, kafka_proxy: Proxy
) -> None:
    settings = config(kafka.proxied_servers)
    sent = [message(n, f"r{n % 5}") for n in range(100)]
    async with opened(settings) as stream:
        await stream.producer.send(sent[:10])
        kafka_proxy.hold()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(stream.producer.send(sent[10:]))
            await asyncio.sleep(0.3)  # not a wait: long enough for the request to be on its way
            task.cancel()
        kafka_proxy.pass_()
        await insist(lambda: stream.producer.send(sent[10:]))
    records = await read(kafka.servers, f"{settings.prefix}.pose", 100)
    assert len(records) == 100
    for numbers in by_robot(records).values():
        assert numbers == sorted(numbers)


async def test_other_records_after_a_send_of_unknown_fate(kafka: Kafka, kafka_proxy: Proxy) -> None:
    """What lay in the dead connection may arrive first, but never after what is newer."""
    settings = config(kafka.proxied_servers, partitions=1)
    sent = [message(n) for n in range(100)]
    async with opened(settings) as stream:
        await stream.producer.send(sent[:10])
        kafka_proxy.hold()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(stream.producer.send(sent[10:60]))
            await asyncio.sleep(0.3)  # not a wait: long enough for the request to be on its way
            task.cancel()
        kafka_proxy.pass_()
        await insist(lambda: stream.producer.send(sent[10:40]))  # cut otherwise than before
        await insist(lambda: stream.producer.send(sent[40:]))
    records = await read(kafka.servers, f"{settings.prefix}.pose", 100)
    assert firsts([record.seq for record in records]) == list(range(100))


async def test_a_broker_that_is_frozen_killed_and_late(own_kafka: Kafka) -> None:
    settings = config(own_kafka.servers, timeout_s=1.0)
    other = config(own_kafka.servers, timeout_s=1.0)
    count = 0

    def some() -> list[Message]:
        return [message(n, f"r{n % 5}") for n in range(count, count + 50)]

    async with opened(settings) as stream:
        producer = stream.producer
        await insist(lambda: producer.send(some()))
        count += 50
        own_kafka.freeze()
        try:
            with pytest.raises(Unavailable):
                await producer.send(some())
        finally:
            own_kafka.thaw()
        await insist(lambda: producer.send(some()))
        count += 50
        await asyncio.to_thread(own_kafka.kill)
        with pytest.raises(Unavailable):
            await producer.send(some())
        async with opened(other) as late:  # for which it was never there
            with pytest.raises(Unavailable):
                await late.producer.send([message(1)])
            assert own_kafka.servers in late.producer.status().detail
            await asyncio.to_thread(own_kafka.start)
            await insist(lambda: producer.send(some()))
            count += 50
            await insist(lambda: late.producer.send([message(1)]))
    records = await read(own_kafka.servers, f"{settings.prefix}.pose", count)
    numbers = by_robot(records)
    assert sorted(n for found in numbers.values() for n in set(found)) == list(range(count))
    for found in numbers.values():
        assert firsts(found) == sorted(set(found))


async def test_nothing_to_send_needs_no_kafka() -> None:
    async with opened(config("127.0.0.1:1", timeout_s=0.5)) as stream:
        assert list(await stream.producer.send([])) == []
        assert not stream.producer.status().connected
        with pytest.raises(Unavailable):
            await stream.producer.send([message(1)])
