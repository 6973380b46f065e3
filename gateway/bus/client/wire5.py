"""MQTT 5, decoded by the mqtt5 codec."""

from collections.abc import Sequence
from typing import Final

import mqtt5

from gateway.bus.client.wire import KNOWN_TOPICS, MAX_PACKET_BYTES, Answer, Events, Greeting
from gateway.bus.port import Item
from gateway.core.mqtt import CONNACK, PUBLISH, ProtocolError, Reason, frame, topic_name
from gateway.core.mqtt5wire import check_strings, scan

_CONNACK_OF_311: Final = 4  # bytes; that of 5 has at least one more, for its properties


class Wire5:
    """MQTT 5 on one connection; remembers the broker's topic aliases."""

    version = "5"

    def __init__(self, topic_aliases: int) -> None:
        self._alias_max = topic_aliases
        self._aliases: dict[int, str] = {}
        self._known: dict[bytes, str] = {}

    def connect(self, greeting: Greeting) -> bytes:
        """Return the CONNECT; the broker keeps the session for ``session_expiry_s``."""
        return mqtt5.ConnectPacket(
            greeting.client_id,
            username=greeting.user,
            password=greeting.password,
            clean_start=False,
            keep_alive=greeting.keepalive_s,
            session_expiry_interval=min(greeting.session_expiry_s, 0xFFFF_FFFF),
            receive_max=greeting.receive_maximum,
            topic_alias_max=greeting.topic_aliases,
            max_packet_size=MAX_PACKET_BYTES,
        ).write()

    def subscribe(self, packet_id: int, filters: Sequence[str]) -> bytes:
        """Return the SUBSCRIBE at QoS 1, retained messages sent every time."""
        wanted = [
            mqtt5.TopicFilter(
                pattern,
                max_qos=mqtt5.QoS.AT_LEAST_ONCE,
                retain_handling=mqtt5.RetainHandling.SEND_ALWAYS,
            )
            for pattern in filters
        ]
        return mqtt5.SubscribePacket(packet_id, wanted).write()

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
                check_strings(head, data, at, stop)
            packet = _read(data, position, stop)
            position = stop
            if not isinstance(packet, mqtt5.PublishPacket):
                _tell(packet, events)
                continue
            topic, packet_id, alias = packet.topic, packet.packet_id, packet.topic_alias
            if alias is not None:
                topic = self._resolve(alias, topic)
            self._learn(topic)
            if packet_id is None:
                items.append((topic, packet.payload))
            elif not packet_id:
                raise ProtocolError(Reason.PROTOCOL, "packet id 0")
            elif not head & 0x04:  # QoS 1; 3 was refused by the codec
                items.append((topic, packet.payload))
                acks.append(packet_id.to_bytes(2, "big"))
            elif events.exactly_once(packet_id):
                items.append((topic, packet.payload))

    def _learn(self, topic: str) -> None:
        raw = topic.encode()
        if raw not in self._known:
            topic_name(raw)
            if len(self._known) >= KNOWN_TOPICS:
                self._known.clear()
            self._known[raw] = topic

    def _resolve(self, alias: int, topic: str) -> str:
        """Return the topic that ``alias`` stands for, learnt when both are there (3.3.2.3.4)."""
        if not 0 < alias <= self._alias_max:
            raise ProtocolError(
                Reason.TOPIC_ALIAS, f"topic alias {alias} over the maximum of {self._alias_max}"
            )
        if topic:
            self._aliases[alias] = topic
            return topic
        known = self._aliases.get(alias)
        if known is None:
            raise ProtocolError(Reason.TOPIC_ALIAS, f"topic alias {alias} was never set")
        return known


def _read(data: bytes, start: int, stop: int) -> mqtt5.Packet | Answer:
    """Return the packet ``data[start:stop]``, or what a broker of 3.1.1 answered to CONNECT."""
    if stop - start == _CONNACK_OF_311 and data[start] >> 4 == CONNACK:
        code = data[start + 3]
        return Answer(code=code, reason=f"return code {code}")
    try:
        packet, _ = mqtt5.read(memoryview(data)[start:stop])
    except (IndexError, ValueError) as error:
        raise ProtocolError(Reason.MALFORMED, str(error)) from error
    except BaseException as error:  # the codec panics at a string that is not UTF-8
        if type(error).__name__ != "PanicException":
            raise
        raise ProtocolError(Reason.MALFORMED, "string is not UTF-8") from error
    return packet


def _tell(packet: mqtt5.Packet | Answer, events: Events) -> None:
    match packet:
        case Answer():
            events.connack(packet)
        case mqtt5.ConnAckPacket():
            events.connack(
                Answer(
                    code=int(packet.reason_code),
                    reason=packet.reason_code.name,
                    session_present=packet.session_present,
                    keepalive_s=packet.server_keep_alive,
                )
            )
        case mqtt5.SubAckPacket():
            events.suback([int(code) for code in packet.reason_codes])
        case mqtt5.PubRelPacket():
            events.pubrel(packet.packet_id)
        case mqtt5.PingRespPacket():
            pass  # any byte from the broker counts as a sign of life
        case mqtt5.DisconnectPacket():
            events.goodbye(packet.reason_code.name)
        case _:
            raise ProtocolError(Reason.PROTOCOL, f"unexpected {type(packet).__name__}")
