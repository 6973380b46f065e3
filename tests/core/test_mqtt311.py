"""MQTT 3.1.1 packets, the framing both versions share, and the hot loops of both."""

from random import Random

import pytest

from gateway.core import mqtt5wire, mqtt311
from gateway.core.mqtt import (
    Connect,
    ProtocolError,
    Publish,
    Reason,
    Request,
    Scan,
    Will,
    frame,
    text,
    topic_name,
    varint,
)

HEAD = text("MQTT")


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (2_097_151, "ffff7f"),
        (2_097_152, "80808001"),
        (268_435_455, "ffffff7f"),
    ],
)
def test_variable_byte_integers(value: int, wire: str) -> None:
    raw = bytes.fromhex(wire)
    assert varint(value) == raw
    data = b"\x30" + raw
    assert frame(data, 0, 1 << 29) == (len(data), len(data) + value)
    for cut in range(len(data)):
        assert frame(data[:cut], 0, 1 << 29) == (0, 0)


def test_frames() -> None:
    assert frame(b"xx\xc0\0", 2, 100) == (4, 4)
    assert frame(b"\x30\x62", 0, 100) == (2, 100)
    with pytest.raises(ProtocolError) as caught:
        frame(b"\x30\x63", 0, 100)
    assert caught.value.reason is Reason.TOO_LARGE
    with pytest.raises(ProtocolError) as caught:
        frame(b"\x30\xff\xff\xff\xff", 0, 100)
    assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", Reason.TOPIC),
        (b"a+", Reason.TOPIC),
        (b"#", Reason.TOPIC),
        (b"a\0", Reason.MALFORMED),
        (b"\xff", Reason.MALFORMED),
        (b"\xed\xa0\x80", Reason.MALFORMED),
        (b"\xc0\xaf", Reason.MALFORMED),  # overlong
        (b"a/b/c/d", Reason.TOPIC),
    ],
)
def test_topics_that_are_refused(raw: bytes, reason: Reason) -> None:
    with pytest.raises(ProtocolError) as caught:
        topic_name(raw, 3)
    assert caught.value.reason is reason


def test_topics_that_are_right() -> None:
    for topic in ("a", "/", "a/b/c", " ", "$SYS/x", "한국/로봇", "\U0001f916"):
        assert topic_name(topic.encode()) == topic


CONNECTS = [
    (HEAD + b"\4\2\0\x3c" + text("c"), Connect(client_id="c", keep_alive_s=60)),
    (HEAD + b"\4\0\0\0" + text("c"), Connect(client_id="c", clean=False, expiry_s=None)),
    (
        HEAD + b"\4\xf6\0\0" + text("c") + text("w/t") + b"\0\2\0\xff" + text("u") + b"\0\1p",
        Connect(
            client_id="c",
            will=Will("w/t", b"\0\xff", 2, True),
            username="u",
            password=b"p",
        ),
    ),
]


@pytest.mark.parametrize(("body", "expected"), CONNECTS)
def test_connect(body: bytes, expected: Connect) -> None:
    assert mqtt311.decode_connect(b"xx" + body + b"more", 2, 2 + len(body)) == expected
    for cut in range(len(body)):
        with pytest.raises(ProtocolError):
            mqtt311.decode_connect(body, 0, cut)
        with pytest.raises(ProtocolError):
            mqtt311.decode_connect(body[:cut], 0, cut)


PUBLISHES = [
    (0x30, text("a/b") + b"xyz", Publish("a/b", b"xyz")),
    (0x31, text("a/b"), Publish("a/b", b"", retain=True)),
    (0x32, text("a/b") + b"\1\2x", Publish("a/b", b"x", 1, packet_id=258)),
    (0x3D, text("a") + b"\0\1", Publish("a", b"", 2, retain=True, dup=True, packet_id=1)),
]


@pytest.mark.parametrize(("head", "body", "expected"), PUBLISHES)
def test_publish(head: int, body: bytes, expected: Publish) -> None:
    assert mqtt311.decode_publish(head, b"xx" + body + b"more", 2, 2 + len(body)) == expected
    needed = len(body) - len(expected.payload)
    for cut in range(needed):
        with pytest.raises(ProtocolError):
            mqtt311.decode_publish(head, body, 0, cut)


