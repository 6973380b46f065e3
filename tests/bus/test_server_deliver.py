"""What subscribers get: filters, QoS, retained messages, bounds."""

import mqtt5
import pytest

from gateway.core.mqtt import text
from tests.bus.server_rig import (
    VERSIONS,
    ack,
    client,
    packet,
    publish,
    reached,
    server,
    subscribe,
    subscribed,
    unsubscribe,
)

NO_LOCAL = 4
AS_PUBLISHED = 8
ONLY_NEW = 16
NO_RETAINED = 32


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("wanted", [0, 1, 2])
async def test_the_lower_qos_holds(version: int, published: int, wanted: int) -> None:
    async with server() as on, client(on, "s", version) as sub, client(on, "p", version) as pub:
        assert await subscribed(sub, ("a/+", wanted), version=version) == bytes((wanted,))
        for repeat in range(2):
            pub.send(publish("a/b", b"x", published, 1, version))
            qos = min(published, wanted)
            packet_id = repeat + 1
            expected = publish("a/b", b"x", qos, packet_id, version)
            head, body = await sub.packet()
            assert packet(head, body) == expected
            if qos == 1:
                sub.send(ack(0x40, packet_id))
            elif qos == 2:
                sub.send(ack(0x50, packet_id))
                assert await sub.packet() == (0x62, bytes((0, packet_id)))
                sub.send(ack(0x50, packet_id))  # a PUBREC twice is answered twice
                assert await sub.packet() == (0x62, bytes((0, packet_id)))
                sub.send(ack(0x70, packet_id))
            if published == 2:
                pub.send(ack(0x62, 1))
            await sub.in_step()
        await reached(lambda: on.figures()["queued"] == 0)


async def test_overlapping_filters_deliver_once() -> None:
    async with server() as on, client(on, "s") as sub:
        assert await subscribed(sub, ("a/#", 0), ("a/+", 2), ("a/b", 1)) == b"\0\2\1"
        await on.publish("a/b", b"x", qos=2)
        assert (await sub.packet())[0] == 0x34
        await sub.in_step()


async def test_system_topics_are_not_in_a_leading_wildcard() -> None:
    async with server() as on, client(on, "s") as sub:
        await subscribed(sub, ("#", 0), ("+/x", 0))
        await on.publish("$SYS/x", b"")
        await on.publish("a/x", b"")
        assert await sub.packet() == (0x30, text("a/x"))
        await subscribed(sub, ("$SYS/#", 0))
        await on.publish("$SYS/x", b"")
        assert await sub.packet() == (0x30, text("$SYS/x"))


@pytest.mark.parametrize("version", VERSIONS)
async def test_filters_that_are_refused(version: int) -> None:
    async with server(topic_levels=3, subscriptions=3) as on, client(on, "s", version) as sub:
        filters = ("a#", "a/#/b", "+a", "", "a/b/c/d", "$share/g/a", "1", "2", "3", "4", "1")
        codes = await subscribed(sub, *((pattern, 1) for pattern in filters), version=version)
        right = bytes((0x8F, 0x8F, 0x8F, 0x8F, 0x8F, 0x9E, 1, 1, 1, 0x97, 1))
        assert codes == (right if version == 5 else bytes(min(code, 0x80) for code in right))
        assert on.figures()["subscriptions"] == 3


@pytest.mark.parametrize("version", VERSIONS)
async def test_unsubscribe(version: int) -> None:
    async with server() as on, client(on, "s", version) as sub:
        await subscribed(sub, ("a", 1), ("b", 1), version=version)
        sub.send(unsubscribe(9, "a", "x", version=version))
        codes = b"\0\0\x11" if version == 5 else b""
        assert await sub.packet() == (0xB0, b"\0\x09" + codes)
        await on.publish("a", b"x")
        await sub.in_step()
        assert on.figures()["subscriptions"] == 1


