"""The few MQTT packets a load generator needs, and whole runs of them built beforehand.

Source: MQTT 3.1.1 and MQTT 5.0, sections 3.1 to 3.4. Independent of the gateway's own codecs, so
that a mistake there cannot hide itself.
"""

import socket
import time
from dataclasses import dataclass
from typing import Final

from bench.payloads import FIRST_SEQ, pose, sensor, topic

MAX_ID: Final = 65_535
_RECEIVE_MAXIMUM: Final = 0x21  # MQTT 5.0, 3.2.2.3.3
_FIXED: Final = {0x24: 1, 0x25: 1, 0x27: 4, 0x22: 2, 0x28: 1, 0x29: 1, 0x2A: 1, 0x13: 2, 0x11: 4}


class Refused(Exception):
    """The server said no, or spoke something else."""


def length(value: int) -> bytes:
    """Encode a remaining length. 2.2.3."""
    out = bytearray()
    while True:
        value, digit = divmod(value, 128)
        out.append(digit | 128 if value else digit)
        if not value:
            return bytes(out)


def _text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


def connect(client_id: str, *, version: int = 4, keepalive_s: int = 60) -> bytes:
    """Return a CONNECT that starts clean."""
    body = _text("MQTT") + bytes([version, 2]) + keepalive_s.to_bytes(2, "big")
    body += (b"\x00" if version == 5 else b"") + _text(client_id)
    return b"\x10" + length(len(body)) + body


def publish(name: str, payload: bytes, *, qos: int, packet_id: int, version: int = 4) -> bytes:
    """Return a PUBLISH."""
    body = _text(name)
    if qos:
        body += packet_id.to_bytes(2, "big")
    if version == 5:
        body += b"\x00"
    body += payload
    return bytes([0x30 | qos << 1]) + length(len(body)) + body


def puback(packet_id: int) -> bytes:
    """Return the short PUBACK: no reason code, no properties."""
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


def dial(port: int, client_id: str, *, version: int = 4) -> tuple[socket.socket, int]:
    """Connect to an MQTT server on loopback.

    Returns:
        The socket after a good CONNACK, and how many QoS 1 messages may be under way.

    Raises:
        Refused: no CONNACK with success came.
    """
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(connect(client_id, version=version))
    head = _exactly(sock, 2)
    body = _exactly(sock, head[1])
    if head[0] != 0x20 or body[1] != 0:
        raise Refused(f"CONNACK expected, {(head + body).hex()} came")
    return sock, _receive_maximum(body[3:]) if version == 5 else MAX_ID


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise Refused("the connection was closed before CONNACK")
        data += part
    return data


def _receive_maximum(properties: bytes) -> int:
    """Find the receive maximum among CONNACK's properties. MQTT 5.0, 3.2.2.3."""
    at = 0
    while at < len(properties):
        name, at = properties[at], at + 1
        if name == _RECEIVE_MAXIMUM:
            return int.from_bytes(properties[at : at + 2], "big")
        if name == 0x26:  # user property: two strings
            at += 2 + int.from_bytes(properties[at : at + 2], "big")
        at += _FIXED.get(name) or 2 + int.from_bytes(properties[at : at + 2], "big")
    return MAX_ID


@dataclass(frozen=True, slots=True)
class Run:
    """``count`` PUBLISH packets of ``size`` bytes each, in one buffer, and their PUBACKs."""

    data: bytes
    size: int
    count: int
    acks: bytes  # what a 3.1.1 server must answer, in order (3.1.1, 4.6)


def build(
    robots: range, count: int, *, qos: int, version: int = 4, kind: str = "pose", first: int = 0
) -> Run:
    """Build ``count`` messages, over ``robots`` in turn, each with a sequence number of its own.

    A robot's next message is of a later millisecond, as no robot sends twice in one.
    With QoS 0 one more follows with QoS 1: its PUBACK says that all before it were taken.
    """
    make = pose if kind == "pose" else sensor
    now = time.time_ns() // 1_000_000
    topics = [topic(number, kind) for number in robots]
    parts = [
        publish(
            topics[i % len(topics)],
            make(FIRST_SEQ + first + i, now + i // len(topics)),
            qos=qos,
            packet_id=i % MAX_ID + 1,
            version=version,
        )
        for i in range(count)
    ]
    size = len(parts[0])
    if any(len(part) != size for part in parts):
        raise ValueError("packets of one run must have one length")
    if qos == 0:
        last = make(FIRST_SEQ + first + count, now + 1 + count // len(topics))
        parts.append(publish(topics[0], last, qos=1, packet_id=1, version=version))
        return Run(b"".join(parts), size, count, puback(1))
    acks = b"".join(puback(i % MAX_ID + 1) for i in range(count))
    return Run(b"".join(parts), size, count, acks)