def test_subscribe_and_its_answers() -> None:
    body = b"\0\7" + text("a/#") + b"\2" + text("b") + b"\0"
    requests = [Request("a/#", 2), Request("b", 0)]
    assert mqtt311.decode_subscribe(body, 0, len(body)) == (7, requests)
    names = b"\0\7" + text("a/#") + text("b")
    assert mqtt311.decode_unsubscribe(names, 0, len(names)) == (7, ["a/#", "b"])
    assert mqtt311.encode_suback(7, [2, 0x80]) == b"\x90\4\0\7\2\x80"
    assert mqtt311.encode_connack(0, session_present=True) == b"\x20\2\1\0"
    assert mqtt311.encode_ack(mqtt311.PUBREL, 258) == b"\x62\2\1\2"
    assert mqtt311.decode_ack(b"\1\2", 0, 2) == 258
    whole = {2, 2 + 6, len(body)}
    for cut in set(range(len(body))) - whole:
        with pytest.raises(ProtocolError):
            mqtt311.decode_subscribe(body, 0, cut)


VERSIONS: list[tuple[int, Scan]] = [(4, mqtt311.scan), (5, mqtt5wire.scan)]


def packet(head: int, topic: str, payload: bytes, packet_id: int, version: int) -> bytes:
    body = text(topic) + (packet_id.to_bytes(2, "big") if head & 6 else b"")
    body += b"\0" * (version == 5) + payload
    return bytes((head,)) + varint(len(body)) + body


@pytest.mark.parametrize(("version", "scan"), VERSIONS, ids=["3.1.1", "5"])
def test_scan_stops_where_care_is_needed(version: int, scan: Scan) -> None:
    quiet = {b"a": "a", "한".encode(): "한"}
    plain = [
        packet(0x32, "a", b"1", 1, version),
        packet(0x30, "한", b"", 0, version),
        packet(0x32, "a", b"x" * 300, 0xFFFF, version),
        packet(0x30, "a", b"y" * 16_000, 0, version),
    ]
    start = b"".join(plain)
    others = [
        packet(0x33, "a", b"", 1, version),
        packet(0x3A, "a", b"", 1, version),
        packet(0x34, "a", b"", 1, version),
        packet(0x31, "a", b"", 0, version),
        packet(0x32, "b", b"", 1, version),
        packet(0x32, "a", b"", 0, version),
        packet(0x30, "a", b"z" * 17_000, 0, version),
        b"\xc0\0",
        b"\x32\1a",
        b"\x30\2\0\1",
        b"\x32\4\0\1a\0" if version == 4 else b"\x32\5\0\1a\0\1",
        b"\x30\4\0\7a\0",
        b"",
    ]
    if version == 5:
        others.append(b"\x30\7" + text("a") + b"\3\x23\0\1")
    for other in others:
        items: list[tuple[str, bytes]] = []
        acks = [b""]
        data = b"junk" + start + other
        assert scan(data, 4, quiet, items, acks) == 4 + len(start), other.hex()
        assert items == [("a", b"1"), ("한", b""), ("a", b"x" * 300), ("a", b"y" * 16_000)]
        assert mqtt311.PUBACK.join(acks) == b"\x40\2\0\1\x40\2\xff\xff"


@pytest.mark.parametrize(("version", "scan"), VERSIONS, ids=["3.1.1", "5"])
def test_scan_of_every_prefix(version: int, scan: Scan) -> None:
    packets = [packet(0x32, "a", b"p" * n, 1 + n, version) for n in (0, 5, 150)]
    data = b"".join(packets)
    ends = [0]
    for one in packets:
        ends.append(ends[-1] + len(one))
    for cut in range(len(data) + 1):
        items: list[tuple[str, bytes]] = []
        pos = scan(data[:cut], 0, {b"a": "a"}, items, [b""])
        assert pos == max(end for end in ends if end <= cut)
        assert len(items) == ends.index(pos)


@pytest.mark.parametrize(("version", "scan"), VERSIONS, ids=["3.1.1", "5"])
def test_scan_of_noise_agrees_with_the_decoder(version: int, scan: Scan) -> None:
    """Whatever the loop takes is what the careful decoder takes."""
    rng = Random(11)
    taken = 0
    for _ in range(20_000):
        data = bytearray(packet(rng.choice((0x30, 0x32)), "a", b"pay", 1, version) * 3)
        for _ in range(rng.randint(0, 2)):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 2, 3, 0x30, 0x32, 0x80, 0xFF))
        items: list[tuple[str, bytes]] = []
        scan(bytes(data), 0, {b"a": "a"}, items, [b""])
        pos = 0
        for topic, payload in items:
            at, stop = frame(bytes(data), pos, 1 << 20)
            packet_ = mqtt311.decode_publish(data[pos], bytes(data), at, stop)
            assert packet_.topic == topic
            assert packet_.payload == (b"\0" + payload if version == 5 else payload)
            pos = stop
        taken += len(items)
    assert taken > 10_000
