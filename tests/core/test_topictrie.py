"""Subscriptions by topic, and topics by filter, against the rules tried one by one."""

from random import Random

import pytest

from gateway.core.mqtt import valid_filter
from gateway.core.topictrie import SubscriptionTrie, TopicTree

CASES = [
    ("a", "a", True),
    ("a", "A", False),
    ("a", "a/b", False),
    ("a", "/a", False),
    ("a/b", "a/b", True),
    ("a/", "a/", True),
    ("a/", "a", False),
    ("/", "/", True),
    ("+", "a", True),
    ("+", "/", False),
    ("+", "a/b", False),
    ("+/+", "/", True),
    ("/+", "/a", True),
    ("+", "/a", False),
    ("a/+", "a", False),
    ("a/+", "a/", True),
    ("a/+", "a/b", True),
    ("a/+/c", "a/b/c", True),
    ("a/+/c", "a/b/c/d", False),
    ("#", "a", True),
    ("#", "a/b/c", True),
    ("#", "/", True),
    ("a/#", "a", True),
    ("a/#", "a/b/c", True),
    ("a/#", "ab", False),
    ("+/#", "a", True),
    ("+/b/#", "a/b", True),
    ("+/b/#", "a/c/b", False),
    ("#", "$SYS/a", False),
    ("+/a", "$SYS/a", False),
    ("+/#", "$SYS", False),
    ("$SYS/#", "$SYS/a", True),
    ("$SYS/+", "$SYS/a", True),
    ("a/#", "a/$x", True),
    ("a/+", "a/$x", True),
    ("한국/+", "한국/로봇", True),
]


@pytest.mark.parametrize(("pattern", "topic", "matches"), CASES)
def test_matching(pattern: str, topic: str, matches: bool) -> None:
    trie: SubscriptionTrie[str, int] = SubscriptionTrie()
    trie.add(pattern, "key", 7)
    assert trie.match(topic) == ([("key", 7)] if matches else [])
    tree: TopicTree[int] = TopicTree()
    tree.set(topic, 7)
    assert tree.match(pattern) == ([topic] if matches else [])


def naive(pattern: str, topic: str) -> bool:
    """Say the same in the plainest way."""
    if topic.startswith("$") and pattern[0] in "+#":
        return False
    wanted, levels = pattern.split("/"), topic.split("/")
    for n, level in enumerate(wanted):
        if level == "#":
            return len(levels) >= n
        if n >= len(levels) or level not in ("+", levels[n]):
            return False
    return len(wanted) == len(levels)


def test_many_at_random_agree_with_the_plain_rule() -> None:
    rng = Random(7)
    words = ["a", "b", "", "$c", "d"]
    patterns: set[str] = set()
    while len(patterns) < 300:
        parts = [rng.choice([*words, "+", "+"]) for _ in range(rng.randint(1, 4))]
        pattern = "/".join(parts + ["#"] * rng.randint(0, 1))
        if valid_filter(pattern):
            patterns.add(pattern)
    topics: set[str] = set()
    while len(topics) < 200:
        topic = "/".join(rng.choice(words) for _ in range(rng.randint(1, 4)))
        if topic:
            topics.add(topic)
    trie: SubscriptionTrie[str, str] = SubscriptionTrie()
    tree: TopicTree[int] = TopicTree()
    for pattern in patterns:
        assert trie.add(pattern, pattern, pattern)
    for n, topic in enumerate(sorted(topics)):
        tree.set(topic, n)
    gone = set(rng.sample(sorted(patterns), 150))
    for pattern in gone:
        assert trie.remove(pattern, pattern)
        assert not trie.remove(pattern, pattern)
    left = patterns - gone
    assert len(trie) == len(left)
    for topic in topics:
        found = [key for key, _ in trie.match(topic)]
        assert sorted(found) == sorted(p for p in left if naive(p, topic))
    for pattern in patterns:
        assert sorted(tree.match(pattern)) == sorted(t for t in topics if naive(pattern, t))
    for topic in topics:
        assert tree.pop(topic) is not None
    for pattern in left:
        trie.remove(pattern, pattern)
    assert len(tree) == len(trie) == 0
    assert not tree._root.below
    assert not trie._root.below


def test_keys_and_values() -> None:
    trie: SubscriptionTrie[str, int] = SubscriptionTrie()
    assert trie.add("a", "x", 1)
    assert not trie.add("a", "x", 2)
    assert trie.add("a", "y", 3)
    assert trie.add("+", "x", 4)
    assert sorted(trie.match("a")) == [("x", 2), ("x", 4), ("y", 3)]
    assert len(trie) == 3
    assert not trie.remove("a", "z")
    assert not trie.remove("b", "x")
    tree: TopicTree[int] = TopicTree()
    tree.set("a/b", 1)
    tree.set("a/b", 2)
    assert (tree.get("a/b"), tree.get("a"), len(tree), "a/b" in tree) == (2, None, 1, True)
    assert tree.pop("a") is None
    assert tree.pop("a/b") == 2


def test_a_match_does_not_try_every_subscription() -> None:
    trie: SubscriptionTrie[int, int] = SubscriptionTrie()
    for n in range(100_000):
        trie.add(f"smartair/v1/home/r-{n}/cmd", n, n)
    trie.add("smartair/v1/+/+/cmd", -1, -1)
    for n in range(0, 100_000, 10):
        assert sorted(trie.match(f"smartair/v1/home/r-{n}/cmd")) == [(-1, -1), (n, n)]


@pytest.mark.parametrize(
    "pattern", ["a", "/", "+", "#", "+/+", "a/#", "+/a/#", " ", "a//b", "$x/#"]
)
def test_filters_that_are_valid(pattern: str) -> None:
    assert valid_filter(pattern)


@pytest.mark.parametrize("pattern", ["", "a+", "+a", "a#", "a/#/b", "#/a", "a/b+/c", "a\0", "##"])
def test_filters_that_are_not(pattern: str) -> None:
    assert not valid_filter(pattern)


def test_filters_have_a_depth() -> None:
    assert valid_filter("a/b/c", 3)
    assert not valid_filter("a/b/c/d", 3)
