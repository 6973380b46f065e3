"""MQTT 3.1.1, for brokers that refuse 5."""

from collections.abc import Sequence

from gateway.bus.client.wire import KNOWN_TOPICS, MAX_PACKET_BYTES, Answer, Events, Greeting
from gateway.bus.port import Item
from gateway.core.mqtt import (
    CONNACK,
    PINGRESP,
    PUBLISH,
    PUBREL,
    SUBACK,
    ProtocolError,
    Reason,
    frame,
)
from gateway.core.mqtt311 import decode_ack, decode_publish, scan
from gateway.core.mqtt311_client import REFUSALS, encode_connect, encode_subscribe


class Wire311:
    """MQTT 3.1.1 on one connection."""

    version = "3.1.1"

    def __init__(self) -> None:
        self._known: dict[bytes, str] = {}

    def connect(self, greeting: Greeting) -> bytes:
        """Return the CONNECT; how long the session is kept is up to the broker."""
        return encode_connect(
            greeting.client_id,
            keep_alive_s=greeting.keepalive_s,
            user=greeting.user,
            password=greeting.password,
        )

    def subscribe(self, packet_id: int, filters: Sequence[str]) -> bytes:
        """Return the SUBSCRIBE at QoS 1."""
        return encode_subscribe(packet_id, filters, qos=1)

    def decode(self, data: bytes, items: list[Item], acks: list[bytes], events: Events) -> int:
        """Decode whole packets; see ``Wire.decode``."""
        position = 0
        while True:
            position = scan(data, position, self._known, items, acks)
            at, stop = frame(data, position, MAX_PACKET_BYTES)
            if not at or stop > len(data):
                return position
            head = data[position]
            if head >> 4 == PUBLISH:
                self._publish(head, data, at, stop, items, acks, events)
            else:
                _tell(head >> 4, data, at, stop, events)
            position = stop

    def _publish(
        self,
        head: int,
        data: bytes,
        at: int,
        stop: int,
        items: list[Item],
        acks: list[bytes],
        events: Events,
    ) -> None:
        """Take what ``scan`` left: a new topic, a retained, repeated or long message, QoS 2."""
        packet = decode_publish(head, data, at, stop)
        if len(self._known) >= KNOWN_TOPICS:
            self._known.clear()
        self._known[packet.topic.encode()] = packet.topic
        if packet.qos < 2 or events.exactly_once(packet.packet_id):
            items.append((packet.topic, packet.payload))
        if packet.qos == 1:
            acks.append(packet.packet_id.to_bytes(2, "big"))


def _tell(kind: int, data: bytes, at: int, stop: int, events: Events) -> None:
    if kind == PINGRESP:
        return  # any byte from the broker counts as a sign of life
    if stop < at + 2:
        raise ProtocolError(Reason.MALFORMED, "packet too short")
    if kind == CONNACK:
        code = data[at + 1]
        reason = REFUSALS.get(code, f"return code {code}")
        events.connack(Answer(code=code, reason=reason, session_present=bool(data[at] & 1)))
    elif kind == SUBACK:
        events.suback(data[at + 2 : stop])
    elif kind == PUBREL:
        events.pubrel(decode_ack(data, at, stop))
    else:
        raise ProtocolError(Reason.PROTOCOL, f"unexpected packet type {kind}")
