"""CONNECT, its refusals, and packets that break the protocol. Bytes in, bytes out."""

import asyncio

import mqtt5
import pytest

from gateway.bus.server.access import Access
from gateway.core.mqtt import text
from tests.bus.server_rig import (
    VERSIONS,
    Raw,
    Taker,
    ack,
    client,
    connect,
    packet,
    publish,
    reached,
    server,
    subscribe,
)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_cut_at_every_byte(version: int) -> None:
    script = (
        connect("split", version, will=("w", b"x", 1, False), username="u", password=b"p")
        + publish("a/b", b"one", 1, 1, version)
        + publish("a/b", b"two", 0, 0, version)
        + publish("a/b", b"x" * 200, 1, 2, version)
        + b"\xc0\0"
    )
    taker = Taker()
    async with server(taker) as on:
        for cut in range(1, len(script)):
            async with await Raw.open(on) as raw:
                raw.send(script[:cut])
                await raw.writer.drain()
                await asyncio.sleep(0)  # gives the two halves a read of their own, most times
                raw.send(script[cut:])
                head, body = await raw.packet()
                assert (head, body[:2]) == (0x20, b"\0\0")
                answers = [await raw.packet() for _ in range(3)]
                assert sorted(answers) == [(0x40, b"\0\1"), (0x40, b"\0\2"), (0xD0, b"")]
                raw.send(b"\xe0\0")
                assert await raw.closed() == b""
    expected = [("a/b", b"one"), ("a/b", b"two"), ("a/b", b"x" * 200)]
    assert taker.items == expected * (len(script) - 1)


@pytest.mark.parametrize("version", VERSIONS)
async def test_one_byte_at_a_time(version: int) -> None:
    taker = Taker()
    script = connect("slow", version) + publish("a/b", b"one", 1, 1, version)
    async with server(taker) as on, await Raw.open(on) as raw:
        for byte in script:
            raw.send(bytes((byte,)))
            await raw.writer.drain()
            await asyncio.sleep(0)
        assert (await raw.packet())[0] == 0x20
        assert await raw.packet() == (0x40, b"\0\1")
    assert taker.items == [("a/b", b"one")]


async def test_a_large_packet_in_small_pieces() -> None:
    taker = Taker()
    payload = bytes(range(256)) * 1_000
    async with server(taker) as on, client(on) as raw:
        whole = publish("big", payload, 1, 1)
        for start in range(0, len(whole), 1_024):
            raw.send(whole[start : start + 1_024])
            await raw.writer.drain()
            await asyncio.sleep(0)
        assert await raw.packet() == (0x40, b"\0\1")
    assert taker.items == [("big", payload)]


REFUSED_311 = [
    pytest.param(packet(0x10, text("MQIsdp"), b"\3\2\0\0", text("c")), b"\x20\2\0\1", id="level 3"),
    pytest.param(packet(0x10, text("MQTT"), b"\6\2\0\0", text("c")), b"\x20\2\0\1", id="level 6"),
    pytest.param(connect("", clean=False), b"\x20\2\0\2", id="kept session without an id"),
    pytest.param(packet(0x10, text("MQTT"), b"\4\3\0\0", text("c")), b"", id="reserved flag"),
    pytest.param(packet(0x10, text("HTTP"), b"\4\2\0\0", text("c")), b"", id="another protocol"),
    pytest.param(packet(0x10, text("MQTT"), b"\4\2\0\0", b"\0\5c"), b"", id="id cut off"),
    pytest.param(packet(0x10, text("MQTT"), b"\4\2\0\0", text("c"), b"x"), b"", id="a tail"),
    pytest.param(packet(0x10, text("MQTT"), b"\4\2\0\0", b"\0\1\xff"), b"", id="id not UTF-8"),
    pytest.param(packet(0x10, text("MQTT"), b"\4\2\0\0", b"\0\1\0"), b"", id="id with NUL"),
    pytest.param(packet(0x10, text("MQTT"), b"\4\x42\0\0", text("c"), b"\0\0"), b"", id="password"),
    pytest.param(connect("c", will=("a/#", b"", 0, False)), b"", id="will to a wildcard"),
    pytest.param(packet(0x10, text("MQTT"), b"\4\x1a\0\0", text("c")), b"", id="QoS without will"),
    pytest.param(packet(0x11, connect("c")[2:]), b"", id="fixed header flags"),
    pytest.param(packet(0x10), b"", id="empty"),
    pytest.param(b"\xc0\0", b"", id="PINGREQ first"),
    pytest.param(publish("a", b"x"), b"", id="PUBLISH first"),
    pytest.param(b"\x10\xff\xff\xff\xff\x01", b"", id="length of five bytes"),
    pytest.param(b"\x10\xff\xff\xff\x7f", b"", id="256 MB announced"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"", id="HTTP"),
]


