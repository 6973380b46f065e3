"""What the packets of one client mean."""

from typing import Final

from gateway.bus.server.broker import Broker, new_client_id
from gateway.bus.server.dialect import Dialect
from gateway.bus.server.link import Goodbye, Link
from gateway.bus.server.message import Message
from gateway.bus.server.session import Session
from gateway.bus.server.wire import Registry
from gateway.core import mqtt311
from gateway.core.mqtt import (
    DISCONNECT,
    NEEDS_FLAGS,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Connect,
    ProtocolError,
    Reason,
    Will,
    topic_name,
)

_CLIENT_ID_CHARS: Final = 256
_WINDOW_311: Final = 100  # unconfirmed messages to a client that cannot say how many it takes


class Connection(Link):
    """One client, from CONNECT to its end."""

    __slots__ = ("_aliases", "_dialects", "_may_keep", "_will")

    def __init__(self, broker: Broker, registry: Registry, dialects: dict[int, Dialect]) -> None:
        super().__init__(broker, registry)
        self._dialects = dialects
        self._aliases: dict[int, str] = {}
        self._will: Will | None = None
        self._may_keep = False  # the client asked for a session that outlives the connection

    def __str__(self) -> str:
        """For the log."""
        if self.session is not None:
            return repr(self.session.client_id)
        return str(self._transport.get_extra_info("peername"))

    def packet(
        self,
        head: int,
        data: bytes,
        pos: int,
        at: int,
        stop: int,
        items: list[tuple[str, bytes]],
        acks: list[bytes],
    ) -> None:
        """Do what a packet says."""
        kind = head >> 4
        if kind != PUBLISH and head & 15 != NEEDS_FLAGS.get(kind, 0):
            raise ProtocolError(Reason.MALFORMED, "reserved bits of the fixed header")
        session, dialect = self.session, self.dialect
        if session is None or dialect is None:
            self._open(data, pos, at, stop)
        elif kind == PUBLISH:
            self._publish(session, dialect, head, data, pos, at, stop, items, acks)
        elif PUBACK <= kind <= PUBCOMP:
            packet_id, reason = dialect.answer(head, data, pos, at, stop)
            self._answer(session, dialect, kind, packet_id, reason)
        elif kind == PINGREQ:
            if at != stop:
                raise ProtocolError(Reason.MALFORMED, "PINGREQ with a body")
            self.send(mqtt311.PINGRESP)
        elif kind == SUBSCRIBE:
            self._subscribe(session, dialect, data, pos, at, stop)
        elif kind == UNSUBSCRIBE:
            packet_id, patterns = dialect.unsubscribe(data, pos, at, stop)
            codes = [self.broker.unsubscribe(session, pattern) for pattern in patterns]
            self.send(dialect.unsuback(packet_id, codes))
        elif kind == DISCONNECT:
            self._disconnect(session, dialect, data, pos, at, stop)
        else:  # a second CONNECT, AUTH that was not asked for, or a packet only servers send
            raise ProtocolError(Reason.PROTOCOL, f"packet type {kind} is out of place")

    # CONNECT

    def _open(self, data: bytes, pos: int, at: int, stop: int) -> None:
        name, after = mqtt311.field(data, at, stop)
        level = data[after] if after < stop else 0
        dialect = self._dialects.get(level)
        if name not in (b"MQTT", b"MQIsdp"):
            raise ProtocolError(Reason.PROTOCOL, "not MQTT")
        if name != b"MQTT" or dialect is None:
            self.dialect = self._dialects[4]
            raise ProtocolError(Reason.VERSION, f"protocol level {level}")
        self.dialect = dialect
        self.version = dialect.version
        connect = dialect.connect(data, pos, at, stop)
        assigned_id = None
        if not connect.client_id:
            if self.version == 4 and not connect.clean:
                raise ProtocolError(Reason.CLIENT_ID, "a kept session without a client id")
            assigned_id = new_client_id()
        client_id = assigned_id or connect.client_id
        self._check(client_id, connect)
        old = self.broker.line_of(client_id)
        if isinstance(old, Connection):
            old.refuse(Reason.TAKEN_OVER, "the client id connected again")
        session, present = self.broker.enter(client_id, connect)
        self.broker.clients += 1
        self._will = connect.will
        self._may_keep = connect.expiry_s != 0
        self.keep_alive_s = connect.keep_alive_s * 1.5
        self.max_packet = connect.max_packet
        self.send(
            dialect.connack(
                Reason.SUCCESS,
                connect,
                session_present=present,
                expiry_s=session.expiry_s,
                assigned_id=assigned_id,
            )
        )
        self.connected(dialect, session)
        window = _WINDOW_311 if self.version == 4 else connect.receive_max
        session.attach(self, min(window, self.broker.limits.inflight))

    def _check(self, client_id: str, connect: Connect) -> None:
        """Refuse a client that may not come in."""
        limits, access, will = self.broker.limits, self.broker.access, connect.will
        if connect.auth_method is not None:
            raise ProtocolError(Reason.AUTH_METHOD, "enhanced authentication is not had")
        if len(client_id) > _CLIENT_ID_CHARS:
            raise ProtocolError(Reason.CLIENT_ID, "client id too long")
        if will is not None:
            topic_name(will.topic.encode(), limits.topic_levels)
        if access is not None:
            if not access.may_connect(client_id, connect.username, connect.password):
                raise ProtocolError(Reason.BAD_LOGIN, "the login was refused")
            if will is not None and not access.may(client_id, "publish", will.topic):
                raise ProtocolError(Reason.NOT_AUTHORIZED, "the will's topic is not allowed")
        if self.broker.clients >= limits.clients and self.broker.line_of(client_id) is None:
            raise ProtocolError(Reason.QUOTA, f"more than {limits.clients} clients")

    # PUBLISH from the client

    def _publish(
        self,
        session: Session,
        dialect: Dialect,
        head: int,
        data: bytes,
        pos: int,
        at: int,
        stop: int,
        items: list[tuple[str, bytes]],
        acks: list[bytes],
    ) -> None:
        packet = dialect.publish(head, data, pos, at, stop, self._aliases)
        broker, topic, packet_id = self.broker, packet.topic, packet.packet_id
        if broker.access is not None and not broker.access.may(session.client_id, "publish", topic):
            broker.counts.dropped["denied"] += 1
            if packet.qos:
                acks[-1] += dialect.refuse(packet, Reason.NOT_AUTHORIZED)
            return
        if packet.qos == 1:
            acks.append(packet_id.to_bytes(2, "big"))
        elif packet.qos:
            answer = mqtt311.encode_ack(mqtt311.PUBREC, packet_id)
            if packet_id in session.received:
                if session.received[packet_id] is None:
                    acks[-1] += answer
                else:  # not durable yet: it is answered when it is, here
                    session.received[packet_id] = self
                return
            if self.version == 5 and len(session.received) >= broker.limits.inflight:
                raise ProtocolError(Reason.RECEIVE_MAX, "too many QoS 2 messages not released")
            session.received[packet_id] = self
            self.exact.append(packet_id)
            acks[-1] += answer
        items.append((topic, packet.payload))
        if packet.retain or broker.targets(topic):
            broker.publish(Message.of(packet), session)
        else:
            name = data[at] << 8 | data[at + 1]
            if name:  # not an alias
                broker.learn(self.quiet, data[at + 2 : at + 2 + name], topic)

    def _answer(
        self, session: Session, dialect: Dialect, kind: int, packet_id: int, reason: int
    ) -> None:
        if kind == PUBACK:
            session.confirmed(packet_id, qos=1)
        elif kind == PUBCOMP:
            session.confirmed(packet_id, qos=2)
        elif kind == PUBREC:
            if not session.recorded(packet_id, reason) and reason < 0x80:
                self.send(dialect.unknown(mqtt311.PUBREL, packet_id))
        elif kind == PUBREL:
            if packet_id in session.received:
                del session.received[packet_id]
                self.send(mqtt311.encode_ack(mqtt311.PUBCOMP, packet_id))
            else:
                self.send(dialect.unknown(mqtt311.PUBCOMP, packet_id))

    def _subscribe(
        self, session: Session, dialect: Dialect, data: bytes, pos: int, at: int, stop: int
    ) -> None:
        packet_id, requests = dialect.subscribe(data, pos, at, stop)
        granted = [self.broker.subscribe(session, request) for request in requests]
        self.send(dialect.suback(packet_id, [code for code, _ in granted]))
        for request, (code, new) in zip(requests, granted, strict=True):
            handling = request.retain_handling
            if code <= 2 and (handling == 0 or (handling == 1 and new)):
                session.replay(self.broker.replay(request))

    # The end

    def _disconnect(
        self, session: Session, dialect: Dialect, data: bytes, pos: int, at: int, stop: int
    ) -> None:
        reason, expiry_s = dialect.goodbye(data, pos, at, stop)
        if expiry_s is not None:
            if expiry_s and not self._may_keep:
                raise ProtocolError(Reason.PROTOCOL, "session expiry set by DISCONNECT alone")
            session.expiry_s = self.broker.expiry(expiry_s)
        if reason == 0:
            self._will = None
        raise Goodbye

    def farewell(self, reason: Reason, detail: str) -> bytes:
        """Return a DISCONNECT, or a CONNACK if that was not sent yet."""
        dialect = self.dialect
        if dialect is None:
            return b""
        if self.session is None:
            data = dialect.connack(reason, detail=detail)
        else:
            data = dialect.disconnect(reason, detail)
        if self.max_packet is not None and len(data) > self.max_packet:
            return b""
        return data

    def gone(self, now: float) -> None:
        """Leave the session to the next connection, or to its end."""
        super().gone(now)
        session = self.session
        if session is not None:
            self.broker.clients -= 1
            if session.line is self:
                self.broker.leave(session, self._will, now)
