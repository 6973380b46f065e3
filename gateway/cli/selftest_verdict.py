"""What is to be said of a run of a selftest: figures, and whether it held."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.cli.selftest_gate import Gate
from gateway.cli.selftest_load import Load
from gateway.cli.selftest_proof import Proof
from gateway.cli.selftest_report import Outcome, latencies
from gateway.core.kinds import Kind

REPORT_S: Final = 15.0  # an outage of this length must be on /readyz

_NO_LOSS: Final = frozenset({"stale", "conflated", "own", "repeated", "ignored"})
_LOSABLE: Final = ("history", "stream")  # places that must have every message, not the newest only


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for. ``cut`` "": nothing is cut."""

    cut: str
    for_s: float
    robots: int
    rate: float


@dataclass(slots=True)
class Marks:
    """When things happened, in seconds of the monotonic clock, and what was normal before."""

    cut_s: float = 0.0
    restored_s: float = 0.0
    drained_s: float | None = None
    pending: int = 0
    unacknowledged: int = 0
    bad_before: frozenset[str] = frozenset()
    ended_by_hand: bool = False


def verdict(
    order: Order,
    marks: Marks,
    gate: Gate,
    load: Load,
    proofs: Sequence[Proof],
    dropped_before: Mapping[str, int],
) -> Outcome:
    """Return the result of a run that is over."""
    health, robots = gate.health, load.robots
    reported = {
        part: at_s
        for part, at_s in health.first_bad_s.items()
        if part not in marks.bad_before and at_s < marks.restored_s
    }
    ill = health.bad - marks.bad_before
    healed_s = max(
        (health.last_bad_s[part] for part in health.last_bad_s.keys() - marks.bad_before),
        default=marks.restored_s,
    )
    faults = [*_faults(proofs, gate, load)]
    if order.cut:
        faults += _of_the_cut(order, marks, reported=bool(reported), ill=ill)
    healed = bool(order.cut) and not ill
    drained_s = marks.drained_s if order.cut else None
    return Outcome(
        cut=order.cut or None,
        for_s=order.for_s,
        published=load.published,
        acknowledged=sum(
            len(robot.acknowledged(kind)) for robot in robots for kind in (Kind.POSE, Kind.SENSOR)
        ),
        lost=sum(proof.missing for proof in proofs if proof.place in _LOSABLE),
        duplicates=sum(proof.duplicates for proof in proofs),
        latency_ms=latencies(robots, marks.cut_s, marks.restored_s),
        reported_after_s=_rounded(min(reported.values()) - marks.cut_s) if reported else None,
        reported_by=sorted(reported),
        healed_after_s=_rounded(healed_s - marks.restored_s) if healed else None,
        drain_s=None if drained_s is None else _rounded(drained_s - marks.restored_s),
        unaccounted=gate.balance.unaccounted,
        dropped={
            name: count - dropped_before.get(name, 0)
            for name, count in gate.balance.dropped.items()
            if count > dropped_before.get(name, 0) and name.rpartition("/")[2] not in _NO_LOSS
        },
        proofs=[*proofs],
        verdict="failed" if faults else "held",
        faults=faults,
    )


def _of_the_cut(
    order: Order, marks: Marks, *, reported: bool, ill: frozenset[str]
) -> Iterator[str]:
    if not reported and order.for_s >= REPORT_S:
        yield "/readyz did not say that anything was wrong"
    if ill:
        yield f"not healed: {', '.join(sorted(ill))}"
    if marks.drained_s is None:
        yield "the backlog did not drain"
    if marks.ended_by_hand:
        yield "the cut did not end by itself"


def _faults(proofs: Sequence[Proof], gate: Gate, load: Load) -> Iterator[str]:
    for proof in proofs:
        if proof.missing:
            yield f"{proof.missing} of {proof.expected} missing in {proof.place}"
        if proof.disordered:
            yield f"{proof.disordered} out of order in {proof.place}"
        if proof.trouble:
            yield f"{proof.place} could not be read: {proof.trouble}"
    if left := load.unacknowledged:
        yield f"{left} messages were never acknowledged: {load.trouble}"
    if missing := gate.balance.unaccounted:
        yield f"the ledger cannot account for {missing} messages"


def _rounded(seconds: float) -> float:
    return round(max(0.0, seconds), 2)
