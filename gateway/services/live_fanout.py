"""Poses to WebSockets: one encoding and one flush loop for all readers, no task per frame.

A reader is fast until a pong is late; then ``SlowLane`` has it. Design and figures: docs/live.md.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from gateway.aio.link import Link
from gateway.config.model import Live as LiveConfig
from gateway.core import wsframe
from gateway.services.live_poses import Poses
from gateway.services.live_reader import FIRST_PROBE_S, Changes, Group, PoseReader, pose_frame
from gateway.services.live_slow import SlowLane

LONGEST_PROBE_S: Final = 1.0  # between two pings to a reader that answers quickly
FIRST_PATIENCE_S: Final = 0.1  # for the first pong of a reader that is fast as far as is known
RELAX: Final = 1.5  # growth of that interval
IDLE_TURN_S: Final = 0.0003  # a turn of the loop within it had nothing else to do
SHARE: Final = 1.5  # from flush to flush, times what a flush takes, while the loop has other work

monotonic = time.monotonic


class PoseFanout:
    """The readers of poses. ``poke`` after poses were accepted."""

    def __init__(self, config: LiveConfig, poses: Poses, *, epoch: str) -> None:
        self._poses = poses
        self._epoch = epoch
        self._tick_s = config.tick_ms / 1000
        self._slow_s = config.slow_ms / 1000
        self._changes = Changes()
        self._numbers = itertools.count(1).__next__
        self._groups: dict[frozenset[str] | None, Group] = {}
        self._readers: set[PoseReader] = set()
        self._lane = SlowLane(
            poses,
            self._changes,
            slow_s=self._slow_s,
            numbers=self._numbers,
            snapshot=self._snapshot,
            release=self._make_fast,
        )
        self._loop: asyncio.AbstractEventLoop | None = None  # that of the first reader
        self._scheduled = False
        self._last_at = 0.0  # when the last flush began
        self._cost_s = 0.0  # what it took
        self._frames = self._conflated = self._turned_slow = 0
        self._resumed = self._not_recovered = 0

    # Readers come and go.

    def join(
        self, transport: asyncio.Transport, robots: frozenset[str] | None, position: Any = None
    ) -> PoseReader:
        """Take a reader; it gets a snapshot, or what came after ``position`` (epoch, offset)."""
        now = monotonic()
        self._loop = asyncio.get_running_loop()
        if not self._readers:
            self._poses.dirty.clear()
            self._changes.offset = self._changes.offset_before = self._poses.offset
        reader = PoseReader(transport, self._group(robots), now)
        self._readers.add(reader)
        reader.begin_lap(self._changes.number, self._poses.offset)
        self._lane.enter_new(reader, now)
        if position is not None:
            self._answer_resume(reader, *position)
        else:
            reader.wants_snapshot = True
        self._lane.advance(reader, now)
        return reader

    def leave(self, reader: PoseReader) -> None:
        """Forget a reader; nothing is sent to it any more."""
        if reader in self._readers:
            self._readers.discard(reader)
            self._lane.leave(reader)
            self._drop_from_group(reader)

    def subscribe(self, reader: PoseReader, robots: frozenset[str] | None) -> None:
        """Change what a reader gets; it starts with a snapshot of that."""
        if reader not in self._readers:
            return
        self._drop_from_group(reader)
        reader.group = self._group(robots)
        reader.backlog = None
        reader.wants_snapshot = True
        self._behind(reader)

    def resume(self, reader: PoseReader, epoch: str, offset: int) -> None:
        """Send every pose accepted after ``offset``, or say that it is not possible."""
        if reader in self._readers:
            self._answer_resume(reader, epoch, offset)
            self._behind(reader)

    def _answer_resume(self, reader: PoseReader, epoch: str, offset: int) -> None:
        blocks = self._poses.since(offset) if epoch == self._epoch else None
        recovered = blocks is not None
        self._resumed += 1
        self._not_recovered += not recovered
        # What it is promised is held for it from here on, whatever the history drops meanwhile.
        reader.backlog = deque(blocks) if blocks else None
        reader.wants_snapshot = not recovered
        answer = b'{"type":"resumed","recovered":%s,"epoch":"%s","offset":%d}' % (
            b"true" if recovered else b"false",
            self._epoch.encode(),
            self._poses.offset,
        )
        reader.write(wsframe.text(answer))
        reader.begin_lap(self._changes.number, self._poses.offset)

    def _behind(self, reader: PoseReader) -> None:
        reader.group.fast.discard(reader)
        if reader in self._lane.readers:
            self._lane.advance(reader, monotonic())
        else:
            self._lane.enter_behind(reader, monotonic())

    def _group(self, robots: frozenset[str] | None) -> Group:
        group = self._groups.get(robots)
        if group is None:
            group = self._groups[robots] = Group(robots)
            group.measure(monotonic())
        group.members += 1
        return group

    def _drop_from_group(self, reader: PoseReader) -> None:
        group = reader.group
        group.fast.discard(reader)
        group.members -= 1
        if not group.members:
            del self._groups[group.robots]

    def _snapshot(self, reader: PoseReader) -> bytes:
        reader.begin_lap(self._changes.number, self._poses.offset)
        robots = None if reader.group.robots is None else reader.group.order(self._poses)
        return wsframe.text(self.snapshot(robots, b'"type":"snapshot",'))

    def snapshot(self, robots: Iterable[str] | None = None, head: bytes = b"") -> bytes:
        """Return the newest poses as a JSON object; ``head`` is its first members."""
        start = b'{%s"epoch":"%s","offset":%d,"poses":'
        return (
            start % (head, self._epoch.encode(), self._poses.offset)
            + self._poses.all_json(robots)
            + b"}"
        )

    def pong(self, reader: PoseReader, number: int) -> None:
        """Note that ``reader`` has read everything up to the ping ``number``."""
        now = monotonic()
        reader.heard(number, now)
        if reader.pace is not None:
            self._lane.pong(reader, number)
            return
        if number < reader.number:
            return
        if now - reader.pinged_at < self._slow_s / 4:
            reader.interval = min(reader.interval * RELAX, LONGEST_PROBE_S)
        else:
            reader.interval = FIRST_PROBE_S
        reader.deadline = now + reader.interval
        reader.patience = self._slow_s

    # The flush.

    def poke(self) -> None:
        """See to it that what is dirty goes out: at once after a quiet tick, else with the next."""
        if self._scheduled or self._loop is None or not self._readers:
            return
        self._scheduled = True
        wait = self._last_at + self._tick_s - monotonic()
        if wait <= 0:
            self._loop.call_soon(self._turn, monotonic())
        else:
            self._loop.call_later(wait, self._due)

    def _due(self) -> None:
        assert self._loop is not None  # noqa: S101 - scheduled on it
        self._loop.call_soon(self._turn, monotonic())

    def _turn(self, asked_at: float) -> None:
        """Flush, unless the loop has other work and the last flush has not been paid for.

        So that others get a third of the loop's time when they want it, and readers get more when
        nobody else does.
        """
        now = monotonic()
        paid = self._last_at + SHARE * self._cost_s - now
        if paid > 0 and now - asked_at > IDLE_TURN_S and self._loop is not None:
            self._loop.call_later(paid, self.flush)
        else:
            self.flush()

    def flush(self) -> None:
        """Send what changed since the last flush to every fast reader."""
        now = monotonic()
        self._scheduled = False
        poses = self._poses
        dirty, poses.dirty = poses.dirty, {}
        if not dirty:
            return
        self._changes.flush(dirty, poses.offset, now)
        number = self._numbers()
        late: list[PoseReader] = []
        for group in self._groups.values():
            chosen = group.pick(dirty)
            if not chosen or not group.fast:
                continue
            frame = pose_frame([poses.as_json(update) for update in chosen], poses.offset)
            self._write(group.fast, frame, number, now, late)
        for reader in late:
            reader.group.fast.discard(reader)
            reader.begin_lap(self._changes.number - 1, self._changes.offset_before)
            self._turned_slow += 1
            self._lane.enter_late(reader, now)
        self._conflated += len(self._lane.readers)
        self._last_at = now
        self._cost_s = monotonic() - now

    def _write(
        self,
        readers: set[PoseReader],
        frame: bytes,
        number: int,
        now: float,
        late: list[PoseReader],
    ) -> None:
        with_ping = frame + wsframe.ping(number)
        size, size_with_ping = len(frame), len(with_ping)
        before = len(late)
        for reader in readers:
            transport = reader.transport
            if transport.is_closing():
                continue
            if transport.get_write_buffer_size():
                late.append(reader)
            elif now < reader.deadline:
                transport.write(frame)
                reader.sent += size
            elif not reader.ping_at:
                transport.write(with_ping)
                reader.sent = reader.sent_at_ping = reader.sent + size_with_ping
                reader.pinged(number, now)
                reader.deadline = now + reader.patience
            elif reader.is_late(now, slow_s=self._slow_s):
                late.append(reader)
            else:
                transport.write(frame)
                reader.sent += size
        self._frames += len(readers) - len(late) + before

    def _make_fast(self, reader: PoseReader, now: float) -> None:
        reader.group.fast.add(reader)
        reader.interval = FIRST_PROBE_S
        reader.patience = min(FIRST_PATIENCE_S, self._slow_s)
        reader.looked_sent = reader.sent
        reader.deadline = now + reader.patience if reader.ping_at else now

    # Once a second.

    @property
    def count(self) -> int:
        """How many readers there are."""
        return len(self._readers)

    def ping(self, link: Link, now: float) -> None:
        """Ask a reader whether it is there."""
        link.ping(self._numbers(), now)

    def links(self) -> list[Link]:
        """Return every reader."""
        return list(self._readers)

    def silence(self) -> None:
        """Send no poses any more."""
        for group in self._groups.values():
            group.fast.clear()
        self._lane.readers.clear()

    def measure(self) -> None:
        """Learn what a full stream costs."""
        now = monotonic()
        for group in self._groups.values():
            group.measure(now)

    def figures(self) -> dict[str, int | float]:
        """Return counters since the start, and the readers now."""
        return {
            "pose_readers": len(self._readers),
            "slow_readers": len(self._lane.readers),
            "turned_slow": self._turned_slow,
            "pose_frames": self._frames + self._lane.frames,
            "conflated": self._conflated,
            "resumes": self._resumed,
            "resumes_not_recovered": self._not_recovered,
            "flush_seconds": self._cost_s,
        }
