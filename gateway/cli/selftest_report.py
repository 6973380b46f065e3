"""What a selftest found, as a table and as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.options import write_json
from gateway.cli.selftest_load import Robot
from gateway.cli.selftest_proof import Proof
from gateway.core.kinds import Kind

PHASES: Final = ("before", "during", "after")
_ON_THE_WAY_S: Final = 0.1  # what was due so shortly before the cut may have been caught by it


class Latency(Struct, frozen=True):
    """Publish to WebSocket in ms, from the instant at which a pose was due; ``count`` poses."""

    count: int
    p50: float | None
    p99: float | None
    max: float | None


class Outcome(Struct, frozen=True, kw_only=True, rename="camel"):
    """The result. Times in seconds; None: it did not happen, or there was nothing to cut."""

    cut: str | None
    for_s: float = msgspec.field(name="for")
    published: int
    acknowledged: int
    lost: int
    duplicates: int
    latency_ms: dict[str, Latency]
    reported_after_s: float | None
    reported_by: list[str]
    healed_after_s: float | None
    drain_s: float | None
    unaccounted: int
    dropped: dict[str, int]
    proofs: list[Proof]
    verdict: str
    faults: list[str]


def latencies(robots: Iterable[Robot], cut_s: float, restored_s: float) -> dict[str, Latency]:
    """Return the latencies of the poses that were due before, during and after the cut."""
    found: dict[str, list[float]] = {phase: [] for phase in PHASES}
    for robot in robots:
        for one in robot.sent:
            if one.kind is Kind.POSE and one.seen_s:
                phase = "before" if one.due_s < cut_s - _ON_THE_WAY_S else "during"
                if one.due_s >= restored_s:
                    phase = "after"
                found[phase].append((one.seen_s - one.due_s) * 1000)
    return {phase: _summary(values) for phase, values in found.items()}


def _summary(values: list[float]) -> Latency:
    if not values:
        return Latency(0, None, None, None)
    values.sort()
    return Latency(
        len(values), _rank(values, 0.50), _rank(values, 0.99), round(max(0.0, values[-1]), 2)
    )


def _rank(ordered: Sequence[float], share: float) -> float:
    return round(max(0.0, ordered[min(len(ordered) - 1, int(len(ordered) * share))]), 2)


def show(outcome: Outcome, *, as_json: bool) -> None:
    """Print the result on stdout."""
    if as_json:
        write_json(msgspec.to_builtins(outcome))
        return
    console = Console()
    console.print(_times(outcome.latency_ms))
    console.print(_facts(outcome))
    for fault in outcome.faults:
        console.print(Text(f"- {fault}", style="red"))


def _times(latency_ms: Mapping[str, Latency]) -> Table:
    table = Table(
        box=SIMPLE, title="publish to WebSocket, ms", title_justify="left", pad_edge=False
    )
    table.add_column("")
    for name in ("poses", "p50", "p99", "max"):
        table.add_column(name, justify="right")
    for phase in PHASES:
        one = latency_ms[phase]
        table.add_row(phase, str(one.count), *map(_figure, (one.p50, one.p99, one.max)))
    return table


def _facts(outcome: Outcome) -> Table:
    table = Table(box=SIMPLE, show_header=False, pad_edge=False)
    table.add_column("")
    table.add_column("")
    rows: list[tuple[str, Any]] = [
        ("cut", f"{outcome.cut} for {outcome.for_s:g} s" if outcome.cut else "nothing"),
        ("published", outcome.published),
        ("acknowledged", outcome.acknowledged),
    ]
    rows += [(f"in {proof.place}", _told(proof)) for proof in outcome.proofs]
    rows += [("lost", outcome.lost), ("duplicates", outcome.duplicates)]
    if outcome.cut:
        by = f" by {', '.join(outcome.reported_by)}" if outcome.reported_by else ""
        rows += [
            ("/readyz says so after", _seconds(outcome.reported_after_s) + by),
            ("healed after", _seconds(outcome.healed_after_s)),
            ("drained after", _seconds(outcome.drain_s)),
        ]
    rows += [("unaccounted", outcome.unaccounted)]
    rows += [(f"dropped {reason}", count) for reason, count in outcome.dropped.items()]
    for name, value in rows:
        table.add_row(name, str(value))
    held = not outcome.faults
    table.add_row("verdict", Text(outcome.verdict, style="green" if held else "red"))
    return table


def _told(proof: Proof) -> str:
    text = f"{proof.expected - proof.missing} of {proof.expected}"
    if proof.duplicates:
        text += f", {proof.duplicates} twice"
    if proof.disordered:
        text += f", {proof.disordered} out of order"
    return text + (f" ({proof.trouble})" if proof.trouble else "")


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"
