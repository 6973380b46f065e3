"""The balance."""

from collections import Counter

import msgspec

from gateway.services.ledger import Ledger, Line


def test_what_is_missing_and_what_appears_from_nowhere_both_count() -> None:
    ledger = Ledger(0)
    missing = Line(entered=10, delivered=5, pending=1, dropped=Counter(INVALID=2))
    doubled = Line(entered=1, delivered=2)
    ledger.add(lambda: [("mqtt", "pose", missing), ("live", "pose", doubled)])
    assert (missing.unaccounted, doubled.unaccounted) == (2, -1)
    assert ledger.unaccounted() == 3
    report = msgspec.to_builtins(ledger.report())
    assert report["since"] == "1970-01-01T00:00:00.000Z"
    assert report["unaccounted"] == 3
    assert report["hops"][0] == {
        "hop": "mqtt",
        "kind": "pose",
        "in": 10,
        "delivered": 5,
        "pending": 1,
        "dropped": {"INVALID": 2},
        "unaccounted": 2,
    }
