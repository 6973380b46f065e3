"""What the hot path needs of MQTT 5 that its codec does not give (OASIS MQTT Version 5.0).

The codec itself is the ``mqtt5`` package. It panics on a string that is not UTF-8, prints a trace
for it, and lets NULs pass, so ``check_strings`` walks a packet from outside before it is decoded.
"""

from collections.abc import Mapping
from typing import Final

from gateway.core.mqtt import (
    AUTH,
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    SUBSCRIBE,
    UNSUBSCRIBE,
    ProtocolError,
    Reason,
)

_NO_ID: Final = b"\0\0"

# Wire types of the properties (2.2.2.2): how many bytes to skip, or one of these.
_VARINT: Final = 0
_STRING: Final = -1
_BINARY: Final = -2
_PAIR: Final = -3
_PROPERTIES: Final[dict[int, int]] = {
    0x01: 1, 0x17: 1, 0x19: 1, 0x24: 1, 0x25: 1, 0x28: 1, 0x29: 1, 0x2A: 1,
    0x13: 2, 0x21: 2, 0x22: 2, 0x23: 2,
    0x02: 4, 0x11: 4, 0x18: 4, 0x27: 4,
    0x0B: _VARINT,
    0x03: _STRING, 0x08: _STRING, 0x12: _STRING, 0x15: _STRING, 0x1A: _STRING, 0x1C: _STRING,
    0x1F: _STRING,
    0x09: _BINARY, 0x16: _BINARY,
    0x26: _PAIR,
}  # fmt: skip


def scan(
    data: bytes,
    pos: int,
    quiet: Mapping[bytes, str],
    items: list[tuple[str, bytes]],
    acks: list[bytes],
) -> int:
    """Take the plain PUBLISHes that stand at ``pos``; as ``gateway.core.mqtt311.scan``.

    Plain means here also: no properties, and so no topic alias.
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
                if stop > size or body >= stop or data[body]:
                    return pos
                topic = known(data[name:after])
                packet_id = data[after:body]
                if topic is None or packet_id == _NO_ID:
                    return pos
                add((topic, data[body + 1 : stop]))
                acknowledge(packet_id)
            elif head == 0x30:
                if stop > size or after >= stop or data[after]:
                    return pos
                topic = known(data[name:after])
                if topic is None:
                    return pos
                add((topic, data[after + 1 : stop]))
            else:
                return pos
            pos = stop
    except IndexError:  # the packet at pos is cut off inside its header
        return pos


def check_strings(head: int, data: bytes, at: int, stop: int) -> None:
    """Check every UTF-8 string of the packet whose body is ``data[at:stop]``.

    Raises:
        ProtocolError: one is not UTF-8, has a NUL, or the lengths do not fit the packet.
    """
    body = data[at:stop]
    try:
        _walk(head, body)
    except IndexError:
        raise ProtocolError(Reason.MALFORMED, "packet too short") from None


def _walk(head: int, body: bytes) -> None:
    kind = head >> 4
    if kind == PUBLISH:
        at = _string(body, 0)
        _properties(body, at + 2 if head & 6 else at)
    elif kind == CONNECT:
        _connect(body)
    elif kind in (SUBSCRIBE, UNSUBSCRIBE):
        at = _properties(body, 2)
        while at < len(body):
            at = _string(body, at) + (kind == SUBSCRIBE)
    elif PUBACK <= kind <= PUBCOMP and len(body) > 3:
        _properties(body, 3)
    elif kind in (DISCONNECT, AUTH) and len(body) > 1:
        _properties(body, 1)


def _connect(body: bytes) -> None:
    at = _string(body, 0)
    flags = body[at + 1]
    at = _string(body, _properties(body, at + 4))
    if flags & 4:
        at = _string(body, _properties(body, at))
        at = _skip(body, at)
    if flags & 0x80:
        _string(body, at)


def _properties(body: bytes, at: int) -> int:
    length, at = _varint(body, at)
    stop = at + length
    if stop > len(body):
        raise IndexError
    while at < stop:
        kind = _PROPERTIES.get(body[at])
        if kind is None:
            raise ProtocolError(Reason.MALFORMED, f"unknown property 0x{body[at]:02x}")
        at += 1
        if kind > 0:
            at += kind
        elif kind == _STRING:
            at = _string(body, at)
        elif kind == _BINARY:
            at = _skip(body, at)
        elif kind == _PAIR:
            at = _string(body, _string(body, at))
        else:
            _, at = _varint(body, at)
    if at != stop:
        raise IndexError
    return stop


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 28:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ProtocolError(Reason.MALFORMED, "variable byte integer of more than 4 bytes")


def _skip(body: bytes, at: int) -> int:
    after = at + 2 + (body[at] << 8) + body[at + 1]
    if after > len(body):
        raise IndexError
    return after


def _string(body: bytes, at: int) -> int:
    after = _skip(body, at)
    raw = body[at + 2 : after]
    if 0 in raw:
        raise ProtocolError(Reason.MALFORMED, "string with a NUL")
    try:
        raw.decode()
    except UnicodeDecodeError:
        raise ProtocolError(Reason.MALFORMED, "string is not UTF-8") from None
    return after
