"""What a client says in MQTT 3.1.1 (OASIS MQTT Version 3.1.1, 3.1 and 3.8)."""

from collections.abc import Sequence
from typing import Final

from gateway.core.mqtt import text, varint

_LEVEL: Final = 4
_USER: Final = 0x80
_PASSWORD: Final = 0x40

REFUSALS: Final = {
    1: "UNSUPPORTED_PROTOCOL_VERSION",
    2: "CLIENT_ID_NOT_VALID",
    3: "SERVER_UNAVAILABLE",
    4: "BAD_USER_NAME_OR_PASSWORD",
    5: "NOT_AUTHORIZED",
}
"""Return codes of a CONNACK, in the words of MQTT 5."""


def encode_connect(
    client_id: str, *, keep_alive_s: int, user: str | None, password: bytes | None
) -> bytes:
    """Return a CONNECT without a will that asks for a session that is kept.

    ``password`` is left out without ``user``: 3.1.1 forbids it (3.1.2.9).
    """
    flags, login = 0, b""
    if user is not None:
        flags, login = _USER, text(user)
        if password is not None:
            flags |= _PASSWORD
            login += len(password).to_bytes(2, "big") + password
    head = text("MQTT") + bytes((_LEVEL, flags)) + keep_alive_s.to_bytes(2, "big")
    body = head + text(client_id) + login
    return b"\x10" + varint(len(body)) + body


def encode_subscribe(packet_id: int, filters: Sequence[str], *, qos: int) -> bytes:
    """Return a SUBSCRIBE for ``filters``, all at ``qos``."""
    body = packet_id.to_bytes(2, "big")
    body += b"".join(text(pattern) + bytes((qos,)) for pattern in filters)
    return b"\x82" + varint(len(body)) + body
