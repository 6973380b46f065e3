"""How a simulated robot moves, spends its battery, and obeys. Time comes in as ``dt_s``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from gateway.core.payloads import RobotState
from gateway.core.simworld import HALL, ROOMS, Point, angle, dock, room_at, way

SPEED: Final = 0.35  # m/s
TURN: Final = 1.8  # rad/s
_ACCELERATION: Final = 0.5  # m/s²
_ARRIVED: Final = 0.06  # m
_DRIVING: Final = frozenset({"cleaning", "returning", "mapping"})
_DRAIN: Final = 0.03  # % per second while driving: an hour of work (and fans cost extra)
_DRAIN_FAN: Final = 0.006  # % per second and level
_CHARGE: Final = 0.15  # % per second
_LOW, _FULL = 18.0, 95.0  # %
_STUCK_PER_S: Final = 1 / 900  # a quarter of an hour of driving between two mishaps
_STEP_S: Final = 0.1  # longest step of the motion; longer ones are cut into such


@dataclass(frozen=True, slots=True)
class Happening:
    """Something to tell on the event topic."""

    code: str
    level: str


@dataclass(slots=True)
class SimRobot:
    """One robot: where it is, what it does, what it has left.

    ``x``, ``y`` in metres, ``theta`` in radians counter-clockwise, ``speed`` in m/s along it,
    ``omega`` in rad/s, ``battery`` and ``filter`` in per cent, ``fan`` 0 to 4.
    """

    number: int
    rng: Random
    x: float = 0.0
    y: float = 0.0
    theta: float = 0.0
    speed: float = 0.0
    omega: float = 0.0
    battery: float = 100.0
    filter: float = 100.0
    fan: int = 1
    state: RobotState = "docked"
    error: str | None = None
    _way: list[Point] = field(default_factory=list)
    _rooms: list[str] = field(default_factory=list)  # still to clean
    _rest_s: float = 0.0  # until a docked robot starts, or a stuck one is free

    def __post_init__(self) -> None:
        self.x, self.y = dock(self.number)
        self.theta = -math.pi / 2
        self.battery = self.rng.uniform(45.0, 100.0)
        self.filter = self.rng.uniform(30.0, 100.0)
        self._rest_s = self.rng.uniform(0.0, 5.0)

    @property
    def room(self) -> str:
        """The room it is in; a door belongs to the hall."""
        room = room_at((self.x, self.y))
        return room.id if room else HALL.id

    def step(self, dt_s: float) -> list[Happening]:
        """Let ``dt_s`` seconds pass and return what happened in them."""
        happened: list[Happening] = []
        while dt_s > 1e-9:
            part_s = min(dt_s, _STEP_S)
            dt_s -= part_s
            self._live(part_s, happened)
        return happened

    def command(self, name: str, args: Mapping[str, Any]) -> str | None:
        """Obey, and return None; or return the code of the reason not to."""
        match name:
            case "start":
                self._clean(list(ROOMS))
            case "clean_rooms":
                rooms = args.get("rooms")
                if not isinstance(rooms, list) or not rooms or any(r not in ROOMS for r in rooms):
                    return "BAD_ARGS"
                self._clean(rooms)
            case "pause":
                if self.state not in _DRIVING:
                    return "NOT_DRIVING"
                self.state = "paused"
            case "stop":
                self._halt("idle")
            case "dock":
                self._return()
            case "goto":
                return self._goto(args.get("x"), args.get("y"))
            case "set_fan":
                level = args.get("level")
                if not isinstance(level, int) or isinstance(level, bool) or not 0 <= level <= 4:
                    return "BAD_ARGS"
                self.fan = level
            case _:
                return "UNKNOWN_COMMAND"
        return None

    def _clean(self, rooms: list[str]) -> None:
        if self.state == "paused" and self._way:  # "start" goes on where "pause" stopped
            self.state = "cleaning"
            return
        self.state, self.error = "cleaning", None
        self._rooms = rooms[:]
        self.rng.shuffle(self._rooms)
        self._way = []

    def _goto(self, x: object, y: object) -> str | None:
        if not isinstance(x, (int, float)) or not isinstance(y, (int, float)):
            return "BAD_ARGS"
        if room_at((x, y)) is None:
            return "UNREACHABLE"
        self.state, self.error = "cleaning", None
        self._rooms = []
        self._head_for((float(x), float(y)))
        return None

    def _return(self) -> None:
        if self.state != "docked":
            self.state, self.error = "returning", None
            self._rooms = []
            self._head_for(dock(self.number))

    def _halt(self, state: RobotState) -> None:
        self.state = state
        self._way, self._rooms = [], []

    def _head_for(self, goal: Point) -> None:
        here = (self.x, self.y)
        if room_at(here) is None:  # in the thickness of a door frame: leave it towards the hall
            here = HALL.clamp(here)
            self._way = [here, *way(here, goal)]
        else:
            self._way = way(here, goal)

    def _live(self, dt_s: float, happened: list[Happening]) -> None:
        if self.state in _DRIVING:
            self._work(dt_s, happened)
        else:
            self.speed = self.omega = 0.0
            self._rest(dt_s, happened)
        drain = _DRAIN * (self.state in _DRIVING) + _DRAIN_FAN * self.fan
        change = _CHARGE if self.state == "docked" else -drain
        self.battery = min(max(self.battery + change * dt_s, 0.0), 100.0)
        self.filter = max(self.filter - 2e-5 * self.fan * dt_s, 0.0)

    def _rest(self, dt_s: float, happened: list[Happening]) -> None:
        self._rest_s -= dt_s
        if self._rest_s > 0:
            return
        if self.state == "docked" and self.battery >= _FULL * 0.6:
            self._clean(list(ROOMS))
            happened.append(Happening("CLEANING_STARTED", "info"))
        elif self.state == "error":
            self.state, self.error = "cleaning", None
            happened.append(Happening("RECOVERED", "info"))

    def _work(self, dt_s: float, happened: list[Happening]) -> None:
        if self.state == "cleaning" and self.battery < _LOW:
            happened.append(Happening("BATTERY_LOW", "warning"))
            self._return()
        elif self.state == "cleaning" and self.rng.random() < _STUCK_PER_S * dt_s:
            self.state, self.error = "error", "STUCK"
            self._rest_s = self.rng.uniform(6.0, 20.0)
            happened.append(Happening("STUCK", "warning"))
            return
        if not self._way and not self._next_goal(happened):
            return
        self._drive(dt_s)

    def _next_goal(self, happened: list[Happening]) -> bool:
        """Choose where to go next; return False when there is nothing left to do."""
        if self.state == "returning":
            self._halt("docked")
            self._rest_s = self.rng.uniform(20.0, 60.0)
            happened.append(Happening("DOCKED", "info"))
            return False
        if not self._rooms:
            happened.append(Happening("CLEANING_DONE", "info"))
            self._return()
            return True
        lanes = ROOMS[self._rooms.pop()].lanes(self.rng)
        self._head_for(lanes[0])
        self._way += lanes[1:]
        return True

    def _drive(self, dt_s: float) -> None:
        """Turn towards the next corner, then roll: sharp corners are turned on the spot."""
        goal_x, goal_y = self._way[0]
        dx, dy = goal_x - self.x, goal_y - self.y
        distance = math.hypot(dx, dy)
        if distance <= _ARRIVED:
            self._way.pop(0)
            self.omega = 0.0
            return
        error = angle(math.atan2(dy, dx) - self.theta)
        self.omega = max(-TURN, min(TURN, error / dt_s))
        self.theta = angle(self.theta + self.omega * dt_s)
        straight = max(0.0, math.cos(error)) ** 8  # no rolling while the nose points elsewhere
        braking = math.sqrt(2 * _ACCELERATION * distance)
        wanted = min(SPEED * straight, braking)
        change = _ACCELERATION * dt_s
        self.speed = max(self.speed - 2 * change, min(self.speed + change, wanted))
        roll = min(self.speed * dt_s, distance)
        self.x += roll * math.cos(self.theta)
        self.y += roll * math.sin(self.theta)
