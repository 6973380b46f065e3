"""A WebSocket client that costs little: it only reads. RFC 6455.

One reader is one socket; frames are split from the bytes as they come. A message that many readers
get in the same bytes is decoded once: what is measured is the server, not this JSON decoder.
"""

import base64
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

_TEXT: Final = 0x1
_CLOSE: Final = 0x8
_PING: Final = 0x9
_REMEMBERED: Final = 4_096  # decoded messages


class Closed(Exception):
    """The server closed the stream, or answered the handshake with something else."""


class _Pose(msgspec.Struct, gc=False):
    id: str
    seq: int | None = None


class _Message(msgspec.Struct, gc=False):
    type: str
    offset: int | None = None
    poses: list[_Pose] = msgspec.field(default_factory=list)


@dataclass(slots=True, frozen=True)
class Seen:
    """What one frame said. ``seqs`` in its order; ``offset`` -1: the server numbers nothing."""

    kind: str
    offset: int
    seqs: tuple[int, ...]


_decode = msgspec.json.Decoder(_Message).decode
_seen: dict[bytes, Seen] = {}


def understand(payload: bytes) -> Seen:
    """Decode a message of /ws/coordinates; the same bytes are decoded once."""
    seen = _seen.get(payload)
    if seen is None:
        message = _decode(payload)
        seqs = tuple(pose.seq for pose in message.poses if pose.seq is not None)
        seen = Seen(message.type, -1 if message.offset is None else message.offset, seqs)
        if len(_seen) >= _REMEMBERED:
            _seen.clear()
        _seen[payload] = seen
    return seen


class Reader:
    """A WebSocket that reads poses."""

    def __init__(self, port: int, path: str, *, receive_buffer: int = 0) -> None:
        self.sock = socket.socket()
        if receive_buffer:  # before connect: it decides the window
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(20)
        self.sock.connect(("127.0.0.1", port))
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            part = self.sock.recv(1) if receive_buffer else self.sock.recv(65_536)
            if not part:
                raise Closed(f"handshake: closed after {head[:80]!r}")
            head += part
        status, _, self._rest = head.partition(b"\r\n\r\n")
        if not status.startswith(b"HTTP/1.1 101 "):
            raise Closed(f"handshake: {status.splitlines()[0].decode('latin-1')}")
        self.sock.settimeout(0)

    def read(self, size: int = 262_144) -> list[bytes]:
        """Return the messages that are complete now; answers pings.

        Raises:
            Closed: the server ended the stream.
        """
        try:
            data = self.sock.recv(size)
            if not data:
                raise Closed("the server closed the connection")
        except BlockingIOError:
            data = b""
        if self._rest:  # with the first read: what came together with the answer to the handshake
            data = self._rest + data
        messages: list[bytes] = []
        at = 0
        for opcode, start, end in frames(data):
            if opcode == _TEXT:
                messages.append(data[start:end])
            elif opcode == _PING:
                self.sock.send(b"\x8a" + bytes((0x80 | end - start, 0, 0, 0, 0)) + data[start:end])
            elif opcode == _CLOSE:
                raise Closed(f"close code {int.from_bytes(data[start : start + 2], 'big')}")
            at = end
        self._rest = data[at:]
        return messages

    def close(self) -> None:
        """End it without a closing handshake."""
        self.sock.close()


def frames(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Return (opcode, start, end) of the payload of each whole unmasked frame. RFC 6455, 5.2."""
    at, have = 0, len(data)
    while at + 2 <= have:
        size, start = data[at + 1], at + 2
        if size == 126:
            size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
        elif size == 127:
            size, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
        if start > have or start + size > have:
            return
        yield data[at] & 0xF, start, start + size
        at = start + size
