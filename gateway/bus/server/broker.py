"""Who gets what: sessions, subscriptions, retained messages, wills."""

import secrets
from collections.abc import Iterator
from typing import Final

from gateway.bus.port import Batch, Sink
from gateway.bus.server.access import Access
from gateway.bus.server.figures import REASONS, Counts
from gateway.bus.server.message import Message
from gateway.bus.server.retained import Retained
from gateway.bus.server.session import Session
from gateway.config.model import BusLimits
from gateway.core.mqtt import Connect, Reason, Request, Will, valid_filter
from gateway.core.topictrie import SubscriptionTrie

_TOPICS: Final = 16_384
"""Topics whose subscribers are remembered. Robots use a few each; above it all are forgotten."""

_TOPIC_CHARS: Final = 256
"""Longer ones are not remembered: they could fill the memory."""

Targets = tuple[tuple[Session, Request], ...]


def nothing() -> None:
    """Acknowledge what nobody waits for."""


class Broker:
    """The state that all connections share. Synchronous: whatever it does is done when it returns.

    ``quiet`` holds the topics that have no subscriber and are allowed to everyone: their PUBLISHes
    need no routing. ``epoch`` changes with the subscriptions, and so does what is in ``quiet``.
    """

    def __init__(self, sink: Sink, limits: BusLimits, access: Access | None) -> None:
        self.sink = sink
        self.limits = limits
        self.access = access
        self.counts = Counts()
        self.retained = Retained(limits, self.counts)
        self.quiet: dict[bytes, str] = {}
        self.epoch = 0
        self.clients = 0
        self.closing = False  # the server stops: that is not the clients' death, no will is due
        self._trie: SubscriptionTrie[Session, Request] = SubscriptionTrie()
        self._targets: dict[str, Targets] = {}
        self._sessions: dict[str, Session] = {}
        self._absent: dict[str, Session] = {}  # the longest away first

    def figures(self) -> dict[str, int]:
        """Return counters and gauges; those that start with ``dropped_`` are Counts.dropped."""
        counts = self.counts
        return {
            "clients": self.clients,
            "sessions": len(self._sessions),
            "subscriptions": len(self._trie),
            "retained": len(self.retained),
            "queued": sum(session.queued for session in self._sessions.values()),
            "received": counts.received,
            "sent": counts.sent,
            **{f"dropped_{reason}": counts.dropped[reason] for reason in REASONS},
        }

    # Routing

    def targets(self, topic: str) -> Targets:
        """Return the sessions subscribed to ``topic``, each once, with its best QoS."""
        found = self._targets.get(topic)
        if found is None:
            merged: dict[Session, Request] = {}
            for session, request in self._trie.match(topic):
                other = merged.get(session)
                merged[session] = request if other is None else _both(request, other)
            found = tuple(merged.items())
            if len(topic) <= _TOPIC_CHARS:
                if len(self._targets) >= _TOPICS:
                    self._targets.clear()
                self._targets[topic] = found
        return found

    def learn(self, quiet: dict[bytes, str], raw: bytes, topic: str) -> None:
        """Remember in ``quiet`` that PUBLISHes to ``topic`` need no routing."""
        if len(raw) <= _TOPIC_CHARS:
            if len(quiet) >= _TOPICS:
                quiet.clear()
            quiet[raw] = topic

    def publish(self, message: Message, origin: Session | None = None) -> None:
        """Deliver ``message`` to its subscribers, and keep it if it is to be retained."""
        if message.retain:
            self.retained.keep(message)
        for session, request in self.targets(message.topic):
            if request.no_local and session is origin:
                continue
            session.deliver(
                message,
                min(message.qos, request.qos),
                retain=message.retain and request.retain_as_published,
            )

    def subscribe(self, session: Session, request: Request) -> tuple[int, bool]:
        """Add a subscription. Return the reason code, and whether it is a new one."""
        pattern = request.filter
        known = pattern in session.subscriptions
        if pattern.startswith("$share/"):
            return Reason.NO_SHARED, False
        if not valid_filter(pattern, self.limits.topic_levels):
            return Reason.FILTER, False
        if not known and len(session.subscriptions) >= self.limits.subscriptions:
            return Reason.QUOTA, False
        if self.access is not None and not self.access.may(session.client_id, "subscribe", pattern):
            return Reason.NOT_AUTHORIZED, False
        session.subscriptions[pattern] = request
        self._trie.add(pattern, session, request)
        self._changed()
        return request.qos, not known

    def unsubscribe(self, session: Session, pattern: str) -> int:
        """Remove a subscription. Return the reason code."""
        if session.subscriptions.pop(pattern, None) is None:
            return Reason.NO_SUBSCRIPTION
        self._trie.remove(pattern, session)
        self._changed()
        return Reason.SUCCESS

    def _changed(self) -> None:
        self._targets.clear()
        self.quiet.clear()
        self.epoch += 1

    def replay(self, request: Request) -> Iterator[tuple[Message, int]]:
        """Yield the retained messages for a subscription, each as it is when its turn comes."""
        for topic in self.retained.match(request.filter):
            message = self.retained.get(topic)
            if message is not None:
                yield message, min(message.qos, request.qos)

    # Sessions

    def enter(self, client_id: str, connect: Connect) -> tuple[Session, bool]:
        """Return the session for a CONNECT, and whether it was there. Its old line must be gone."""
        session = self._sessions.get(client_id)
        if session is not None:
            self._absent.pop(client_id, None)
            will = session.will
            session.will = None  # the client is back before the delay was over (3.1.3.2.2)
            if connect.clean:
                if will is not None:  # its session ends here, so the will is due
                    self.publish_will(will)
                self._end(session)
                session = None
        present = session is not None
        if session is None:
            session = self._sessions[client_id] = Session(client_id, self.limits, self.counts)
        session.expiry_s = self.expiry(connect.expiry_s)
        return session, present

    def expiry(self, wanted_s: int | None) -> int:
        """Return how long a session is kept, in seconds; None asks for as long as possible."""
        limit_s = self.limits.session_expiry_s
        return limit_s if wanted_s is None else min(wanted_s, limit_s)

    def line_of(self, client_id: str) -> object | None:
        """Return the connection that has the session of ``client_id``."""
        session = self._sessions.get(client_id)
        return None if session is None else session.line

    def leave(self, session: Session, will: Will | None, now: float) -> None:
        """Take note that a client is gone. ``will`` None: it said goodbye, or had none."""
        session.detach()
        if will is not None and not self.closing:
            if session.expiry_s and will.delay_s:
                session.will = will
                session.will_at = now + min(will.delay_s, session.expiry_s)
            else:
                self.publish_will(will)
        if not session.expiry_s:
            self._end(session)
            return
        session.expires_at = now + session.expiry_s
        self._absent[session.client_id] = session
        if len(self._absent) > self.limits.sessions:
            self._expire(next(iter(self._absent.values())))

    def sweep(self, now: float) -> None:
        """Publish the wills that are due and forget the sessions that are over."""
        for session in list(self._absent.values()):
            if session.will is not None and now >= session.will_at:
                will, session.will = session.will, None
                self.publish_will(will)
            if now >= session.expires_at:
                self._expire(session)

    def _expire(self, session: Session) -> None:
        del self._absent[session.client_id]
        will, session.will = session.will, None
        if will is not None:
            self.publish_will(will)
        self._end(session)

    def _end(self, session: Session) -> None:
        del self._sessions[session.client_id]
        for pattern in session.subscriptions:
            self._trie.remove(pattern, session)
        if session.subscriptions:
            self._changed()
        session.end()

    def publish_will(self, will: Will) -> None:
        """Publish a will: to the sink, as any PUBLISH, and to its subscribers."""
        self.counts.received += 1
        self.sink.take(Batch([(will.topic, will.payload)], nothing))
        self.publish(Message.of(will))


def _both(one: Request, other: Request) -> Request:
    """Return what two subscriptions of a client that match the same topic ask for together."""
    return Request(
        one.filter,
        max(one.qos, other.qos),
        one.no_local and other.no_local,
        one.retain_as_published or other.retain_as_published,
    )


def new_client_id() -> str:
    """Return an id for a client that brought none."""
    return f"auto-{secrets.token_hex(8)}"
