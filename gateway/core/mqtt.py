"""What both versions of MQTT share: packet types, reason codes, rules for topics, decoded packets.

Source: OASIS MQTT 3.1.1 and MQTT 5.0; section numbers are those of 5.0.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

CONNECT: Final = 1
CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7
SUBSCRIBE: Final = 8
SUBACK: Final = 9
UNSUBSCRIBE: Final = 10
UNSUBACK: Final = 11
PINGREQ: Final = 12
PINGRESP: Final = 13
DISCONNECT: Final = 14
AUTH: Final = 15

NEEDS_FLAGS: Final = {PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2}
"""The fixed-header flags of a packet type; 0 for the others, free for PUBLISH (2.1.3)."""


Scan = Callable[[bytes, int, Mapping[bytes, str], list[tuple[str, bytes]], list[bytes]], int]
"""The hot loop of a version: ``gateway.core.mqtt311.scan``."""


class Reason(enum.IntEnum):
    """Reason codes of MQTT 5 (2.4) that this program sends or tells apart."""

    SUCCESS = 0x00
    NO_SUBSCRIPTION = 0x11
    WITH_WILL = 0x04
    MALFORMED = 0x81
    PROTOCOL = 0x82
    VERSION = 0x84
    CLIENT_ID = 0x85
    BAD_LOGIN = 0x86
    NOT_AUTHORIZED = 0x87
    UNAVAILABLE = 0x88
    SHUTTING_DOWN = 0x8B
    AUTH_METHOD = 0x8C
    KEEP_ALIVE = 0x8D
    TAKEN_OVER = 0x8E
    FILTER = 0x8F
    TOPIC = 0x90
    PACKET_ID_UNKNOWN = 0x92
    RECEIVE_MAX = 0x93
    TOPIC_ALIAS = 0x94
    TOO_LARGE = 0x95
    QUOTA = 0x97
    NO_SHARED = 0x9E
    NO_SUBSCRIPTION_IDS = 0xA1


class ProtocolError(Exception):
    """The peer broke the protocol; ``reason`` is what a MQTT 5 peer is told before the close."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Properties:
    """Application properties of a PUBLISH (3.3.2.3), passed on to subscribers of version 5."""

    payload_format: int = 0
    expiry_s: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    user: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Publish:
    """A PUBLISH. ``packet_id`` is 0 for QoS 0. ``properties`` None: there were none."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties | None = None


@dataclass(frozen=True, slots=True)
class Will:
    """What to publish for a client that goes without a word."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    delay_s: int = 0
    properties: Properties | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """A CONNECT of either version. ``expiry_s`` None: the session is kept as long as allowed."""

    client_id: str
    clean: bool = True
    keep_alive_s: int = 0
    will: Will | None = None
    username: str | None = None
    password: bytes | None = None
    expiry_s: int | None = 0
    receive_max: int = 65_535
    max_packet: int | None = None
    auth_method: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One topic filter of a SUBSCRIBE with its options (3.8.3.1)."""

    filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


def varint(value: int) -> bytes:
    """Return ``value`` (0 to 268,435,455) as a variable byte integer (1.5.5)."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def text(value: str) -> bytes:
    """Return ``value`` as a UTF-8 encoded string with its length (1.5.4)."""
    raw = value.encode()
    return len(raw).to_bytes(2, "big") + raw


def frame(data: bytes, pos: int, limit: int) -> tuple[int, int]:
    """Find the packet that starts at ``pos``.

    Args:
        limit: the largest packet allowed, fixed header included, in bytes.
    Returns:
        Where its body starts and where it ends (which may be past ``data``); (0, 0) if not even its
        length is there yet.
    Raises:
        ProtocolError: the length is malformed, or over the limit.
    """
    size = len(data)
    length = shift = 0
    at = pos + 1
    while at < size:
        byte = data[at]
        length |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            if at - pos + length > limit:
                raise ProtocolError(Reason.TOO_LARGE, f"packet of {at - pos + length} bytes")
            return at, at + length
        shift += 7
        if shift == 28:
            raise ProtocolError(Reason.MALFORMED, "remaining length of more than 4 bytes")
    return 0, 0


def topic_name(raw: bytes, levels: int = 65_536) -> str:
    """Return the topic of a PUBLISH or a will, checked (4.7.3).

    Raises:
        ProtocolError: empty, not UTF-8, a NUL, a wildcard, or more than ``levels`` levels.
    """
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise ProtocolError(Reason.MALFORMED, "topic is not UTF-8") from None
    if "\0" in name:
        raise ProtocolError(Reason.MALFORMED, "topic with a NUL")
    if not name or "+" in name or "#" in name:
        raise ProtocolError(Reason.TOPIC, "topic is empty or has a wildcard")
    if name.count("/") >= levels:
        raise ProtocolError(Reason.TOPIC, f"topic of more than {levels} levels")
    return name


def valid_filter(pattern: str, levels: int = 65_536) -> bool:
    """Tell whether ``pattern`` is a topic filter of at most ``levels`` levels (4.7.1)."""
    parts = pattern.split("/")
    if not pattern or "\0" in pattern or len(parts) > levels:
        return False
    if any(len(part) > 1 and ("+" in part or "#" in part) for part in parts):
        return False
    return "#" not in parts[:-1]