async def test_a_subscription_counts_for_topics_already_known() -> None:
    async with server() as on, client(on, "s") as sub, client(on, "p") as pub:
        for _ in range(3):  # from now on the hot loop takes it
            pub.send(publish("a", b"x"))
            await pub.in_step()
        await subscribed(sub, ("a", 0))
        pub.send(publish("a", b"y"))
        assert await sub.packet() == (0x30, text("a") + b"y")
        sub.send(unsubscribe(2, "a"))
        await sub.packet()
        for _ in range(3):
            pub.send(publish("a", b"z"))
            await pub.in_step()
        await sub.in_step()
        pub.send(subscribe(1, ("b", 0)), publish("b", b"own"))  # in one read
        assert (await pub.packet())[0] == 0x90
        assert await pub.packet() == (0x30, text("b") + b"own")


async def test_options_of_version_5() -> None:
    async with server() as on, client(on, "s", 5) as sub, client(on, "p", 5) as pub:
        await subscribed(sub, ("a", NO_LOCAL), ("b", AS_PUBLISHED), ("c", 0), version=5)
        sub.send(publish("a", b"own", 0, 0, 5))
        for topic in ("a", "b", "c"):
            pub.send(publish(topic, b"x", 0, 0, 5, retain=True))
        assert await sub.packet() == (0x30, text("a") + b"\0x")
        assert await sub.packet() == (0x31, text("b") + b"\0x")
        assert await sub.packet() == (0x30, text("c") + b"\0x")
        await sub.in_step()


@pytest.mark.parametrize("version", VERSIONS)
async def test_retained(version: int) -> None:
    none = b"\0" if version == 5 else b""
    async with server() as on, client(on, "p", version) as pub:
        pub.send(
            publish("a/1", b"old", 1, 1, version, retain=True),
            publish("a/1", b"new", 1, 2, version, retain=True),
            publish("a/2", b"x", 0, 0, version, retain=True),
            publish("a/2", b"", 0, 0, version, retain=True),
            publish("a/3", b"not retained", 0, 0, version),
        )
        await pub.packet()
        await pub.packet()
        await pub.in_step()
        assert on.figures()["retained"] == 1
        async with client(on, "s", version) as sub:
            assert await subscribed(sub, ("a/#", 1), version=version) == b"\1"
            expected = (0x33, text("a/1") + b"\0\1" + none + b"new")
            assert await sub.packet() == expected
            sub.send(ack(0x40, 1))
            await sub.in_step()
            pub.send(publish("a/1", b"live", 0, 0, version, retain=True))
            assert await sub.packet() == (0x30, text("a/1") + none + b"live")


async def test_retain_handling() -> None:
    async with server() as on, client(on, "s", 5) as sub:
        await on.publish("a", b"x", qos=0, retain=True)
        kept = (0x31, text("a") + b"\0x")
        await subscribed(sub, ("a", NO_RETAINED), version=5)
        await sub.in_step()
        await subscribed(sub, ("a", ONLY_NEW), version=5)
        await sub.in_step()
        await subscribed(sub, ("a", 0), version=5)
        assert await sub.packet() == kept
        await subscribed(sub, ("+", ONLY_NEW), version=5)
        assert await sub.packet() == kept


async def test_retained_is_bounded() -> None:
    async with server(retained=2, retained_bytes=100) as on, client(on, "s") as sub:
        await on.publish("a", b"x", retain=True)
        await on.publish("b", b"x" * 200, retain=True)
        await on.publish("c", b"x", retain=True)
        await on.publish("d", b"x", retain=True)
        await on.publish("a", b"y" * 200, retain=True)  # the old value would be wrong
        await subscribed(sub, ("#", 0))
        assert await sub.packet() == (0x31, text("c") + b"x")
        await sub.in_step()
        assert on.figures()["retained"] == 1
        assert on.figures()["dropped_retained_full"] == 3


async def test_many_retained_messages_at_every_qos() -> None:
    count = 3_000
    async with server(queue_messages=10) as on:
        for n in range(count):
            await on.publish(f"a/{n}", b"%d" % n, qos=2, retain=True)
        for qos, version in ((0, 4), (1, 4), (1, 5)):
            async with client(on, "s", version) as sub:
                await subscribed(sub, ("a/#", qos), version=version)
                topics = set()
                for _ in range(count):
                    head, body = await sub.packet()
                    size = body[1]
                    topics.add(body[2 : 2 + size])
                    if qos:
                        assert head == 0x33
                        sub.send(b"\x40\2" + body[2 + size : 4 + size])
                assert len(topics) == count
                await sub.in_step()
        figures = on.figures()
        assert not any(n for name, n in figures.items() if name.startswith("dropped"))


