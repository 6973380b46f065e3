"""MQTT 5 behind the server, on the ``mqtt5`` codec."""

from collections.abc import Sequence
from typing import TypeVar

import mqtt5

from gateway.bus.server.dialect import Aliases
from gateway.config.model import BusLimits
from gateway.core import mqtt5wire, mqtt311
from gateway.core.mqtt import (
    CONNECT,
    DISCONNECT,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Connect,
    Properties,
    ProtocolError,
    Publish,
    Reason,
    Request,
    Will,
    topic_name,
    valid_filter,
)

TOPIC_ALIASES = 256
"""How many topic aliases a client may set on its connection; each costs a topic in memory."""

_NEVER = 0xFFFF_FFFF  # a session expiry that means "do not expire" (3.1.2.11.2)

P = TypeVar("P")


def _malformed(detail: str) -> ProtocolError:
    return ProtocolError(Reason.MALFORMED, detail)


def _read(kind: type[P], head: int, data: bytes, pos: int, at: int, stop: int) -> P:
    mqtt5wire.check_strings(head, data, at, stop)
    try:
        packet, _ = mqtt5.read(memoryview(data)[pos:stop])
    except (ValueError, IndexError) as error:
        raise _reason_of(error) from None
    if not isinstance(packet, kind):
        raise _malformed("unexpected packet")
    return packet


def _reason_of(error: Exception) -> ProtocolError:
    detail = str(error)
    if "alias" in detail:  # 0, or an empty topic without one (3.3.2.3.4)
        return ProtocolError(Reason.TOPIC_ALIAS, detail)
    if "Duplicate" in detail or "!= 0" in detail:  # protocol errors, not malformed (2.2.2.2)
        return ProtocolError(Reason.PROTOCOL, detail)
    return _malformed(detail)


def _properties(packet: mqtt5.PublishPacket | mqtt5.Will) -> Properties | None:
    found = Properties(
        packet.payload_format_indicator,
        packet.message_expiry_interval,
        packet.content_type,
        packet.response_topic,
        packet.correlation_data,
        tuple(packet.user_properties),
    )
    if found.payload_format > 1:
        raise ProtocolError(Reason.PROTOCOL, "payload format indicator over 1")
    if found.response_topic is not None:
        topic_name(found.response_topic.encode())
    return None if found == Properties() else found


