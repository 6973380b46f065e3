"""PUBLISH from clients: batches, acknowledgements that wait, QoS 2, pausing, limits."""

import mqtt5
import pytest

from gateway.bus.port import Batch
from gateway.bus.server.link import Link
from tests.bus.server_rig import (
    VERSIONS,
    Raw,
    Taker,
    ack,
    client,
    connect,
    publish,
    reached,
    server,
)


@pytest.mark.parametrize("version", VERSIONS)
async def test_one_read_is_one_batch(version: int) -> None:
    taker = Taker(hold=True)
    async with server(taker) as on, client(on, version=version) as raw:
        for round_ in (1, 2):  # the second time the topics are known
            raw.send(
                publish("a", b"1", 1, 1, version),
                publish("a", b"2", 0, 0, version),
                publish("b", b"3", 1, 2, version),
                publish("a", b"", 1, 3, version),
            )
            items = await taker.until(4 * round_)
            assert items[-4:] == [("a", b"1"), ("a", b"2"), ("b", b"3"), ("a", b"")]
            assert len(taker.batches) == round_
            await raw.in_step()  # and no PUBACK yet
            taker.batches[-1].acknowledge()
            assert [await raw.packet() for _ in range(3)] == [
                (0x40, b"\0\1"),
                (0x40, b"\0\2"),
                (0x40, b"\0\3"),
            ]


async def test_batches_are_answered_in_their_order() -> None:
    taker = Taker(hold=True)
    async with server(taker) as on, client(on) as raw:
        for packet_id in (1, 2, 3):
            raw.send(publish("a", b"x", 1, packet_id))
            await taker.until(packet_id)
        taker.batches[2].acknowledge()
        taker.batches[1].acknowledge()
        await raw.in_step()
        taker.batches[0].acknowledge()
        taker.batches[0].acknowledge()  # a second time is nothing
        assert [await raw.packet() for _ in range(3)] == [(0x40, bytes((0, n))) for n in (1, 2, 3)]
        await raw.in_step()


async def test_an_acknowledgement_after_the_end_is_nothing() -> None:
    taker = Taker(hold=True)
    async with server(taker) as on:
        async with client(on) as raw:
            raw.send(publish("a", b"x", 1, 1))
            await taker.until(1)
        await reached(lambda: on.status().clients == 0)
        taker.batches[0].acknowledge()
        async with client(on) as raw:
            await raw.in_step()


@pytest.mark.parametrize("version", VERSIONS)
async def test_publish_and_disconnect_in_one_read(version: int) -> None:
    taker = Taker()
    async with server(taker) as on, await Raw.open(on) as raw:
        raw.send(
            connect("c", version, will=("w", b"lost", 0, False)),
            publish("a", b"1", 0, 0, version),
            b"\xe0\0",
            publish("a", b"never", 0, 0, version),
        )
        assert (await raw.closed())[:1] == b"\x20"
    assert taker.items == [("a", b"1")]


@pytest.mark.parametrize("version", VERSIONS)
async def test_qos_2_is_handed_over_once(version: int) -> None:
    taker = Taker(hold=True)
    async with server(taker) as on, client(on, version=version) as raw:
        raw.send(publish("a", b"x", 2, 5, version))
        await taker.until(1)
        raw.send(publish("a", b"x", 2, 5, version, dup=True))
        await raw.in_step()  # no PUBREC before it is durable
        taker.batches[0].acknowledge()
        assert await raw.packet() == (0x50, b"\0\5")
        raw.send(publish("a", b"x", 2, 5, version, dup=True))
        assert await raw.packet() == (0x50, b"\0\5")
        raw.send(ack(0x62, 5))
        assert await raw.packet() == (0x70, b"\0\5")
        assert taker.items == [("a", b"x")]
        raw.send(publish("a", b"y", 2, 5, version))  # the id is free again
        await taker.until(2)
        taker.batches[1].acknowledge()
        assert await raw.packet() == (0x50, b"\0\5")


async def test_qos_1_and_2_are_answered_in_order() -> None:
    taker = Taker(hold=True)
    async with server(taker) as on, client(on) as raw:
        raw.send(
            publish("a", b"1", 2, 1),
            publish("a", b"2", 1, 2),
            publish("a", b"3", 2, 3),
            publish("a", b"4", 2, 4),
            publish("a", b"5", 1, 5),
        )
        await taker.until(5)
        assert len(taker.batches) == 1
        taker.batches[0].acknowledge()
        answers = [await raw.packet() for _ in range(5)]
        assert [(head, body[1]) for head, body in answers] == [
            (0x50, 1),
            (0x40, 2),
            (0x50, 3),
            (0x50, 4),
            (0x40, 5),
        ]


@pytest.mark.parametrize("version", VERSIONS)
async def test_qos_2_over_two_connections(version: int) -> None:
    """The first connection dies before the message is durable; the second sends it again."""
    taker = Taker(hold=True)
    async with server(taker) as on:
        async with client(on, "c", version, clean=False, expiry_s=60) as raw:
            raw.send(publish("a", b"x", 2, 9, version))
            await taker.until(1)
        async with client(on, "c", version, present=True, clean=False, expiry_s=60) as raw:
            raw.send(publish("a", b"x", 2, 9, version, dup=True))
            await raw.in_step()
            taker.batches[0].acknowledge()
            assert await raw.packet() == (0x50, b"\0\x09")
            raw.send(publish("a", b"x", 2, 9, version, dup=True))
            assert await raw.packet() == (0x50, b"\0\x09")
        async with client(on, "c", version, present=True, clean=False, expiry_s=60) as raw:
            raw.send(ack(0x62, 9))
            assert await raw.packet() == (0x70, b"\0\x09")
    assert taker.items == [("a", b"x")]


