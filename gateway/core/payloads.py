"""What robots send, as types that validate. Source: the topic table of docs/api.md.

Units: metres, radians (counter-clockwise), seconds; times are Unix milliseconds of the device's
clock. Unknown keys are allowed (newer firmware), wrong types and values out of range are not.
Ranges are the plausible ones for the sensors in use; NaN and infinity are not JSON and never pass.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

MAX_PAYLOAD_BYTES = 65_536
ID_PATTERN = r"^[A-Za-z0-9_.:-]{1,64}$"

Id = Annotated[str, Meta(pattern=ID_PATTERN)]
RobotId = Annotated[str, Meta(pattern=ID_PATTERN, examples=["r1"])]
Text = Annotated[str, Meta(max_length=256)]
# Up to what a JavaScript Date can hold. A fraction is what ``time.time() * 1000`` gives: it is cut.
TimeMs = (
    Annotated[int, Meta(ge=0, le=8_640_000_000_000_000, description="Unix ms")]
    | Annotated[float, Meta(ge=0, le=8_640_000_000_000_000)]
)
Seq = Annotated[int, Meta(ge=0, le=9_007_199_254_740_991)]  # 2**53 - 1: exact in every JSON reader
Metres = Annotated[float, Meta(ge=-100_000, le=100_000, description="m")]
Radians = Annotated[float, Meta(ge=-1_000, le=1_000)]  # normalised to [-pi, pi] on output
Speed = Annotated[float, Meta(ge=-100, le=100)]
Percent = Annotated[float, Meta(ge=0, le=100, description="%")]
Micrograms = Annotated[float, Meta(ge=0, le=1_000, description="µg/m³")]
CarbonDioxide = Annotated[float, Meta(ge=250, le=40_000, description="ppm")]
Organics = Annotated[float, Meta(ge=0, le=60_000, description="ppb")]
Celsius = Annotated[float, Meta(ge=-40, le=85, description="°C")]
Hectopascals = Annotated[float, Meta(ge=300, le=1_200, description="hPa")]

RobotState = Literal["cleaning", "docked", "idle", "paused", "returning", "error", "mapping"]


class Pose(Struct, frozen=True, gc=False):
    """Where a robot is, in the frame of ``map``.

    ``map`` is an Id too, but ingest looks at it: a pattern costs more than all the numbers, and the
    same few maps come thousands of times a second.
    """

    x: Metres
    y: Metres
    ts: TimeMs | None = None
    seq: Seq | None = None
    map: str | None = None
    theta: Radians = 0.0
    vx: Speed = 0.0
    vy: Speed = 0.0
    omega: Speed = 0.0  # rad/s
    localized: bool = True


class Sensor(Struct, frozen=True, gc=False):
    """One air reading. At least one of METRICS must be there."""

    ts: TimeMs | None = None
    seq: Seq | None = None
    pm1: Micrograms | None = None
    pm25: Micrograms | None = None
    pm10: Micrograms | None = None
    co2: CarbonDioxide | None = None
    tvoc: Organics | None = None
    temp: Celsius | None = None
    rh: Percent | None = None
    pressure: Hectopascals | None = None
    x: Metres | None = None
    y: Metres | None = None
    room: Id | None = None


METRICS = ("pm1", "pm25", "pm10", "co2", "tvoc", "temp", "rh", "pressure")


class State(Struct, frozen=True, gc=False):
    """What a robot is doing."""

    state: RobotState
    ts: TimeMs | None = None
    battery: Percent | None = None
    fan: Annotated[int, Meta(ge=0, le=4)] | None = None
    filter: Percent | None = None
    error: Text | None = None


class Event(Struct, frozen=True, gc=False):
    """Something that happened once."""

    code: Id
    level: Literal["info", "warning", "error", "critical"] = "info"
    ts: TimeMs | None = None
    x: Metres | None = None
    y: Metres | None = None
    room: Id | None = None


class Connection(Struct, frozen=True, gc=False):
    """Birth, goodbye, or the last will."""

    state: Literal["online", "offline", "lost"]
    ts: TimeMs | None = None
    fw: Text | None = None
    model: Text | None = None


class CommandAck(Struct, frozen=True, gc=False):
    """A robot's answer to a command."""

    id: Id
    ok: bool
    ts: TimeMs | None = None
    code: Text | None = None


class Canary(Struct, frozen=True, gc=False):
    """The gateway's own message to itself: which one, and when it set out."""

    id: Seq
    ts: TimeMs


Payload = Pose | Sensor | State | Event | Connection | CommandAck | Canary
