"""Percentiles of samples, exact: no buckets, no interpolation."""

import math
from collections.abc import Sequence


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest sample that at least ``share`` (0 to 1) of them do not exceed.

    ``ordered`` is ascending and not empty. (The nearest-rank definition.)
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summary_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50, p99, max in milliseconds; empty when there is no sample."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    return {
        "p50": percentile(ordered, 0.50) * 1e3,
        "p99": percentile(ordered, 0.99) * 1e3,
        "max": ordered[-1] * 1e3,
    }