async def test_pubrel_of_an_unknown_id() -> None:
    async with server() as on:
        async with client(on) as raw:
            raw.send(ack(0x62, 9))
            assert await raw.packet() == (0x70, b"\0\x09")
        async with client(on, version=5) as raw:
            raw.send(ack(0x62, 9))
            assert await raw.packet() == (0x70, b"\0\x09\x92")


async def test_topic_aliases() -> None:
    taker = Taker()
    async with server(taker) as on, client(on, version=5) as raw:
        raw.send(
            publish("a/b", b"1", 1, 1, 5, properties=b"\x23\0\7"),
            publish("", b"2", 1, 2, 5, properties=b"\x23\0\7"),
            publish("c", b"3", 0, 0, 5, properties=b"\x23\0\7"),
            publish("", b"4", 2, 3, 5, properties=b"\x23\0\7"),
        )
        assert [(await raw.packet())[0] for _ in range(3)] == [0x40, 0x40, 0x50]
    assert taker.items == [("a/b", b"1"), ("a/b", b"2"), ("c", b"3"), ("c", b"4")]


async def test_more_in_flight_than_the_receive_maximum() -> None:
    taker = Taker(hold=True)
    async with server(taker, inflight=3) as on, client(on, version=5) as raw:
        raw.send(*(publish("a", b"x", 1, n, 5) for n in (1, 2, 3)))
        await taker.until(3)
        await raw.in_step()
        raw.send(publish("a", b"x", 1, 4, 5))
        head, body = await raw.packet()
        assert (head, body[0]) == (0xE0, 0x93)


async def test_paused_publishes_wait_and_all_else_goes_on() -> None:
    taker = Taker()
    async with server(taker) as on, client(on, "pub") as raw, client(on, "sub") as sub:
        on.pause()
        on.pause()
        raw.send(publish("a", b"1", 1, 1), publish("b", b"2", 0), publish("a", b"3", 2, 2))
        await raw.in_step()
        async with client(on, "new") as new:
            new.send(publish("c", b"4", 1, 1))
            await new.in_step()
            await on.publish("cmd", b"stop")
            assert taker.items == []
            assert not on.status().connected
            on.resume()
            on.resume()
            assert await new.packet() == (0x40, b"\0\1")
        assert await raw.packet() == (0x40, b"\0\1")
        assert await raw.packet() == (0x50, b"\0\2")
        await sub.in_step()
    assert taker.items == [("a", b"1"), ("b", b"2"), ("a", b"3"), ("c", b"4")]


async def test_what_a_paused_server_reads_is_bounded() -> None:
    taker = Taker()
    count = 20_000
    async with server(taker) as on, client(on) as raw:
        on.pause()
        for n in range(count):
            raw.send(publish("a", b"%140d" % n, 1, n + 1))
        (wire,) = (wire for wire in on._wires if isinstance(wire, Link))
        await reached(lambda: wire._full)
        await raw.writer.drain()
        assert len(wire._held) < 300_000  # of 3 MB: one read of the socket at most
        assert taker.items == []
        on.resume()
        assert len(await taker.until(count)) == count
        answers = [await raw.packet() for _ in range(count)]
    assert [int(payload) for _, payload in taker.items] == list(range(count))
    assert [int.from_bytes(body, "big") for _, body in answers] == list(range(1, count + 1))


async def test_qos_0_that_goes_with_its_connection_while_paused_is_counted() -> None:
    taker = Taker()
    async with server(taker) as on:
        on.pause()
        async with client(on) as raw:
            raw.send(publish("a", b"1"), publish("a", b"2", 1, 1), publish("a", b"3"), b"\xe0\0")
            assert await raw.closed() == b""
        assert on.figures()["dropped_paused"] == 2
        on.resume()
        async with client(on) as raw:
            await raw.in_step()
    assert taker.items == []


async def test_pause_from_inside_take() -> None:
    """As the journal does: the batch that fills it asks for the pause."""

    class Full(Taker):
        def take(self, batch: Batch) -> None:
            super().take(batch)
            on.pause()

    taker = Full()
    async with server(taker) as on, client(on) as raw:
        raw.send(publish("a", b"1", 1, 1))
        assert await raw.packet() == (0x40, b"\0\1")
        raw.send(publish("a", b"2", 1, 2))
        await raw.in_step()
        assert len(taker.items) == 1
        on.resume()
        assert await raw.packet() == (0x40, b"\0\2")


async def test_a_flood_leaves_others_their_turn() -> None:
    """While one client sends without end, a ping of another is answered between its batches."""
    taker = Taker()
    async with server(taker) as on, client(on, "flood") as flood, client(on, "other") as other:
        flood.send(*(publish("a", b"x" * 140) for _ in range(100_000)))
        await taker.until(1)
        await other.in_step()
        assert len(taker.items) < 100_000
        await taker.until(100_000)
    assert max(len(batch.items) for batch in taker.batches) < 5_000


async def test_properties_reach_the_subscriber() -> None:
    async with server() as on, client(on, "s", 5) as sub, client(on, "p", 5) as pub:
        sub.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("#")]).write())
        await sub.packet()
        sent = mqtt5.PublishPacket(
            "a",
            b"x",
            content_type="text/plain",
            response_topic="r",
            correlation_data=b"\0\xff",
            message_expiry_interval=60,
            payload_format_indicator=1,
            user_properties=[("k", "v"), ("k", "한")],
        )
        pub.send(sent.write())
        came = await sub.read5()
        assert isinstance(came, mqtt5.PublishPacket)
        assert came.write() == sent.write()
