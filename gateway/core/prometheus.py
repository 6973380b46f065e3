"""The Prometheus text exposition format, version 0.0.4."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its samples are (labels, value)."""

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)


def gauge(name: str, text: str, value: float) -> Family:
    """Return a gauge without labels."""
    return Family(name, text, "gauge", [({}, value)])


def counter(name: str, text: str, value: float) -> Family:
    """Return a counter without labels; ``name`` ends in ``_total``."""
    return Family(name, text, "counter", [({}, value)])


def render(families: Iterable[Family]) -> str:
    """Return the page: HELP, TYPE and the samples of every family."""
    lines = []
    for family in families:
        lines.append(f"# HELP {family.name} {family.help}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for labels, value in family.samples:
            inner = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
            lines.append(f"{family.name}{{{inner}}} {value:.17g}" if inner else
                         f"{family.name} {value:.17g}")  # fmt: skip
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