async def test_the_receive_maximum_of_the_client() -> None:
    async with server() as on, client(on, "s", 5, receive_max=2) as sub:
        await subscribed(sub, ("a", 2), version=5)
        for n in range(5):
            await on.publish("a", b"%d" % n, qos=1 + n % 2)
        first, second = await sub.packet(), await sub.packet()
        assert first == (0x32, text("a") + b"\0\1\0" + b"0")
        assert second == (0x34, text("a") + b"\0\2\0" + b"1")
        await sub.in_step()
        sub.send(ack(0x50, 2))
        assert await sub.packet() == (0x62, b"\0\2")
        await sub.in_step()  # not over before PUBCOMP
        sub.send(ack(0x70, 2))
        assert await sub.packet() == (0x32, text("a") + b"\0\3\0" + b"2")
        sub.send(b"\x40\3\0\1\x80")  # a negative PUBACK also frees its place
        assert await sub.packet() == (0x34, text("a") + b"\0\4\0" + b"3")
        sub.send(b"\x50\3\0\4\x80")  # and a negative PUBREC ends the exchange
        assert await sub.packet() == (0x32, text("a") + b"\0\5\0" + b"4")


@pytest.mark.parametrize(("wrong", "qos"), [(0x40, 2), (0x50, 1), (0x70, 1)])
async def test_an_acknowledgement_of_the_other_kind(wrong: int, qos: int) -> None:
    async with server() as on, client(on, "s", 5) as sub:
        await subscribed(sub, ("a", 2), version=5)
        await on.publish("a", b"", qos=qos)
        await sub.packet()
        sub.send(ack(wrong, 1))
        head, body = await sub.packet()
        assert (head, body[0]) == (0xE0, 0x82)


async def test_acknowledgements_of_unknown_ids_are_harmless() -> None:
    async with server() as on, client(on, "s", 5) as sub:
        sub.send(ack(0x40, 3), ack(0x70, 3), ack(0x50, 3))
        assert await sub.packet() == (0x62, b"\0\3\x92")
        await sub.in_step()


async def test_the_maximum_packet_size_of_the_client() -> None:
    async with server() as on, client(on, "s", 5, max_packet=30, receive_max=1) as sub:
        await subscribed(sub, ("a", 1), version=5)
        for payload in (b"x" * 30, b"y"):
            await on.publish("a", payload, qos=0)
            await on.publish("a", payload, qos=1)
        assert await sub.packet() == (0x30, text("a") + b"\0y")
        assert await sub.packet() == (0x32, text("a") + b"\0\1\0y")
        assert on.figures()["dropped_too_large"] == 2


async def test_messages_expire_while_they_wait() -> None:
    async with server() as on:
        async with client(on, "s", 5, clean=False, expiry_s=60) as sub:
            await subscribed(sub, ("a", 1), version=5)
        async with client(on, "p", 5) as pub:
            for payload, properties in ((b"old", b"\2\0\0\0\0"), (b"new", b"\2\0\0\0\x64")):
                pub.send(publish("a", payload, 1, 1, 5, properties=properties))
                await pub.packet()
        async with client(on, "s", 5, present=True, clean=False, expiry_s=60) as sub:
            came = await sub.read5()
            assert isinstance(came, mqtt5.PublishPacket)
            assert came.payload == b"new"
            assert came.message_expiry_interval is not None
            assert 90 < came.message_expiry_interval <= 100
        assert on.figures()["dropped_expired"] == 1


async def test_one_of_many_subscribers_gets_one() -> None:
    async with server() as on, client(on, "a") as one, client(on, "b") as two:
        await subscribed(one, *((f"r/{n}/pose", 0) for n in range(900)))
        await subscribed(two, ("r/+/pose", 0))
        await on.publish("r/17/pose", b"x")
        assert await one.packet() == (0x30, text("r/17/pose") + b"x")
        assert await two.packet() == (0x30, text("r/17/pose") + b"x")
        await one.in_step()
