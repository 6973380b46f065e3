"""What the connection needs of a version of MQTT."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.bus.port import Item

MAX_PACKET_BYTES: Final = 16_777_216
"""Largest packet taken. A broker that speaks 5 is told and drops larger ones itself;
3.1.1 cannot say it, there a larger one ends the connection."""

KNOWN_TOPICS: Final = 4_096
"""Topic names remembered as checked."""

UNSUPPORTED_VERSION: Final = frozenset((0x01, 0x84))  # CONNACK of 3.1.1, of 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What a CONNECT says. ``password`` only together with ``user``."""

    client_id: str
    user: str | None
    password: bytes | None
    keepalive_s: int
    session_expiry_s: int
    receive_maximum: int
    topic_aliases: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A CONNACK. ``keepalive_s`` is set when the broker imposes another one."""

    code: int
    reason: str
    session_present: bool = False
    keepalive_s: int | None = None


class Events(Protocol):
    """Who hears of everything but ordinary messages, in the order of arrival."""

    def connack(self, answer: Answer) -> None:
        """Take the answer to CONNECT."""

    def suback(self, codes: Sequence[int]) -> None:
        """Take the answer to SUBSCRIBE: one code per filter, >= 0x80 refused."""

    def exactly_once(self, packet_id: int) -> bool:
        """Return whether a QoS 2 PUBLISH is new, and must be handed over."""

    def pubrel(self, packet_id: int) -> None:
        """Take the release of a QoS 2 packet id."""

    def goodbye(self, reason: str) -> None:
        """Take the broker's DISCONNECT."""


class Wire(Protocol):
    """One version of MQTT on one connection."""

    @property
    def version(self) -> str:
        """ "5" or "3.1.1"."""

    def connect(self, greeting: Greeting) -> bytes:
        """Return the CONNECT, with the session kept."""

    def subscribe(self, packet_id: int, filters: Sequence[str]) -> bytes:
        """Return the SUBSCRIBE at QoS 1, with retained messages wanted every time."""

    def decode(self, data: bytes, items: list[Item], acks: list[bytes], events: Events) -> int:
        """Decode the whole packets at the start of ``data``; return the bytes that they used.

        Messages are appended to ``items``, the packet ids of those with QoS 1 to ``acks``.

        Raises:
            ProtocolError: the broker breaks the protocol.
        """
