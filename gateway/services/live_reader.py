"""One reader of poses, and what readers with the same choice of robots share."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from gateway.aio.link import Link
from gateway.aio.tcp import look
from gateway.core import wsframe
from gateway.core.pace import PongPace, WindowPace, noise
from gateway.services.live_poses import Block, Poses, Update

FIRST_PROBE_S: Final = 0.1
SUSPECT_S: Final = 0.06  # to the next look at a mute reader that seems behind
POSE_BYTES: Final = 250  # a pose in JSON, about; for estimates only
SHORTEST_S: Final = 0.25  # to measure over
FRAME_BYTES: Final = 60  # a frame without poses


class Changes:
    """Which flush last changed a robot. Flushes are numbered from 1."""

    def __init__(self) -> None:
        self.number = 0
        self.flushed_at = 0.0
        self.offset = 0  # of poses, at the last flush
        self.offset_before = 0  # at the one before
        self.at: dict[str, int] = {}

    def flush(self, dirty: dict[str, Update], offset: int, now: float) -> None:
        """Count a flush that publishes ``dirty``."""
        self.number += 1
        self.flushed_at = now
        self.offset_before, self.offset = self.offset, offset
        self.at.update(dict.fromkeys(dirty, self.number))


class Group:
    """Readers that chose the same robots (None: all): a frame is encoded once for all of them."""

    def __init__(self, robots: frozenset[str] | None) -> None:
        self.robots = robots
        self.members = 0
        self.fast: set[PoseReader] = set()
        self._demand = 0.0
        self._bytes = 0  # since
        self._since = 0.0
        self._order = None if robots is None else sorted(robots)

    def order(self, poses: Poses) -> Sequence[str]:
        """Return the robots in the order of a lap; the list only ever grows at its end."""
        return poses.order if self._order is None else self._order

    def pick(self, dirty: dict[str, Update]) -> list[Update]:
        """Return what a flush of ``dirty`` means to this group."""
        robots = self.robots
        if robots is None:
            chosen = list(dirty.values())
        elif len(robots) < len(dirty):
            chosen = [dirty[robot] for robot in robots if robot in dirty]
        else:
            chosen = [update for robot, update in dirty.items() if robot in robots]
        if chosen:
            self._bytes += FRAME_BYTES + POSE_BYTES * len(chosen)
        return chosen

    def demand(self, now: float) -> float:
        """Return the bytes per second of the full stream, about."""
        return max(self._demand, self._bytes / max(now - self._since, SHORTEST_S))

    def measure(self, now: float) -> None:
        """Begin to count anew, about once a second; a short silence does not make demand small."""
        self._demand = max(self._bytes / max(now - self._since, SHORTEST_S), self._demand * 0.9)
        self._bytes = 0
        self._since = now


class PoseReader(Link):
    """A WebSocket that reads poses.

    ``pace`` None: fast, it gets every flush. Else it is slow: what it gets next is decided when it
    can be sent. A slow reader goes round its robots in laps, so that nothing is kept per robot:
    sent is what changed since the lap before began.
    """

    __slots__ = ("backlog", "clean", "complete", "cursor", "deadline", "fast_at", "group",
                 "interval", "lap", "lap_before", "lap_offset", "looked_sent", "mute_at", "new",
                 "pace", "patience", "sent", "sent_at_ping", "sure", "suspect", "wants_snapshot",
                 "window")  # fmt: skip

    def __init__(self, transport: asyncio.Transport, group: Group, now: float) -> None:
        super().__init__(transport, now)
        self.group = group
        self.pace: PongPace | WindowPace | None = None
        self.new = True  # not yet known whether it answers pings
        self.sure = 1  # quick answers in a row that make it fast
        self.fast_at = now
        self.mute_at = 0.0  # when a new reader is taken for mute
        self.deadline = 0.0  # fast: when to ping next, or to wonder where the pong is
        self.interval = FIRST_PROBE_S
        self.patience = 0.0  # fast: how long a pong may take
        self.sent = 0  # bytes
        self.sent_at_ping = 0
        self.looked_sent = 0
        self.suspect = False  # mute and fast: at the last look something was unread
        self.window = 0  # the largest that its kernel offered
        self.cursor = self.lap = self.lap_before = 0
        self.lap_offset = self.complete = 0
        self.clean = -1  # number of the flush up to which it has everything
        self.wants_snapshot = False
        self.backlog: deque[Block] | None = None

    def is_late(self, now: float, *, slow_s: float) -> bool:
        """Decide about a fast reader whose pong is due."""
        far = look(self.transport)
        self.deadline = now + slow_s
        if far is None:
            return self.answers
        if self.answers:
            return now - self.ping_at > self.patience + far.rtt_s
        self.window = max(self.window, far.window)
        lately = self.sent - self.looked_sent
        taken = self.window - far.window - noise(self.window)
        if far.queued > lately or taken > min(lately, self.window // 4):
            return True
        self.looked_sent = self.sent
        suspected, self.suspect = self.suspect, taken > 0
        if self.suspect:
            self.deadline = now + SUSPECT_S
        return suspected and self.suspect

    def begin_lap(self, number: int, offset: int) -> None:
        """Note that everything up to flush ``number`` was sent."""
        self.cursor = 0
        self.lap = self.lap_before = self.clean = number
        self.lap_offset = self.complete = offset

    def next_poses(self, poses: Poses, changes: Changes, room: int) -> list[bytes]:
        """Return pose objects of about ``room`` bytes (at least one, if any waits).

        The robots least recently sent come first, each with its newest pose.
        """
        if self.clean == changes.number:
            return []
        order, at, newest = self.group.order(poses), changes.at, poses.newest
        parts: list[bytes] = []
        size, whole = FRAME_BYTES, len(order)
        for _ in range(whole):
            if self.cursor >= whole:
                self._end_lap(changes)
            robot = order[self.cursor]
            if at.get(robot, 0) > self.lap_before:
                part = poses.as_json(newest[robot])
                if parts and size + len(part) > room:
                    return parts
                parts.append(part)
                size += len(part)
            self.cursor += 1
        self.begin_lap(changes.number, changes.offset)  # all were visited at this moment
        return parts

    def _end_lap(self, changes: Changes) -> None:
        self.complete = max(self.complete, self.lap_offset)
        self.lap_before, self.lap = self.lap, changes.number
        self.lap_offset = changes.offset
        self.cursor = 0


def pose_frame(parts: list[bytes], offset: int) -> bytes:
    """Return the frame ``{type: "pose", offset, poses}``."""
    return wsframe.text(b'{"type":"pose","offset":%d,"poses":[' % offset + b",".join(parts) + b"]}")


def block_frame(json: bytes, offset: int) -> bytes:
    """Return the same of poses that are a JSON list already."""
    return wsframe.text(b'{"type":"pose","offset":%d,"poses":' % offset + json + b"}")
