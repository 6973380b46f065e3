"""The flat in which simulated robots drive: rooms, doors, docks, and ways between points.

Units: metres, in the frame of map ``f1``, origin at the lower left corner, x to the right.
Rooms are rectangles with one door to the hall each, so that a way is: out of the door, along the
hall, in.
"""

import math
from dataclasses import dataclass
from itertools import count, takewhile
from random import Random
from typing import Final

MAP_ID: Final = "f1"
MARGIN: Final = 0.25  # a robot's centre stays so far from every wall
DOOR_WIDTH: Final = 0.9
LANE: Final = 0.5  # distance between two cleaning lanes
_DOCKS_PER_ROW: Final = 22

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Room:
    """A rectangle; ``door`` is the middle of its opening to the hall (its own middle: the hall)."""

    id: str
    left: float
    bottom: float
    right: float
    top: float
    door: Point

    def holds(self, point: Point, margin: float = 0.0) -> bool:
        """Return whether ``point`` is inside, at least ``margin`` from the walls."""
        x, y = point
        return (
            self.left + margin <= x <= self.right - margin
            and self.bottom + margin <= y <= self.top - margin
        )

    def clamp(self, point: Point) -> Point:
        """Return the nearest point that a robot can stand on."""
        return (
            min(max(point[0], self.left + MARGIN), self.right - MARGIN),
            min(max(point[1], self.bottom + MARGIN), self.top - MARGIN),
        )

    def lanes(self, rng: Random) -> list[Point]:
        """Return waypoints that cover the room, up and down or to and fro."""
        low, high = (
            (self.left + MARGIN, self.bottom + MARGIN),
            (
                self.right - MARGIN,
                self.top - MARGIN,
            ),
        )
        across = rng.randrange(2)  # the axis along which the lanes follow each other
        start = rng.uniform(0.0, LANE)
        at = list(takewhile(lambda v: v <= high[across], (low[across] + start + LANE * n
                                                          for n in count())))  # fmt: skip
        if rng.random() < 0.5:
            at.reverse()
        way: list[Point] = []
        for number, value in enumerate(at):
            ends = (low[1 - across], high[1 - across])
            for end in ends if number % 2 == 0 else ends[::-1]:
                way.append((value, end) if across == 0 else (end, value))
        return way


HALL: Final = Room("hall", 0.0, 3.6, 12.0, 4.8, (6.0, 4.2))
ROOMS: Final[dict[str, Room]] = {
    room.id: room
    for room in (
        HALL,
        Room("living", 0.0, 0.0, 6.5, 3.6, (3.0, 3.6)),
        Room("kitchen", 6.5, 0.0, 12.0, 3.6, (9.0, 3.6)),
        Room("bedroom", 0.0, 4.8, 4.5, 8.5, (2.2, 4.8)),
        Room("study", 4.5, 4.8, 8.0, 8.5, (6.2, 4.8)),
        Room("bath", 8.0, 4.8, 12.0, 8.5, (10.0, 4.8)),
    )
}


def dock(number: int) -> Point:
    """Return where robot ``number`` charges: beside each other in the hall (large fleets share)."""
    return (MARGIN + 0.25 + 0.5 * (number % _DOCKS_PER_ROW), HALL.top - MARGIN)


def room_at(point: Point) -> Room | None:
    """Return the room in which ``point`` is; None inside a wall or outdoors."""
    return next((room for room in ROOMS.values() if room.holds(point)), None)


def is_free(point: Point, clearance: float = 0.1) -> bool:
    """Return whether a robot can be at ``point``: in a room, or in the opening of a door."""
    if any(room.holds(point, clearance) for room in ROOMS.values()):
        return True
    x, y = point
    return any(
        abs(x - room.door[0]) <= DOOR_WIDTH / 2 - clearance and abs(y - room.door[1]) <= MARGIN
        for room in ROOMS.values()
        if room is not HALL
    )


def way(start: Point, goal: Point) -> list[Point]:
    """Return the corners of a way from ``start`` to ``goal`` that crosses no wall.

    Raises:
        ValueError: one of them is in no room.
    """
    here, there = room_at(start), room_at(goal)
    if here is None or there is None:
        raise ValueError("a way starts and ends in a room")
    goal = there.clamp(goal)
    if here is there:
        return [goal]
    corners: list[Point] = []
    if here is not HALL:
        corners += _through(here)
    if there is not HALL:
        corners += _through(there)[::-1]
    return [*corners, goal]


def _through(room: Room) -> list[Point]:
    """Return the two points before and behind the door, from inside to the hall."""
    x, y = room.door
    out = 1.0 if room.top <= HALL.bottom else -1.0
    return [(x, y - out * MARGIN * 1.4), (x, y + out * MARGIN * 1.4)]


def angle(value: float) -> float:
    """Return ``value`` in radians, brought into [-pi, pi]."""
    return math.remainder(value, math.tau)
