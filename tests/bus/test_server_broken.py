"""Packets that break the protocol, after CONNECT. Bytes in, bytes out."""

import pytest

from gateway.core.mqtt import text
from tests.bus.server_rig import (
    Taker,
    ack,
    client,
    packet,
    publish,
    server,
)

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
