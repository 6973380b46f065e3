"""CONNECT, its refusals, and packets that come in pieces. Bytes in, bytes out."""

import asyncio

import mqtt5
import pytest

from gateway.bus.server.access import Access
from gateway.core.mqtt import text
from tests.bus.server_rig import (
    VERSIONS,
    Raw,
    Taker,
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