class V5:
    """See ``Dialect``."""

    version = 5
    scan = staticmethod(mqtt5wire.scan)

    def __init__(self, limits: BusLimits) -> None:
        self._limits = limits

    def connect(self, data: bytes, pos: int, at: int, stop: int) -> Connect:
        packet = _read(mqtt5.ConnectPacket, CONNECT << 4, data, pos, at, stop)
        will = None
        if packet.will is not None:
            will = Will(
                topic_name(packet.will.topic.encode()),
                packet.will.payload or b"",
                int(packet.will.qos),
                packet.will.retain,
                packet.will.will_delay_interval,
                _properties(packet.will),
            )
        expiry_s = packet.session_expiry_interval
        return Connect(
            client_id=packet.client_id,
            clean=packet.clean_start,
            keep_alive_s=packet.keep_alive,
            will=will,
            username=packet.username,
            password=packet.password,
            expiry_s=None if expiry_s == _NEVER else expiry_s,
            receive_max=packet.receive_max,
            max_packet=packet.max_packet_size,
            auth_method=packet.authentication_method,
        )

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
        code = mqtt5.ConnAckReasonCode(reason)
        if reason:
            return mqtt5.ConnAckPacket(reason_code=code, reason_str=detail or None).write()
        return mqtt5.ConnAckPacket(
            session_present=session_present,
            session_expiry_interval=(
                None if connect is None or connect.expiry_s == expiry_s else expiry_s
            ),
            assigned_client_id=assigned_id,
            receive_max=self._limits.inflight,
            topic_alias_max=TOPIC_ALIASES,
            max_packet_size=self._limits.packet_bytes,
            subscription_id_available=False,
            shared_subscription_available=False,
        ).write()

    def publish(
        self, head: int, data: bytes, pos: int, at: int, stop: int, aliases: Aliases
    ) -> Publish:
        levels = self._limits.topic_levels
        qos = head >> 1 & 3
        if qos == 3 or head & 0x0E == 8:
            raise _malformed("QoS 3, or DUP with QoS 0")
        raw, after = mqtt311.field(data, at, stop)
        body = after + 2 if qos else after
        if body >= stop:
            raise _malformed("PUBLISH too short")
        packet_id = data[after] << 8 | data[after + 1] if qos else 0
        if qos and not packet_id:
            raise ProtocolError(Reason.PROTOCOL, "packet id 0")
        retain, dup = bool(head & 1), bool(head & 8)
        if data[body] == 0 and raw:  # no properties: nothing that needs the codec
            topic = topic_name(raw, levels)
            return Publish(topic, data[body + 1 : stop], qos, retain, dup, packet_id)
        packet = _read(mqtt5.PublishPacket, head, data, pos, at, stop)
        if packet.subscription_ids:
            raise ProtocolError(Reason.PROTOCOL, "subscription identifier from a client")
        alias = packet.topic_alias
        if alias is not None and alias > TOPIC_ALIASES:
            raise ProtocolError(Reason.TOPIC_ALIAS, f"topic alias {alias} over {TOPIC_ALIASES}")
        if raw:
            topic = topic_name(raw, levels)
            if alias is not None:
                aliases[alias] = topic
        else:
            try:
                topic = aliases[alias or 0]
            except KeyError:
                raise ProtocolError(Reason.PROTOCOL, f"topic alias {alias} is not set") from None
        return Publish(topic, packet.payload, qos, retain, dup, packet_id, _properties(packet))

    def refuse(self, packet: Publish, reason: Reason) -> bytes:
        kind = b"\x40\x03" if packet.qos == 1 else b"\x50\x03"
        return kind + packet.packet_id.to_bytes(2, "big") + bytes((reason,))

    def answer(self, head: int, data: bytes, pos: int, at: int, stop: int) -> tuple[int, int]:
        reason = 0
        if stop - at < 2:
            raise _malformed("acknowledgement too short")
        if stop - at > 2:
            packet: mqtt5.PubAckPacket | mqtt5.PubRecPacket | mqtt5.PubRelPacket
            packet = _read(_ANSWERS[head >> 4], head, data, pos, at, stop)
            reason = int(packet.reason_code)
        packet_id = data[at] << 8 | data[at + 1]
        if not packet_id:
            raise ProtocolError(Reason.PROTOCOL, "packet id 0")
        return packet_id, reason

    def unknown(self, kind: bytes, packet_id: int) -> bytes:
        head = kind[:1] + b"\x03"
        return head + packet_id.to_bytes(2, "big") + bytes((Reason.PACKET_ID_UNKNOWN,))

    def subscribe(self, data: bytes, pos: int, at: int, stop: int) -> tuple[int, Sequence[Request]]:
        packet = _read(mqtt5.SubscribePacket, SUBSCRIBE << 4, data, pos, at, stop)
        if packet.subscription_id is not None:
            raise ProtocolError(Reason.NO_SUBSCRIPTION_IDS, "subscription identifiers are not had")
        if not packet.packet_id or not packet.topic_filters:
            raise ProtocolError(Reason.PROTOCOL, "SUBSCRIBE without a packet id or a filter")
        requests = []
        for wanted in packet.topic_filters:
            pattern = wanted.pattern
            if wanted.no_local and pattern.startswith("$share/") and valid_filter(pattern):
                raise ProtocolError(Reason.PROTOCOL, "no-local on a shared subscription")
            requests.append(
                Request(
                    pattern,
                    int(wanted.max_qos),
                    wanted.no_local,
                    wanted.retain_as_published,
                    int(wanted.retain_handling),
                )
            )
        return packet.packet_id, requests

    def suback(self, packet_id: int, codes: Sequence[int]) -> bytes:
        return mqtt5.SubAckPacket(
            packet_id, [mqtt5.SubAckReasonCode(code) for code in codes]
        ).write()

    def unsubscribe(self, data: bytes, pos: int, at: int, stop: int) -> tuple[int, Sequence[str]]:
        packet = _read(mqtt5.UnsubscribePacket, UNSUBSCRIBE << 4, data, pos, at, stop)
        if not packet.packet_id or not packet.patterns:
            raise ProtocolError(Reason.PROTOCOL, "UNSUBSCRIBE without a packet id or a filter")
        return packet.packet_id, packet.patterns

    def unsuback(self, packet_id: int, codes: Sequence[int]) -> bytes:
        reasons = [mqtt5.UnsubAckReasonCode(code) for code in codes]
        return mqtt5.UnsubAckPacket(packet_id, reasons).write()

    def goodbye(self, data: bytes, pos: int, at: int, stop: int) -> tuple[int, int | None]:
        packet = _read(mqtt5.DisconnectPacket, DISCONNECT << 4, data, pos, at, stop)
        return int(packet.reason_code), packet.session_expiry_interval

    def disconnect(self, reason: Reason, detail: str = "") -> bytes:
        code = mqtt5.DisconnectReasonCode(reason)
        return mqtt5.DisconnectPacket(reason_code=code, reason_str=detail or None).write()


_ANSWERS = {
    4: mqtt5.PubAckPacket,
    5: mqtt5.PubRecPacket,
    6: mqtt5.PubRelPacket,
    7: mqtt5.PubCompPacket,
}
