"""A message on its way to subscribers."""

import time

import mqtt5

from gateway.core.mqtt import Properties, Publish, Will, text, varint


class Message:
    """What one PUBLISH said, with its bytes encoded once for all subscribers of a version."""

    __slots__ = ("_name", "_plain", "_tail5", "expires", "payload", "properties", "qos", "retain",
                 "topic")  # fmt: skip

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        *,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        expiry_s = properties.expiry_s if properties is not None else None
        self.expires = None if expiry_s is None else time.monotonic() + expiry_s
        self._name: bytes | None = None
        self._tail5: bytes | None = None
        self._plain: dict[tuple[int, bool], bytes] | None = None

    @classmethod
    def of(cls, packet: Publish | Will) -> "Message":
        """Return the message in a PUBLISH or a will."""
        return cls(
            packet.topic,
            packet.payload,
            packet.qos,
            retain=packet.retain,
            properties=packet.properties,
        )

    @property
    def size(self) -> int:
        """Return what the message costs in memory, about, in bytes."""
        return len(self.topic) + len(self.payload)

    def expired(self) -> bool:
        """Tell whether its message expiry interval (MQTT 5, 3.3.2.3.3) is over."""
        return self.expires is not None and time.monotonic() >= self.expires

    def frame(self, version: int, *, retain: bool) -> bytes:
        """Return the bytes of a QoS 0 PUBLISH."""
        if self.expires is not None:
            return self._encode(version, 0x30 | retain, b"")
        plain = self._plain
        if plain is None:
            plain = self._plain = {}
        key = (version, retain)
        found = plain.get(key)
        if found is None:
            found = plain[key] = self._encode(version, 0x30 | retain, b"")
        return found

    def tracked(
        self, version: int, qos: int, packet_id: int, *, retain: bool, again: bool = False
    ) -> bytes:
        """Return the bytes of a QoS 1 or 2 PUBLISH; ``again`` marks it as sent before (DUP)."""
        head = 0x30 | again << 3 | qos << 1 | retain
        return self._encode(version, head, packet_id.to_bytes(2, "big"))

    def _encode(self, version: int, head: int, packet_id: bytes) -> bytes:
        name = self._name
        if name is None:
            name = self._name = text(self.topic)
        tail = self.payload if version == 4 else self._tail()
        length = len(name) + len(packet_id) + len(tail)
        return b"".join((bytes((head,)), varint(length), name, packet_id, tail))

    def _tail(self) -> bytes:
        """Return properties and payload as version 5 has them."""
        if self._tail5 is not None:
            return self._tail5
        properties = self.properties
        if properties is None:
            tail = b"\0" + self.payload
        else:
            left_s = None
            if self.expires is not None:  # the time spent here counts (3.3.2.3.3)
                left_s = max(1, round(self.expires - time.monotonic()))
            head = mqtt5.PublishPacket(
                "-",
                b"",
                payload_format_indicator=properties.payload_format,
                message_expiry_interval=left_s,
                content_type=properties.content_type,
                response_topic=properties.response_topic,
                correlation_data=properties.correlation,
                user_properties=list(properties.user),
            ).write()
            # What follows the fixed header and the topic "-" are the properties.
            start = 1
            while head[start] > 0x7F:
                start += 1
            tail = head[start + 4 :] + self.payload
        if self.expires is None:
            self._tail5 = tail
        return tail
