"""Which subscriptions match a topic, and which topics match a filter, without trying each one.

A topic is split at "/". Source of the rules: MQTT 5.0, 4.7: "+" is one level, "#" the level it
follows and all below; a wildcard at the first level does not match topics that start with "$".
"""

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Node(Generic[K, V]):
    __slots__ = ("below", "here")

    def __init__(self) -> None:
        self.below: dict[str, _Node[K, V]] = {}
        self.here: dict[K, V] = {}


class SubscriptionTrie(Generic[K, V]):
    """Values by (filter, key). A match visits one node per filter prefix that fits, no more."""

    def __init__(self) -> None:
        self._root: _Node[K, V] = _Node()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, pattern: str, key: K, value: V) -> bool:
        """Set the value; ``pattern`` must be a valid filter. True if it was not there before."""
        node = self._root
        for level in pattern.split("/"):
            child = node.below.get(level)
            if child is None:
                child = node.below[level] = _Node()
            node = child
        new = key not in node.here
        node.here[key] = value
        self._count += new
        return new

    def remove(self, pattern: str, key: K) -> bool:
        """Forget the value. True if it was there."""
        path = []
        node = self._root
        for level in pattern.split("/"):
            child = node.below.get(level)
            if child is None:
                return False
            path.append((node, level))
            node = child
        if node.here.pop(key, None) is None:
            return False
        self._count -= 1
        while path and not node.here and not node.below:
            node, level = path.pop()
            del node.below[level]
        return True

    def match(self, topic: str) -> list[tuple[K, V]]:
        """Return (key, value) of every filter that matches; a key stands once for each of them."""
        levels = topic.split("/")
        found: list[tuple[K, V]] = []
        nodes = [self._root]
        wild = not topic.startswith("$")
        for level in levels:
            deeper = []
            for node in nodes:
                below = node.below
                if wild:
                    rest = below.get("#")
                    if rest is not None:
                        found.extend(rest.here.items())
                    any_one = below.get("+")
                    if any_one is not None:
                        deeper.append(any_one)
                exact = below.get(level)
                if exact is not None:
                    deeper.append(exact)
            nodes = deeper
            wild = True
            if not nodes:
                return found
        for node in nodes:
            found.extend(node.here.items())
            rest = node.below.get("#")  # "a/#" matches "a" as well
            if rest is not None:
                found.extend(rest.here.items())
        return found


class TopicTree(Generic[V]):
    """Values by topic, found by filter."""

    def __init__(self) -> None:
        self._root: _Node[str, V] = _Node()
        self._values: dict[str, V] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, topic: str) -> bool:
        return topic in self._values

    def get(self, topic: str) -> V | None:
        """Return the value of ``topic``."""
        return self._values.get(topic)

    def set(self, topic: str, value: V) -> None:
        """Set the value of ``topic``."""
        if topic not in self._values:
            node = self._root
            for level in topic.split("/"):
                child = node.below.get(level)
                if child is None:
                    child = node.below[level] = _Node()
                node = child
            node.here[topic] = value
        self._values[topic] = value

    def pop(self, topic: str) -> V | None:
        """Forget ``topic`` and return its value."""
        value = self._values.pop(topic, None)
        if value is None:
            return None
        path = []
        node = self._root
        for level in topic.split("/"):
            path.append((node, level))
            node = node.below[level]
        node.here.clear()
        while path and not node.here and not node.below:
            node, level = path.pop()
            del node.below[level]
        return value

    def match(self, pattern: str) -> list[str]:
        """Return the topics that ``pattern`` matches."""
        if "+" not in pattern and "#" not in pattern:
            return [pattern] if pattern in self._values else []
        levels = pattern.split("/")
        nodes = [self._root]
        found: list[str] = []
        for depth, level in enumerate(levels):
            if level == "#":
                for node in nodes:
                    found.extend(node.here)
                    found.extend(_all_below(node, hide_system=depth == 0))
                return found
            if level == "+":
                nodes = [
                    child
                    for node in nodes
                    for name, child in node.below.items()
                    if depth or not name.startswith("$")
                ]
            else:
                nodes = [node.below[level] for node in nodes if level in node.below]
        for node in nodes:
            found.extend(node.here)
        return found


def _all_below(node: _Node[str, V], *, hide_system: bool) -> Iterator[str]:
    stack = [
        child for name, child in node.below.items() if not (hide_system and name.startswith("$"))
    ]
    while stack:
        node = stack.pop()
        yield from node.here
        stack.extend(node.below.values())
