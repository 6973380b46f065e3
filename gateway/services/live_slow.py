"""Readers that are not fast: new ones, slow ones, and those that catch up after a resume.

One timer serves all of them; between two of its ticks only a pong moves one of them on.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from gateway.aio.tcp import look
from gateway.core import wsframe
from gateway.core.pace import SURE, PongPace, WindowPace
from gateway.services.live_poses import Poses
from gateway.services.live_reader import Changes, PoseReader, block_frame, pose_frame

TICK_S: Final = 0.02
MUTE_AFTER_S: Final = 0.4  # without a pong
TRUST_AFTER_S: Final = 2.0  # and what its snapshot takes at TRUST_RATE, at most TRUST_MOST_S
TRUST_RATE: Final = 1_000.0
TRUST_MOST_S: Final = 10.0
QUIET_S: Final = 1.0  # without poses for so long, a mute reader need not be watched
BUNCH_S: Final = 0.05  # pongs of one gulp may come in several packets, 40 ms apart (Nagle)
QUICK: Final = 0.5  # of slow_s: an answer within it is a quick one
ROOMY: Final = 3.0  # times what the full stream needs: such a reader is fast
RELAPSE_S: Final = 10.0  # slow again so soon: it must prove more the next time
MOST_SURE: Final = 64
MUTE_ROOMY: Final = 2.0
AT_RISK_S: Final = 0.15  # what a fast reader is sent before it is seen to be slow after all
ALL: Final = 1 << 62

monotonic = time.monotonic


class SlowLane:
    """Serve the readers in it until they are fast; then hand them to ``release``."""

    def __init__(
        self,
        poses: Poses,
        changes: Changes,
        *,
        slow_s: float,
        numbers: Callable[[], int],
        snapshot: Callable[[PoseReader], bytes],
        release: Callable[[PoseReader, float], None],
    ) -> None:
        self.readers: dict[PoseReader, None] = {}
        self.frames = 0
        self._poses = poses
        self._changes = changes
        self._quick_s = slow_s * QUICK
        self._numbers = numbers
        self._snapshot = snapshot
        self._release = release
        self._timer: asyncio.TimerHandle | None = None

    def enter_new(self, reader: PoseReader, now: float) -> None:
        """Take a reader that has got nothing yet."""
        reader.pace = PongPace(0, quick_s=self._quick_s)
        reader.mute_at = now + MUTE_AFTER_S
        if (far := look(reader.transport)) is not None:
            reader.window = far.window  # with nothing in its buffer
        self._take(reader)

    def enter_late(self, reader: PoseReader, now: float) -> None:
        """Take a fast reader that has fallen behind the last flush."""
        soon = now - reader.fast_at < RELAPSE_S
        reader.sure = min(2 * reader.sure, MOST_SURE) if soon else SURE
        far = look(reader.transport)
        if reader.answers or far is None:
            reader.pace = pace = PongPace(reader.sent_at_ping, quick_s=self._quick_s)
            if reader.ping_at:
                pace.sent_frame(reader.number, 0, reader.ping_at)
            marker = wsframe.ping(number := self._numbers())  # its pong: all before it was read
            reader.write(marker)
            reader.pinged(number, now)
            pace.sent_frame(number, reader.sent - reader.sent_at_ping + len(marker), now)
        else:
            reader.window = max(reader.window, far.window)
            reader.pace = mute = WindowPace(full=reader.window, now=now, trust_at=now)
            mute.fell_behind(far.queued + reader.window - far.window, now)
        self._take(reader)

    def enter_behind(self, reader: PoseReader, now: float) -> None:
        """Take a fast reader that has a history to catch up with, or a snapshot to get."""
        if reader.answers or reader.new:
            reader.pace = PongPace(reader.sent, quick_s=self._quick_s)
        else:
            reader.pace = WindowPace(full=reader.window, now=now, trust_at=now)
        self._take(reader)
        self.advance(reader, now)

    def leave(self, reader: PoseReader) -> None:
        """Forget ``reader``."""
        self.readers.pop(reader, None)

    def _take(self, reader: PoseReader) -> None:
        self.readers[reader] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        now = began = monotonic()
        for reader in list(self.readers):
            self.advance(reader, now)
        self._timer = None
        if self.readers:
            # At most half of the loop's time, however many they are.
            pause = max(TICK_S, 2 * (monotonic() - began))
            self._timer = asyncio.get_running_loop().call_later(pause, self._tick)

    def pong(self, reader: PoseReader, number: int) -> None:
        """Take the pong of a reader in the lane."""
        pace = reader.pace
        if type(pace) is WindowPace:  # it does answer, only late
            reader.pace = pace = PongPace(reader.sent, quick_s=self._quick_s)
            pace.quick = -SURE
            if number < reader.number:  # and has not got to the last one
                pace.sent_frame(reader.number, 1, monotonic())
            return
        if type(pace) is PongPace and pace.heard(number):
            if not pace.base_s:
                far = look(reader.transport)
                pace.base_s = far.rtt_s if far else 0.0
            loop = asyncio.get_running_loop()
            if pace.is_quick(monotonic()):
                loop.call_soon(self._settle, reader, pace)
            else:
                loop.call_later(BUNCH_S, self._settle, reader, pace)

    def _settle(self, reader: PoseReader, pace: PongPace) -> None:
        if reader.pace is not pace or reader not in self.readers:
            return
        now = monotonic()
        pace.settle(now)
        self.advance(reader, now)

    def advance(self, reader: PoseReader, now: float) -> None:
        """Send what may be sent to ``reader`` now, or make it fast."""
        if reader.closed or reader.transport.is_closing() or reader.buffered:
            return
        pace = reader.pace
        if type(pace) is PongPace:
            if reader.new and not reader.answers and now >= reader.mute_at:
                self._take_for_mute(reader, now)
                return
            if room := pace.room(now):
                fit = pace.current(now) and self._fits(reader, pace, now)
                self._send(reader, ALL if fit else room, now)
                if fit and reader.clean == self._changes.number and not reader.backlog:
                    self._leave_fast(reader, now)
        elif type(pace) is WindowPace:
            self._advance_mute(reader, pace, now)

    def _fits(self, reader: PoseReader, pace: PongPace, now: float) -> bool:
        demand = reader.group.demand(now)
        if pace.quick >= reader.sure and pace.streak >= AT_RISK_S * demand:
            return True
        return pace.sample > 0 and pace.rate >= ROOMY * demand

    def _take_for_mute(self, reader: PoseReader, now: float) -> None:
        reader.new = False
        far = look(reader.transport)
        if far is None:
            self._leave_fast(reader, now)
            return
        reader.window = max(reader.window, far.window)
        trust_at = now + min(TRUST_AFTER_S + reader.sent / TRUST_RATE, TRUST_MOST_S)
        reader.pace = WindowPace(full=reader.window, now=now, sent=reader.sent, trust_at=trust_at)

    def _advance_mute(self, reader: PoseReader, pace: WindowPace, now: float) -> None:
        far = look(reader.transport)
        if far is None:
            return  # closed meanwhile
        if reader.backlog or reader.wants_snapshot:
            if far.queued == 0:
                self._send(reader, ALL, now)
            return
        room = pace.room(now, queued=far.queued, window=far.window)
        if room:
            quiet = now - self._changes.flushed_at > QUIET_S
            self._send(reader, room, now)
            roomy = 0 < pace.rate >= MUTE_ROOMY * reader.group.demand(now)
            if (quiet or roomy) and reader.clean == self._changes.number:
                self._leave_fast(reader, now)
        elif pace.ask:
            reader.ping(self._numbers(), now)

    def _leave_fast(self, reader: PoseReader, now: float) -> None:
        reader.pace = None
        reader.new = False
        reader.fast_at = now
        self.leave(reader)
        self._release(reader, now)

    def _send(self, reader: PoseReader, room: int, now: float) -> None:
        """Send the next frame, if there is one, with a ping at its end."""
        frame = self._next(reader, room)
        if frame is None:
            return
        number = self._numbers()
        frame += wsframe.ping(number)
        reader.write(frame)
        reader.pinged(number, now)
        size = len(frame)
        reader.sent += size
        reader.sent_at_ping = reader.sent
        if type(reader.pace) is PongPace:
            reader.pace.sent_frame(number, size, now)
            if reader.new:
                reader.mute_at = now + MUTE_AFTER_S
        elif type(reader.pace) is WindowPace:
            reader.pace.sent_frame(size, now)
        self.frames += 1

    def _next(self, reader: PoseReader, room: int) -> bytes | None:
        while reader.backlog:
            block = reader.backlog.popleft()
            json = self._poses.block_json(block, reader.group.robots)
            if json is not None:
                return block_frame(json, block.end)
        reader.backlog = None
        if reader.wants_snapshot:
            reader.wants_snapshot = False
            return self._snapshot(reader)
        parts = reader.next_poses(self._poses, self._changes, room)
        return pose_frame(parts, reader.complete) if parts else None
