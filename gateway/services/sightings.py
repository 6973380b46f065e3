"""Robots that only poses speak of: history learns from the live view that they are there."""

from collections.abc import Callable, Iterable

import msgspec

from gateway.records.port import RobotRow
from gateway.services.robots import LiveRobots


def sightings(view: LiveRobots) -> Callable[[int], Iterable[RobotRow]]:
    """Return a function: the robots seen after a receive time in ms, as upserts."""

    def since(after_ms: int) -> Iterable[RobotRow]:
        for robot in view.robots():
            if robot.last_seen > after_ms:
                pose = robot.pose
                yield RobotRow(
                    id=robot.id,
                    last_seen=robot.last_seen,
                    map_id=pose["mapId"] if pose else None,
                    pose=msgspec.json.encode(pose).decode() if pose else None,
                )

    return since
