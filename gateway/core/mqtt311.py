"""MQTT 3.1.1 as a server speaks it (OASIS MQTT Version 3.1.1).

``data[at:stop]`` is always the body of one whole packet, after the fixed header:
``gateway.core.mqtt.frame`` finds it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.core.mqtt import (
    Connect,
    ProtocolError,
    Publish,
    Reason,
    Request,
    Will,
    topic_name,
    varint,
)

PINGRESP: Final = b"\xd0\0"
PUBACK: Final = b"\x40\x02"  # each of these four is followed by the packet id
PUBREC: Final = b"\x50\x02"
PUBREL: Final = b"\x62\x02"
PUBCOMP: Final = b"\x70\x02"

ACCEPTED: Final = 0
REFUSED_VERSION: Final = 1
REFUSED_CLIENT_ID: Final = 2
REFUSED_UNAVAILABLE: Final = 3
REFUSED_LOGIN: Final = 4
REFUSED_NOT_AUTHORIZED: Final = 5
SUBSCRIBE_FAILED: Final = 0x80

_NO_ID: Final = b"\0\0"
_NAME: Final = b"\0\4MQTT"


def scan(
    data: bytes,
    pos: int,
    quiet: Mapping[bytes, str],
    items: list[tuple[str, bytes]],
    acks: list[bytes],
) -> int:
    """Take the plain PUBLISHes that stand at ``pos``, one after the other; the hot loop.

    Plain: whole, QoS 0 or 1, no DUP, no RETAIN, at most 16 kB, topic in ``quiet``. (topic, payload)
    goes to ``items``, the two bytes of a packet id to ``acks``: ``PUBACK.join`` makes the answer.

    Args:
        quiet: topics already checked that need no routing, by their bytes.
    Returns:
        Where the first packet starts that is anything else, or incomplete.
    """
    size = len(data)
    known = quiet.get
    add = items.append
    acknowledge = acks.append
    try:
        while True:
            head = data[pos]
            at = pos + 2
            length = data[pos + 1]
            if length > 0x7F:
                more = data[at]
                if more > 0x7F:
                    return pos
                length += (more << 7) - 0x80
                at += 1
            stop = at + length
            name = at + 2
            after = name + (data[at] << 8) + data[at + 1]
            if head == 0x32:
                body = after + 2
                if stop > size or body > stop:
                    return pos
                topic = known(data[name:after])
                packet_id = data[after:body]
                if topic is None or packet_id == _NO_ID:
                    return pos
                add((topic, data[body:stop]))
                acknowledge(packet_id)
            elif head == 0x30:
                if stop > size or after > stop:
                    return pos
                topic = known(data[name:after])
                if topic is None:
                    return pos
                add((topic, data[after:stop]))
            else:
                return pos
            pos = stop
    except IndexError:  # the packet at pos is cut off inside its header
        return pos


def _malformed(detail: str) -> ProtocolError:
    return ProtocolError(Reason.MALFORMED, detail)


def field(data: bytes, at: int, stop: int) -> tuple[bytes, int]:
    """Return the length-prefixed bytes at ``at`` and where the next field starts."""
    start = at + 2
    if start > stop:
        raise _malformed("packet too short")
    after = start + (data[at] << 8) + data[at + 1]
    if after > stop:
        raise _malformed("string longer than its packet")
    return data[start:after], after


def string(data: bytes, at: int, stop: int) -> tuple[str, int]:
    """Return the UTF-8 string at ``at`` and where the next field starts."""
    raw, after = field(data, at, stop)
    try:
        value = raw.decode()
    except UnicodeDecodeError:
        raise _malformed("string is not UTF-8") from None
    if "\0" in value:
        raise _malformed("string with a NUL")
    return value, after


def decode_publish(head: int, data: bytes, at: int, stop: int, *, levels: int = 65_536) -> Publish:
    """Return a PUBLISH. ``head`` is the first byte of the packet."""
    qos = head >> 1 & 3
    if qos == 3 or head & 0x0E == 8:
        raise _malformed("QoS 3, or DUP with QoS 0")
    raw, at = field(data, at, stop)
    packet_id = 0
    if qos:
        packet_id, at = _packet_id(data, at, stop)
    return Publish(
        topic_name(raw, levels), data[at:stop], qos, bool(head & 1), bool(head & 8), packet_id
    )


def _packet_id(data: bytes, at: int, stop: int) -> tuple[int, int]:
    if at + 2 > stop:
        raise _malformed("packet too short")
    packet_id = data[at] << 8 | data[at + 1]
    if packet_id == 0:
        raise ProtocolError(Reason.PROTOCOL, "packet id 0")
    return packet_id, at + 2


def decode_ack(data: bytes, at: int, stop: int) -> int:
    """Return the packet id of a PUBACK, PUBREC, PUBREL, PUBCOMP or UNSUBACK."""
    packet_id, at = _packet_id(data, at, stop)
    if at != stop:
        raise _malformed("acknowledgement with a tail")
    return packet_id


def decode_connect(data: bytes, at: int, stop: int) -> Connect:
    """Return a CONNECT of level 4; ``clean`` False asks for a session that is kept."""
    if data[at : at + 6] != _NAME or at + 10 > stop or data[at + 6] != 4:
        raise _malformed("not an MQTT 3.1.1 CONNECT")
    flags = data[at + 7]
    keep_alive_s = data[at + 8] << 8 | data[at + 9]
    will_qos = flags >> 3 & 3
    has_will = bool(flags & 4)
    if flags & 1 or will_qos == 3 or (not has_will and flags & 0x38):
        raise _malformed("reserved CONNECT flags")
    if flags & 0x40 and not flags & 0x80:
        raise _malformed("password without a user name")
    client_id, at = string(data, at + 10, stop)
    will = username = password = None
    if has_will:
        raw, at = field(data, at, stop)
        payload, at = field(data, at, stop)
        will = Will(topic_name(raw), payload, will_qos, bool(flags & 0x20))
    if flags & 0x80:
        username, at = string(data, at, stop)
    if flags & 0x40:
        password, at = field(data, at, stop)
    if at != stop:
        raise _malformed("CONNECT with a tail")
    clean = bool(flags & 2)
    return Connect(
        client_id=client_id,
        clean=clean,
        keep_alive_s=keep_alive_s,
        will=will,
        username=username,
        password=password,
        expiry_s=0 if clean else None,
    )


def _packet(head: int, body: bytes) -> bytes:
    return bytes((head,)) + varint(len(body)) + body


def encode_connack(code: int, *, session_present: bool = False) -> bytes:
    """Return the bytes of a CONNACK; ``code`` is one of ACCEPTED and REFUSED_*."""
    return bytes((0x20, 2, session_present, code))


def decode_subscribe(data: bytes, at: int, stop: int) -> tuple[int, list[Request]]:
    """Return (packet id, filters with their QoS); the filters are not checked."""
    packet_id, at = _packet_id(data, at, stop)
    requests = []
    while at < stop:
        pattern, at = string(data, at, stop)
        if at >= stop or data[at] > 2:
            raise _malformed("SUBSCRIBE without a QoS of 0 to 2")
        requests.append(Request(pattern, data[at]))
        at += 1
    if not requests:
        raise ProtocolError(Reason.PROTOCOL, "SUBSCRIBE without a filter")
    return packet_id, requests


def encode_suback(packet_id: int, codes: Sequence[int]) -> bytes:
    """Return the bytes of a SUBACK; a code is the QoS granted or SUBSCRIBE_FAILED."""
    return _packet(0x90, packet_id.to_bytes(2, "big") + bytes(codes))


def decode_unsubscribe(data: bytes, at: int, stop: int) -> tuple[int, list[str]]:
    """Return (packet id, filters)."""
    packet_id, at = _packet_id(data, at, stop)
    patterns = []
    while at < stop:
        pattern, at = string(data, at, stop)
        patterns.append(pattern)
    if not patterns:
        raise ProtocolError(Reason.PROTOCOL, "UNSUBSCRIBE without a filter")
    return packet_id, patterns


def encode_ack(kind: bytes, packet_id: int) -> bytes:
    """Return the bytes of an acknowledgement; ``kind`` is PUBACK, PUBREC, PUBREL or PUBCOMP."""
    return kind + packet_id.to_bytes(2, "big")