@pytest.mark.parametrize(("sent", "answer"), REFUSED_311)
async def test_a_connect_that_is_refused(sent: bytes, answer: bytes) -> None:
    async with server() as on, await Raw.open(on) as raw:
        raw.send(sent)
        assert await raw.closed() == answer
        assert on.status().clients == 0


REFUSED_5 = [
    pytest.param(b"\0\1\xff", 0x81, id="id not UTF-8"),
    pytest.param(b"\0\3\xed\xa0\x80", 0x81, id="id with a surrogate"),
    pytest.param(b"\0\1\0", 0x81, id="id with NUL"),
    pytest.param(b"\0\5c", 0x81, id="id cut off"),
    pytest.param(text("c") + b"x", 0x81, id="a tail"),
    pytest.param(text("x" * 300), 0x85, id="id too long"),
]


@pytest.mark.parametrize(("rest", "reason"), REFUSED_5)
async def test_a_connect_of_version_5_that_is_refused(
    rest: bytes, reason: int, capfd: pytest.CaptureFixture[str]
) -> None:
    async with server() as on, await Raw.open(on) as raw:
        raw.send(packet(0x10, text("MQTT"), b"\5\2\0\0\0", rest))
        head, body = await raw.packet()
        assert (head, body[1]) == (0x20, reason)
        assert await raw.closed() == b""
    assert capfd.readouterr().err == ""  # the codec did not panic


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        (b"\x21\0\0", 0x82),  # receive maximum 0
        (b"\x27\0\0\0\0", 0x82),  # maximum packet size 0
        (b"\x11\0\0\0\1\x11\0\0\0\1", 0x82),  # twice
        (b"\x7e", 0x81),  # unknown
        (b"\x15\0\1x", 0x8C),  # authentication method
    ],
)
async def test_connect_properties_that_are_refused(properties: bytes, reason: int) -> None:
    async with server() as on, await Raw.open(on) as raw:
        size = bytes((len(properties),))
        raw.send(packet(0x10, text("MQTT"), b"\5\2\0\0", size, properties, text("c")))
        head, body = await raw.packet()
        assert (head, body[1]) == (0x20, reason)


async def test_connack_5_tells_what_is_had() -> None:
    async with (
        server(inflight=77, packet_bytes=5_000, session_expiry_s=60) as on,
        await Raw.open(on) as raw,
    ):
        raw.send(connect("", 5, expiry_s=1_000))
        answer = await raw.read5()
    assert isinstance(answer, mqtt5.ConnAckPacket)
    assert answer.assigned_client_id
    assert answer.receive_max == 77
    assert answer.max_packet_size == 5_000
    assert answer.session_expiry_interval == 60
    assert answer.topic_alias_max > 0
    assert not answer.shared_subscription_available
    assert not answer.subscription_id_available


async def test_empty_client_ids_do_not_meet() -> None:
    async with server() as on, client(on, ""), client(on, ""):
        assert on.status().clients == 2


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_second_connect_ends_the_connection(version: int) -> None:
    async with server() as on, client(on, version=version) as raw:
        raw.send(connect("c", version))
        told = await raw.closed()
        assert told[2:3] == (b"\x82" if version == 5 else b"")
        assert on.status().clients == 0


