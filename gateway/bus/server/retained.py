"""Retained messages: the newest of a topic, for subscribers to come."""

from gateway.bus.server.figures import Counts
from gateway.bus.server.message import Message
from gateway.config.model import BusLimits
from gateway.core.topictrie import TopicTree


class Retained:
    """Bounded in messages and bytes; a new topic that does not fit is not kept, and counted."""

    def __init__(self, limits: BusLimits, counts: Counts) -> None:
        self._limits = limits
        self._counts = counts
        self._tree: TopicTree[Message] = TopicTree()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._tree)

    def keep(self, message: Message) -> None:
        """Keep ``message`` for its topic; an empty payload forgets the topic (3.3.1.3)."""
        old = self._tree.get(message.topic)
        size = self._bytes - (old.size if old is not None else 0)
        if message.payload:
            fits = old is not None or len(self._tree) < self._limits.retained
            if fits and size + message.size <= self._limits.retained_bytes:
                self._tree.set(message.topic, message)
                self._bytes = size + message.size
                return
            self._counts.dropped["retained_full"] += 1
        # Rather none than one that is out of date.
        if self._tree.pop(message.topic) is not None:
            self._bytes = size

    def get(self, topic: str) -> Message | None:
        """Return what is kept for ``topic``."""
        message = self._tree.get(topic)
        if message is not None and message.expired():
            self._tree.pop(topic)
            self._bytes -= message.size
            return None
        return message

    def match(self, pattern: str) -> list[str]:
        """Return the topics that ``pattern`` matches."""
        return self._tree.match(pattern)
