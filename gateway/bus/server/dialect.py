"""What differs between the versions of MQTT, as the rest of the server sees it."""

from collections.abc import Sequence
from typing import Protocol

from gateway.core.mqtt import Connect, Publish, Reason, Request, Scan


class Aliases(Protocol):
    """The topic aliases that a client set on its connection."""

    def __getitem__(self, alias: int) -> str:
        """Return the topic; KeyError if the client never set it."""

    def __setitem__(self, alias: int, topic: str) -> None:
        """Set the topic of ``alias``."""


class Dialect(Protocol):
    """One version on the wire. ``data[at:stop]`` is the body of a whole packet, ``head`` its first
    byte. Decoders raise ProtocolError. Encoders return b"" for what the version does not have.
    """

    version: int

    @property
    def scan(self) -> Scan:
        """Return the hot loop."""

    def connect(self, data: bytes, pos: int, at: int, stop: int) -> Connect:
        """Decode a CONNECT; ``pos`` is where its fixed header starts."""

    def connack(
        self,
        reason: Reason,
        connect: Connect | None = None,
        *,
        session_present: bool = False,
        expiry_s: int = 0,
        assigned_id: str | None = None,
        detail: str = "",
    ) -> bytes:
        """Encode a CONNACK; ``connect`` is what it answers, if that was readable."""

    def publish(
        self, head: int, data: bytes, pos: int, at: int, stop: int, aliases: Aliases
    ) -> Publish:
        """Decode a PUBLISH of any kind."""

    def refuse(self, packet: Publish, reason: Reason) -> bytes:
        """Encode the answer to a QoS 1 or 2 PUBLISH that is not taken."""

    def answer(self, head: int, data: bytes, pos: int, at: int, stop: int) -> tuple[int, int]:
        """Decode a PUBACK, PUBREC, PUBREL or PUBCOMP: (packet id, reason code)."""

    def unknown(self, kind: bytes, packet_id: int) -> bytes:
        """Encode a PUBREL or PUBCOMP for an id that is not in use."""

    def subscribe(self, data: bytes, pos: int, at: int, stop: int) -> tuple[int, Sequence[Request]]:
        """Decode a SUBSCRIBE."""

    def suback(self, packet_id: int, codes: Sequence[int]) -> bytes:
        """Encode a SUBACK; codes are those of version 5."""

    def unsubscribe(self, data: bytes, pos: int, at: int, stop: int) -> tuple[int, Sequence[str]]:
        """Decode an UNSUBSCRIBE."""

    def unsuback(self, packet_id: int, codes: Sequence[int]) -> bytes:
        """Encode an UNSUBACK."""

    def goodbye(self, data: bytes, pos: int, at: int, stop: int) -> tuple[int, int | None]:
        """Decode a DISCONNECT: (reason code, new session expiry in seconds)."""

    def disconnect(self, reason: Reason, detail: str = "") -> bytes:
        """Encode a DISCONNECT."""