BROKEN = [
    pytest.param(publish("a/+", b"", 1, 1, 5), 0x90, id="wildcard"),
    pytest.param(publish("a#", b"", 1, 1, 5), 0x90, id="wildcard at the end"),
    pytest.param(publish("a\0b", b"", 1, 1, 5), 0x81, id="NUL"),
    pytest.param(packet(0x30, b"\0\2\xff\xfe\0"), 0x81, id="not UTF-8"),
    pytest.param(packet(0x30, b"\0\3\xed\xa0\x80\0"), 0x81, id="surrogate"),
    pytest.param(publish("", b"", 0, 0, 5), 0x94, id="empty topic"),
    pytest.param(publish("a/b/c/d/e", b"", 0, 0, 5), 0x90, id="too deep"),
    pytest.param(publish("a", b"", 1, 0, 5), 0x82, id="packet id 0"),
    pytest.param(packet(0x36, text("a"), b"\0\1\0"), 0x81, id="QoS 3"),
    pytest.param(packet(0x38, text("a"), b"\0"), 0x81, id="DUP at QoS 0"),
    pytest.param(packet(0x30, b"\0\x09a"), 0x81, id="topic longer than the packet"),
    pytest.param(packet(0x32, text("a"), b"\0"), 0x81, id="packet id cut off"),
    pytest.param(packet(0x30, text("a"), b"\5\x26"), 0x81, id="properties cut off"),
    pytest.param(publish("a", b"", properties=b"\x0b\1", version=5), 0x82, id="subscription id"),
    pytest.param(publish("a", b"", properties=b"\1\2", version=5), 0x82, id="payload format 2"),
    pytest.param(publish("a", b"", properties=b"\x08\0\1#", version=5), 0x90, id="response topic"),
    pytest.param(publish("a", b"", properties=b"\x03\0\1\xff", version=5), 0x81, id="content type"),
    pytest.param(publish("a", b"", properties=b"\x03\0\1\0", version=5), 0x81, id="NUL inside"),
    pytest.param(publish("a", b"", properties=b"\x23\0\0", version=5), 0x94, id="alias 0"),
    pytest.param(publish("a", b"", properties=b"\x23\xff\xff", version=5), 0x94, id="alias 65535"),
    pytest.param(publish("", b"", properties=b"\x23\0\1", version=5), 0x82, id="alias not set"),
    pytest.param(b"\x30\xff\xff\xff\x7f", 0x95, id="256 MB announced"),
    pytest.param(b"\x30\xff\xff\xff\xff", 0x81, id="length of five bytes"),
    pytest.param(b"\0\0", 0x82, id="type 0"),
    pytest.param(b"\xc1\0", 0x81, id="PINGREQ with flags"),
    pytest.param(b"\xc0\1x", 0x81, id="PINGREQ with a body"),
    pytest.param(b"\xd0\0", 0x82, id="PINGRESP from a client"),
    pytest.param(b"\x20\3\0\0\0", 0x82, id="CONNACK from a client"),
    pytest.param(b"\xf0\0", 0x82, id="AUTH"),
    pytest.param(packet(0x80, b"\0\1\0", text("a"), b"\1"), 0x81, id="SUBSCRIBE with flags 0"),
    pytest.param(packet(0x82, b"\0\1\0"), 0x82, id="SUBSCRIBE without a filter"),
    pytest.param(packet(0x82, b"\0\0\0", text("a"), b"\1"), 0x82, id="SUBSCRIBE with id 0"),
    pytest.param(packet(0x82, b"\0\1\0", text("a"), b"\3"), 0x81, id="SUBSCRIBE with QoS 3"),
    pytest.param(packet(0x82, b"\0\1\0", b"\0\1\xff\1"), 0x81, id="filter not UTF-8"),
    pytest.param(packet(0x82, b"\0\1\2\x0b\5", text("a"), b"\1"), 0xA1, id="subscription id 5"),
    pytest.param(packet(0xA2, b"\0\1\0"), 0x82, id="UNSUBSCRIBE without a filter"),
    pytest.param(b"\x40\1\0", 0x81, id="PUBACK cut off"),
    pytest.param(b"\x40\2\0\0", 0x82, id="PUBACK for 0"),
    pytest.param(b"\x40\3\0\1\x77", 0x81, id="PUBACK with an unknown reason"),
    pytest.param(b"\x60\2\0\1", 0x81, id="PUBREL with flags 0"),
    pytest.param(b"\xe0\x06\0\x05\x11\0\0\0\1"[:-1], 0x81, id="DISCONNECT cut off"),
    pytest.param(b"\xe0\x07\0\x05\x11\0\0\0\1", 0x82, id="expiry set by DISCONNECT"),
]


@pytest.mark.parametrize(("sent", "reason"), BROKEN)
async def test_what_breaks_version_5_is_told_and_cut_off(
    sent: bytes, reason: int, capfd: pytest.CaptureFixture[str]
) -> None:
    taker = Taker()
    async with server(taker, topic_levels=4) as on, client(on, version=5) as raw:
        raw.send(publish("before", b"1", 1, 7, 5), sent, publish("after", b"2", 1, 8, 5))
        assert await raw.packet() == (0x40, b"\0\7")  # what was right before it still counts
        head, body = await raw.packet()
        assert (head, body[0]) == (0xE0, reason)
        assert await raw.closed() == b""
        assert taker.items == [("before", b"1")]
    assert capfd.readouterr().err == ""


