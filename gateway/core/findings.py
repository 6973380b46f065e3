"""What the doctor says about one thing."""

import enum
from dataclasses import dataclass
from typing import Final

_APART_S: Final = 1.0  # clocks that differ by more make "when" mean two things


class Level(enum.Enum):
    """How bad it is; FAIL keeps the gateway from doing its job."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """``advice`` is what to do, empty when all is well. ``service``: something outside is away."""

    level: Level
    what: str
    found: str
    advice: str = ""
    service: bool = False


def clock_finding(what: str, ahead_s: float) -> Finding:
    """Return what to say of a server whose clock is ``ahead_s`` before ours."""
    if abs(ahead_s) <= _APART_S:
        return Finding(Level.OK, what, f"agrees with ours to {_APART_S:g} s")
    side = "ahead of" if ahead_s > 0 else "behind"
    advice = "let both machines' clocks be set by NTP"
    return Finding(Level.WARN, what, f"{abs(ahead_s):.1f} s {side} ours", advice)
