"""The live view: newest value of every robot, and everybody who watches.

``publish`` is on the hot path of ingest: nothing is encoded there, and nothing waits.
"""

import asyncio
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

from gateway.aio.link import GOING_AWAY, Link
from gateway.aio.tcp import keep_little_in_flight
from gateway.config.model import Live as LiveConfig
from gateway.core.errors import Unavailable
from gateway.core.kinds import Kind
from gateway.core.payloads import Connection, Pose, Sensor, State
from gateway.services.live_events import EventHub
from gateway.services.live_fanout import PoseFanout
from gateway.services.live_happening import TYPE, Choice
from gateway.services.live_listeners import SocketListener, StreamListener, look_after
from gateway.services.live_poses import Poses, Update, is_stale
from gateway.services.live_reader import PoseReader
from gateway.services.live_robot import LiveRobot
from gateway.services.why_exceptions import Exceptions

MAX_ROBOTS: Final = 20_000  # a snapshot of more would hold the loop for longer than 50 ms
SECOND_S: Final = 1.0
SEND_BUFFER: Final = 32_768  # bytes in the kernel for one reader
GOODBYE_S: Final = 0.8  # what clients get to answer a close frame

MEMORY_S: Final = 120.0
"""History goes on so long after the last reader, which may come back. Without readers there is
none: 20,000 poses that stay alive cost more than all else about a pose (a third of the rate)."""

_POSE: Final = int(Kind.POSE)
_COUNTED: Final = tuple(map(int, Kind))
_WHEN: Final = {int(Kind.SENSOR), int(Kind.STATE)}  # newest by time; the others by arrival


