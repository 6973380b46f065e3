"""What the doctor says about one thing."""

import enum
from dataclasses import dataclass


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
