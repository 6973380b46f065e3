"""A robot as it is now."""

import time
from typing import Any, Final

from gateway.core.payloads import Connection, Sensor, State
from gateway.services.live_poses import Poses

ONLINE_S: Final = 60  # a robot without a connection message is online for so long after a message


class LiveRobot:
    """One robot as it is now. Read it at once: it changes with the next message."""

    __slots__ = ("_poses", "_seen", "connection", "id", "sensor", "state")

    def __init__(self, id_: str, poses: Poses, seen: int) -> None:
        self.id = id_
        self.state: State | None = None
        self.connection: Connection | None = None
        self.sensor: Sensor | None = None
        self._poses = poses
        self._seen = seen

    @property
    def pose(self) -> dict[str, Any] | None:
        """The pose object of docs/live.md, None if there was none yet."""
        return self._poses.as_dict(self.id)

    @property
    def last_seen(self) -> int:
        """When the last message came, Unix ms of this box."""
        pose = self._poses.newest.get(self.id)
        return self._seen if pose is None else max(self._seen, pose[4])

    @property
    def online(self) -> bool:
        """What its last connection message says; without one, whether it was heard of lately."""
        if self.connection is not None:
            return self.connection.state == "online"
        return time.time() - self.last_seen / 1000 < ONLINE_S

    def saw(self, rts: int) -> None:
        """Note that a message came."""
        self._seen = max(self._seen, rts)