class Live:
    """Newest values, pose readers, event listeners. One per process, on one event loop.

    ``received``, ``applied``, ``stale`` and ``refused`` count messages by kind:
    received = applied + stale + refused. ``exceptions`` remembers the last two.
    """

    def __init__(self, config: LiveConfig, *, max_robots: int = MAX_ROBOTS) -> None:
        self.epoch = secrets.token_hex(8)
        self.received = dict.fromkeys(_COUNTED, 0)
        self.applied = dict.fromkeys(_COUNTED, 0)
        self.stale = dict.fromkeys(_COUNTED, 0)
        self.refused = dict.fromkeys(_COUNTED, 0)
        self.exceptions = Exceptions()
        self._config = config
        self._max_robots = max_robots
        self._robots: dict[str, LiveRobot] = {}
        self._states: dict[str, State] = {}
        self._poses = Poses(config.history, self._states)
        self._fanout = PoseFanout(config, self._poses, epoch=self.epoch)
        self._events = EventHub(config, epoch=self.epoch)
        self._closed = False
        self._asked_at = 0.0  # when somebody last had an offset to resume from
        self._gone: asyncio.Event | None = None  # while closing: set by the last reader to leave
        self._cut = self._turned_away = 0

    def publish(self, updates: list[Update]) -> int:
        """Apply a batch; return how many were stale: older than what is known of their robot.

        By (ts, seq), per robot and kind. A connection message or an event is never stale: a last
        will carries the time of its connect, and an event happened whenever it is told.
        """
        poses = self._poses
        newest, dirty = poses.newest, poses.dirty
        accepted, keeping = poses.recent.append, poses.keeping
        others: list[Update] = []
        count = stale = 0
        for update in updates:
            if update[0] != _POSE:
                others.append(update)
                continue
            count += 1
            robot = update[1]
            old = newest.get(robot)
            if old is None:
                if not self._known(robot, update[4]):
                    self.refused[_POSE] += 1
                    self.exceptions.refused(update)
                    count -= 1
                    continue
                poses.order.append(robot)
            elif update[3] <= old[3] and is_stale(update, old):
                stale += 1
                self.exceptions.stale(update, old[3], cast(Pose, old[2]).seq)
                self._robots[robot].saw(update[4])
                continue
            newest[robot] = dirty[robot] = update
            if keeping:
                accepted(update)
        self.received[_POSE] += len(updates) - len(others)
        self.applied[_POSE] += count - stale
        self.stale[_POSE] += stale
        poses.offset += count - stale
        if poses.full:
            poses.roll()
        if others:
            stale += self._publish_others(others)
        if poses.dirty:
            self._fanout.poke()
        return stale

    def _publish_others(self, updates: list[Update]) -> int:
        stale = 0
        happened: list[Update] = []
        for update in updates:
            kind, robot, payload, _, rts = update
            self.received[kind] += 1
            if not self._known(robot, rts):
                self.refused[kind] += 1
                self.exceptions.refused(update)
                continue
            known = self._robots[robot]
            known.saw(rts)
            old = known.overtaken(update) if kind in _WHEN else None
            if old is not None:
                self.stale[kind] += 1
                self.exceptions.stale(update, old[0], old[1])
                stale += 1
                continue
            self.applied[kind] += 1
            if kind == Kind.SENSOR:
                known.sensor = cast(Sensor, payload)
            elif kind == Kind.STATE:
                self._take_state(known, cast(State, payload))
            elif kind == Kind.CONNECTION:
                known.connection = cast(Connection, payload)
            if kind in TYPE:
                happened.append(update)
        if happened:
            self._events.add(happened)
        return stale

    def _known(self, robot: str, rts: int) -> bool:
        if robot not in self._robots:
            if len(self._robots) >= self._max_robots:
                return False
            self._robots[robot] = LiveRobot(robot, self._poses, rts)
        return True

    def _take_state(self, robot: LiveRobot, state: State) -> None:
        old = robot.state
        robot.state = self._states[robot.id] = state
        if old is None or (old.state, old.battery) != (state.state, state.battery):
            self._poses.forget_state(robot.id)  # readers get its pose object again

    def announce(self, type_: str, robot: str | None, data: Mapping[str, Any], *, ts: int) -> None:
        """Tell event listeners something that no robot sent: ``schedule``, ``map``, ``alert``."""
        self._events.announce(type_, robot, data, ts)

    # What is known.

    def robot(self, id_: str) -> LiveRobot | None:
        """Return a robot that was heard of since the start."""
        return self._robots.get(id_)

    def robots(self) -> list[LiveRobot]:
        """Return all robots that were heard of since the start."""
        return list(self._robots.values())

    def snapshot_json(self) -> bytes:
        """Return ``{epoch, offset, poses}``; a WebSocket may resume from there."""
        self._remember()
        return self._fanout.snapshot()

    # Readers.

    def admit(self) -> None:
        """Raises Unavailable: there are as many readers as ``[live] clients`` allows, or a stop."""
        if self._closed or self.readers >= self._config.clients:
            self._turned_away += 1
            raise Unavailable("too many live readers", retry_after_s=5.0, dependency="live")

    @property
    def readers(self) -> int:
        """How many streams are open."""
        events = self._events
        return self._fanout.count + len(events.sockets) + len(events.streams)

    def join_poses(
        self,
        transport: asyncio.Transport,
        robots: frozenset[str] | None,
        position: tuple[str, int] | None = None,
    ) -> PoseReader:
        """Take a WebSocket; ``position`` (epoch, offset) resumes instead of a snapshot.

        Raises:
            Unavailable: see ``admit``.
        """
        self.admit()
        keep_little_in_flight(transport, send_buffer=SEND_BUFFER)
        self._remember()
        return self._fanout.join(transport, robots, position)

    def join_events(
        self, transport: asyncio.Transport, choice: Choice, last_id: str | None
    ) -> SocketListener:
        """Take a WebSocket that hears events. Raises Unavailable: see ``admit``."""
        self.admit()
        keep_little_in_flight(transport, send_buffer=SEND_BUFFER)
        return self._events.join_socket(transport, choice, last_id)

    def join_stream(self, choice: Choice, last_id: str | None) -> tuple[StreamListener, bytes]:
        """Take an SSE stream; returns also what to write first. Raises Unavailable."""
        self.admit()
        return self._events.join_stream(choice, last_id)

    def leave(self, reader: Link | StreamListener) -> None:
        """Forget a reader; nothing is sent to it any more."""
        if isinstance(reader, PoseReader):
            self._fanout.leave(reader)
        elif isinstance(reader, SocketListener | StreamListener):
            self._events.leave(reader)
        if self._gone is not None and not self.readers:
            self._gone.set()

    def pong(self, reader: Link, number: int) -> None:
        """Note the answer to a ping."""
        if isinstance(reader, PoseReader):
            self._fanout.pong(reader, number)
        else:
            reader.heard(number, time.monotonic())

    def subscribe(self, reader: PoseReader, robots: frozenset[str] | None) -> None:
        """Change the robots of a reader; None: all. It gets a new snapshot."""
        self._fanout.subscribe(reader, robots)

    def resume(self, reader: PoseReader, epoch: str, offset: int) -> None:
        """Tell a reader truthfully whether it gets every pose after ``offset``; send them."""
        self._fanout.resume(reader, epoch, offset)

    # Life.

    async def run(self) -> None:
        """Once a second: pings, heartbeats, and an end to readers that are not there."""
        while True:
            await asyncio.sleep(SECOND_S)
            self._fanout.measure()
            self._look_after(time.monotonic())

    def _remember(self) -> None:
        """Keep the history of poses: somebody has, or is about to get, an offset to resume from."""
        self._poses.keep()
        self._asked_at = time.monotonic()

    def _look_after(self, now: float) -> None:
        if self._fanout.count:
            self._asked_at = now
        elif now - self._asked_at > MEMORY_S and self._poses.keeping:
            self._poses.forget()
        poses, events = self._fanout, self._events
        self._cut += look_after(poses.links(), poses.ping, now, self._config)
        self._cut += look_after(list(events.sockets), events.ping, now, self._config)
        for stream in self._events.streams:
            stream.beat(now, self._config.heartbeat_s)

    async def close(self) -> None:
        """End all streams: 1001 for WebSockets, a ``retry:`` hint for SSE. Takes at most 1 s."""
        self._closed = True
        streams = list(self._events.streams)
        for stream in streams:
            stream.end(b"retry: 1000\n\n")
        links = [*self._fanout.links(), *self._events.sockets]
        self._fanout.silence()
        for link in links:
            link.close(GOING_AWAY, "going away")
        if self.readers:
            self._gone = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self._gone.wait()
        for link in links:
            link.transport.abort()
        for stream in streams:
            if stream in self._events.streams and stream.transport is not None:
                stream.transport.abort()

    def figures(self) -> dict[str, int | float]:
        """Return what /metrics shows of the live view."""
        return {
            "robots": len(self._robots),
            "robots_max": self._max_robots,
            "poses": self._poses.offset,
            "cut": self._cut,
            "turned_away": self._turned_away,
            **self._fanout.figures(),
            **self._events.figures(),
        }
