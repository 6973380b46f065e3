"""WebSocket frames as a server sends them: unmasked, one frame a message (RFC 6455, section 5.2).

A frame made here once is written to every reader of it.
"""

from typing import Final

TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
_FIN: Final = 0x80
MAX_CONTROL: Final = 125  # bytes of payload in a control frame (section 5.5)


def frame(opcode: int, payload: bytes) -> bytes:
    """Return one whole frame, not compressed."""
    size = len(payload)
    if size < 126:
        return bytes((_FIN | opcode, size)) + payload
    if size < 65_536:
        return bytes((_FIN | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_FIN | opcode, 127)) + size.to_bytes(8, "big") + payload


def text(payload: bytes) -> bytes:
    """Return a text message; ``payload`` is UTF-8."""
    return frame(TEXT, payload)


def ping(number: int) -> bytes:
    """Return a ping that carries ``number``, which its pong brings back."""
    return frame(PING, b"%d" % number)


def pong(payload: bytes) -> bytes:
    """Return the answer to a ping with ``payload``."""
    return frame(PONG, payload[:MAX_CONTROL])


def close(code: int, reason: str = "") -> bytes:
    """Return a close frame; ``reason`` is cut to what fits."""
    kept = reason.encode()[: MAX_CONTROL - 2].decode(errors="ignore").encode()
    return frame(CLOSE, code.to_bytes(2, "big") + kept)


def number_of(pong_payload: bytes) -> int | None:
    """Return the number that a pong brings back, or None if the pong is none of ours."""
    if len(pong_payload) > 18 or not pong_payload.isdigit():
        return None
    return int(pong_payload)
