"""A robot as it is now."""

import time
from typing import Any, Final

from gateway.core.payloads import Connection, Sensor, State
from gateway.services.live_poses import STEPPED_S, Poses, Update

ONLINE_S: Final = 60  # a robot without a connection message is online for so long after a message


class LiveRobot:
    """One robot as it is now. Read it at once: it changes with the next message."""

    __slots__ = ("_newest", "_poses", "_seen", "connection", "id", "sensor", "state")

    def __init__(self, id_: str, poses: Poses, seen: int) -> None:
        self.id = id_
        self.state: State | None = None
        self.connection: Connection | None = None
        self.sensor: Sensor | None = None
        self._newest: dict[int, tuple[int, int, int]] = {}  # (ts, seq, rts) by kind
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

    def overtaken(self, update: Update) -> tuple[int, int, int] | None:
        """Return what is known, (ts, seq, rts), if ``update`` is older; else now it is that.

        Nothing newer for STEPPED_S: the robot's clock was set back, and it is believed again.
        """
        kind, _, payload, ts, rts = update
        seq: int | None = getattr(payload, "seq", None)
        number = -1 if seq is None else seq
        old = self._newest.get(kind)
        if old is not None and rts - old[2] < STEPPED_S * 1000:
            again = number == old[1] and number >= 0
            if ts < old[0] or (ts == old[0] and (number < old[1] or again)):
                return old
        self._newest[kind] = (ts, number, rts)
        return None
