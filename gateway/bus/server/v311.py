"""MQTT 3.1.1 behind the server."""

from collections.abc import Sequence

from gateway.bus.server.dialect import Aliases
from gateway.core import mqtt311
from gateway.core.mqtt import Connect, ProtocolError, Publish, Reason, Request

_CONNACK = {
    Reason.SUCCESS: mqtt311.ACCEPTED,
    Reason.VERSION: mqtt311.REFUSED_VERSION,
    Reason.CLIENT_ID: mqtt311.REFUSED_CLIENT_ID,
    Reason.QUOTA: mqtt311.REFUSED_UNAVAILABLE,
    Reason.UNAVAILABLE: mqtt311.REFUSED_UNAVAILABLE,
    Reason.BAD_LOGIN: mqtt311.REFUSED_LOGIN,
    Reason.NOT_AUTHORIZED: mqtt311.REFUSED_NOT_AUTHORIZED,
}


class V311:
    """See ``Dialect``."""

    version = 4
    scan = staticmethod(mqtt311.scan)

    def __init__(self, *, levels: int) -> None:
        self._levels = levels

    def connect(self, data: bytes, pos: int, at: int, stop: int) -> Connect:
        return mqtt311.decode_connect(data, at, stop)

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
        code = _CONNACK.get(reason)
        if code is None:  # 3.1.1 has no word for it: closing is the answer (3.1.4)
            return b""
        return mqtt311.encode_connack(code, session_present=session_present)

    def publish(
        self,
        head: int,
        data: bytes,
        pos: int,
        at: int,
        stop: int,
        aliases: Aliases,
    ) -> Publish:
        return mqtt311.decode_publish(head, data, at, stop, levels=self._levels)

    def refuse(self, packet: Publish, reason: Reason) -> bytes:
        # There is no negative acknowledgement: it is answered as if it were taken (3.3.5).
        kind = mqtt311.PUBACK if packet.qos == 1 else mqtt311.PUBREC
        return mqtt311.encode_ack(kind, packet.packet_id)

    def answer(
        self,
        head: int,
        data: bytes,
        pos: int,
        at: int,
        stop: int,
    ) -> tuple[int, int]:
        return mqtt311.decode_ack(data, at, stop), 0

    def unknown(self, kind: bytes, packet_id: int) -> bytes:
        return mqtt311.encode_ack(kind, packet_id)

    def subscribe(
        self,
        data: bytes,
        pos: int,
        at: int,
        stop: int,
    ) -> tuple[int, Sequence[Request]]:
        return mqtt311.decode_subscribe(data, at, stop)

    def suback(self, packet_id: int, codes: Sequence[int]) -> bytes:
        return mqtt311.encode_suback(packet_id, [min(code, 0x80) for code in codes])

    def unsubscribe(
        self,
        data: bytes,
        pos: int,
        at: int,
        stop: int,
    ) -> tuple[int, Sequence[str]]:
        return mqtt311.decode_unsubscribe(data, at, stop)

    def unsuback(self, packet_id: int, codes: Sequence[int]) -> bytes:
        return b"\xb0\x02" + packet_id.to_bytes(2, "big")

    def goodbye(
        self,
        data: bytes,
        pos: int,
        at: int,
        stop: int,
    ) -> tuple[int, int | None]:
        if at != stop:
            raise ProtocolError(Reason.MALFORMED, "DISCONNECT with a body")
        return 0, None

    def disconnect(self, reason: Reason, detail: str = "") -> bytes:
        return b""
