"""Rows of bench/results.json, and the same as a table."""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

_WIDE: Final = 150  # columns when nobody watches: a log file has no width of its own

console: Final = Console(highlight=False)
if not console.is_terminal:
    console.width = _WIDE
RESULTS: Final = Path(__file__).parent / "results.json"


class Row(msgspec.Struct, kw_only=True, rename="camel"):
    """One figure. ``value`` is the median of ``runs``; None: not measured, ``what`` says why.

    ``ratio`` is value / peer value, so above 1 is better for rates and below 1 for times and sizes.
    ``cpu_s``: median CPU seconds of the measured server processes in one run.
    """

    id: str
    what: str
    value: float | None
    unit: str
    goal: float | None = None
    holds: bool | None = None
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    runs: list[float] = msgspec.field(default_factory=list)
    cpu_s: float | None = None


class CheckFailed(Exception):
    """The gateway broke a promise while it was measured: loss, or a ledger that is not even."""


Better = Literal["more", "less"]


def figure(
    name: str,
    what: str,
    unit: str,
    runs: Sequence[float],
    *,
    goal: float | None = None,
    better: Better = "more",
    cpu: Sequence[float] = (),
) -> Row:
    """Return the row of a measured figure; with a goal it says whether it holds."""
    value = statistics.median(runs)
    holds = None
    if goal is not None:
        holds = value >= goal if better == "more" else value <= goal
    return Row(
        id=name,
        what=what,
        value=_rounded(value),
        unit=unit,
        goal=goal,
        holds=holds,
        runs=[_rounded(run) for run in runs],
        cpu_s=_rounded(statistics.median(cpu)) if cpu else None,
    )


def absent(name: str, what: str, unit: str, why: str) -> Row:
    """Return the row of a figure that could not be measured."""
    return Row(id=name, what=f"{what}: not measured, {why}", value=None, unit=unit)


def beside(row: Row, peer: str, peer_row: Row | None) -> Row:
    """Put the peer's median next to the gateway's."""
    row.peer = peer
    if peer_row is not None and peer_row.value is not None and row.value is not None:
        row.peer_value = peer_row.value
        row.ratio = _rounded(row.value / peer_row.value) if peer_row.value else None
    return row


def _rounded(value: float) -> float:
    """Four significant digits are more than a benchmark can promise."""
    return float(f"{value:.4g}") if abs(value) < 10_000 else float(round(value))


def say(text: str) -> None:
    """Tell whoever waits what is being done."""
    console.print(f"[dim]\\[bench][/dim] {text}", soft_wrap=True)


def write(rows: Iterable[Row], path: Path) -> None:
    """Write the rows in the shape of docs/api.md."""
    data = [msgspec.to_builtins(row) for row in rows]
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def show(rows: Iterable[Row]) -> None:
    """Print the table."""
    table = Table(title="edge-gateway, measured", title_justify="left", box=SIMPLE)
    table.add_column("figure", ratio=1)
    table.add_column("unit", no_wrap=True)
    for name in ("value", "goal", "peer", "ratio", "CPU s"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        peer = f"; peer: {row.peer}" if row.peer else ""
        table.add_row(
            f"{row.id}\n[dim]{row.what}{peer}[/dim]",
            row.unit,
            _mark(row),
            _number(row.goal),
            _number(row.peer_value),
            _number(row.ratio),
            _number(row.cpu_s),
        )
    console.print(table)


def _mark(row: Row) -> str:
    colour = {True: "green", False: "bold red", None: "default"}[row.holds]
    return f"[{colour}]{_number(row.value)}[/{colour}]"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1_000 or value == round(value) else f"{value:,.3g}"