BROKEN_311 = [
    publish("a/+", b""),
    publish("", b""),
    publish("a\0", b""),
    packet(0x30, b"\0\2\xff\xfe"),
    packet(0x30, b"\0\3\xed\xa0\x80"),
    publish("a", b"", 1, 0),
    packet(0x36, text("a"), b"\0\1"),
    packet(0x38, text("a")),
    packet(0x30, b"\0"),
    packet(0x82, b"\0\1"),
    packet(0x82, b"\0\1", text("a")),
    packet(0x82, b"\0\1", text("a"), b"\4"),
    packet(0xA2, b"\0\1"),
    b"\x40\3\0\1\0",
    b"\xe0\1\0",
    b"\xf0\0",
    b"\x30\xff\xff\xff\x7f",
]


@pytest.mark.parametrize("sent", BROKEN_311, ids=bytes.hex)
async def test_what_breaks_version_311_is_cut_off(sent: bytes) -> None:
    taker = Taker()
    async with server(taker) as on, client(on) as raw:
        raw.send(publish("before", b"1", 1, 7), sent, publish("after", b"2", 1, 8))
        assert await raw.closed() == ack(0x40, 7)
        assert taker.items == [("before", b"1")]


async def test_a_large_packet_is_refused_before_it_is_here() -> None:
    async with server(packet_bytes=1_000) as on, client(on, version=5) as raw:
        raw.send(packet(0x30, text("a"), b"\0", b"x" * 993))
        await raw.in_step()
        raw.send(b"\x30\xe8\x07")  # 1,003 bytes with its header, and none of them sent
        head, body = await raw.packet()
        assert (head, body[0]) == (0xE0, 0x95)


async def test_a_client_that_does_not_connect_is_cut_off() -> None:
    async with (
        server(connect_s=0.1) as on,
        await Raw.open(on) as silent,
        await Raw.open(on) as slow,
    ):
        slow.send(connect("c")[:-1])
        assert await silent.closed() == b""
        assert await slow.closed() == b""


@pytest.mark.parametrize("version", VERSIONS)
async def test_more_clients_than_allowed(version: int) -> None:
    async with server(clients=1) as on, client(on, "one"), await Raw.open(on) as raw:
        raw.send(connect("two", version))
        told = await raw.closed()
        assert told[3:4] == (b"\x97" if version == 5 else b"\3")
        async with client(on, "one"):  # it takes the place of the other
            assert on.status().clients == 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_access_is_asked(version: int) -> None:
    asked: list[tuple[object, ...]] = []

    def may_connect(client_id: str, username: str | None, password: bytes | None) -> bool:
        asked.append((client_id, username, password))
        return password == b"right"

    def may(client_id: str, action: str, topic: str) -> bool:
        asked.append((client_id, action, topic))
        return topic == "mine"

    taker = Taker()
    async with server(taker, access=Access(may_connect, may)) as on:
        async with await Raw.open(on) as raw:
            raw.send(connect("r", version, username="u", password=b"wrong"))
            told = await raw.closed()
            assert told[3:4] == (b"\x86" if version == 5 else b"\4")
        async with client(on, "r", version, username="u", password=b"right") as raw:
            raw.send(subscribe(1, ("mine", 1), ("other", 1), version=version))
            _, body = await raw.packet()
            assert body[-2:] == (b"\1\x87" if version == 5 else b"\1\x80")
            for _ in range(2):
                raw.send(publish("other", b"x", 1, 2, version))
                head, body = await raw.packet()
                assert (head, body[:2]) == (0x40, b"\0\2")
                assert body[2:] == (b"\x87" if version == 5 else b"")
            raw.send(publish("other", b"x", 0, 0, version))
            await raw.in_step()
        assert taker.items == []
        assert on.figures()["dropped_denied"] == 3
    assert asked[0] == ("r", "u", b"wrong")
    assert ("r", "publish", "other") in asked


async def test_a_flood_of_half_open_connections_leaves_nothing_behind() -> None:
    async with server(connect_s=0.1) as on:
        raws = [await Raw.open(on) for _ in range(50)]
        await reached(lambda: all(raw.reader.at_eof() for raw in raws))
        for raw in raws:
            raw.writer.close()
        async with client(on) as raw:
            await raw.in_step()
