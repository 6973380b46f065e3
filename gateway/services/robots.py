"""The registry: what history knows of a robot, with the live view on top."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from gateway.core.errors import NotFound
from gateway.core.payloads import Connection, Id, State
from gateway.core.times import Instant, rfc3339
from gateway.records.port import RecordStore, RobotRow


class Robot(Struct, frozen=True, rename="camel"):
    """A robot as it is answered; null is "never said". ``pose`` is the object of the live view."""

    id: Id
    name: str | None
    model: str | None
    firmware: str | None
    map_id: str | None
    online: bool
    last_seen: Instant
    pose: dict[str, Any] | None
    battery: float | None  # %
    state: str | None


class RobotPage(Struct, frozen=True):
    """Robots by id; ``cursor`` None on the last page."""

    items: list[Robot]
    cursor: str | None


class LiveRobot(Protocol):
    """What is used of a robot in the live view. ``last_seen`` in receive ms."""

    @property
    def id(self) -> str: ...
    @property
    def pose(self) -> dict[str, Any] | None: ...
    @property
    def state(self) -> State | None: ...
    @property
    def connection(self) -> Connection | None: ...
    @property
    def last_seen(self) -> int: ...
    @property
    def online(self) -> bool: ...


class LiveRobots(Protocol):
    """What is used of the live view."""

    def robot(self, robot: str) -> LiveRobot | None: ...
    def robots(self) -> Sequence[LiveRobot]: ...


class Robots:
    """Every robot that was ever heard of."""

    def __init__(self, store: RecordStore, live: LiveRobots) -> None:
        self._store = store
        self._live = live

    async def show(self, robot: str) -> Robot:
        """Return one robot. Raises NotFound if nothing was ever heard of it."""
        row, live = await self._store.robot(robot), self._live.robot(robot)
        if row is None and live is None:
            raise NotFound("no robot of that id is known")
        return _merged(robot, row, live)

    async def page(self, *, limit: int, cursor: str | None) -> RobotPage:
        """Return at most ``limit`` robots by id, those after the id ``cursor``."""
        rows = {row.id: row for row in await self._store.robots()}
        live = {robot.id: robot for robot in self._live.robots()}
        names = sorted(name for name in rows.keys() | live.keys() if name > (cursor or ""))
        items = [_merged(name, rows.get(name), live.get(name)) for name in names[:limit]]
        return RobotPage(items, names[limit - 1] if len(names) > limit else None)


def _merged(name: str, row: RobotRow | None, live: LiveRobot | None) -> Robot:
    """The live view wins where it says something: it is ahead of history."""
    row = row or RobotRow(id=name, last_seen=0)
    pose = live.pose if live else None
    if pose is None and row.pose is not None:
        pose = msgspec.json.decode(row.pose)
    state = live.state if live else None
    connection = live.connection if live else None
    battery = state.battery if state else None
    return Robot(
        id=name,
        name=row.name,
        model=(connection.model if connection else None) or row.model,
        firmware=(connection.fw if connection else None) or row.firmware,
        map_id=(pose.get("mapId") if pose else None) or row.map_id,
        online=live.online if live else False,
        last_seen=rfc3339(max(row.last_seen, live.last_seen if live else 0)),
        pose=pose,
        battery=row.battery if battery is None else battery,
        state=state.state if state else row.state,
    )
