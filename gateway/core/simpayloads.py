"""What a simulated robot says, as the bodies of the topic tree (docs/api.md).

Times are Unix milliseconds and come from outside.
"""

import json
from typing import Any, Final

from gateway.core.simair import Source
from gateway.core.simrobot import Happening, SimRobot
from gateway.core.simworld import MAP_ID

FIRMWARE: Final = "sim-1.0"
MODEL: Final = "SmartAir simulator"

Body = dict[str, Any]


def encode(body: Body) -> bytes:
    """Return ``body`` as JSON without spaces."""
    return json.dumps(body, separators=(",", ":")).encode()


def connection(state: str, ts: int) -> Body:
    """Return the birth, the goodbye or the last will."""
    return {"state": state, "ts": ts, "fw": FIRMWARE, "model": MODEL}


def pose(sim: SimRobot, ts: int, seq: int) -> Body:
    """Return where the robot is; velocities are in its own frame, and it rolls forward only."""
    return {
        "ts": ts,
        "seq": seq,
        "map": MAP_ID,
        "x": round(sim.x, 3),
        "y": round(sim.y, 3),
        "theta": round(sim.theta, 4),
        "vx": round(sim.speed, 3),
        "vy": 0.0,
        "omega": round(sim.omega, 3),
        "localized": True,
    }


def sensor(sim: SimRobot, reading: dict[str, float], ts: int, seq: int) -> Body:
    """Return an air reading, with the place at which it was taken."""
    return {"ts": ts, "seq": seq, **reading, **_place(sim)}


def state(sim: SimRobot, ts: int) -> Body:
    """Return what the robot is doing."""
    return {
        "ts": ts,
        "state": sim.state,
        "battery": round(sim.battery, 1),
        "fan": sim.fan,
        "filter": round(sim.filter, 1),
        "error": sim.error,
    }


def event(sim: SimRobot, what: Happening | Source, ts: int) -> Body:
    """Return something that happened: to the robot, or to the air around it."""
    level = what.level if isinstance(what, Happening) else "info"
    body = {"ts": ts, "code": what.code, "level": level, **_place(sim)}
    return body | {"room": what.room} if isinstance(what, Source) else body


def obey(sim: SimRobot, payload: bytes, ts: int) -> Body | None:
    """Let the robot obey the command in ``payload``; return its acknowledgement.

    None: it is no command (not JSON, or without an id), so there is nobody to answer.
    """
    try:
        body = json.loads(payload)
    except ValueError:
        return None
    if not isinstance(body, dict) or not isinstance(body.get("id"), str):
        return None
    args, expires = body.get("args") or {}, body.get("exp")
    if not isinstance(args, dict) or not isinstance(body.get("cmd"), str):
        code: str | None = "BAD_ARGS"
    elif isinstance(expires, (int, float)) and expires < ts:
        code = "EXPIRED"
    else:
        code = sim.command(body["cmd"], args)
    return {"id": body["id"], "ok": code is None, "code": code, "ts": ts}


def _place(sim: SimRobot) -> Body:
    return {"x": round(sim.x, 3), "y": round(sim.y, 3), "room": sim.room}
