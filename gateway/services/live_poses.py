"""Newest pose of every robot, the history that resuming readers need, and both as JSON."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from gateway.core.payloads import Payload, Pose, State

Update = tuple[int, str, Payload, int, int]
"""(kind, robot, payload, device time in ms, receive time in ms)."""

MEMORY_MS: Final = 60_000  # a reader that was away for longer is better off with a snapshot
BLOCK: Final = 256  # poses of history that are encoded, cached and dropped together

STEPPED_S: Final = 10  # nothing newer for so long: the robot's clock was set back, believe it again

_encode: Final = msgspec.json.Encoder().encode


class PoseJson(Struct, gc=False, rename="camel"):
    """A pose as readers see it: docs/live.md."""

    id: str
    map_id: str | None
    x: float
    y: float
    theta: float
    vx: float
    vy: float
    omega: float
    localized: bool
    battery: float | None
    state: str | None
    ts: int
    rts: int
    seq: int | None


class Block:
    """A run of accepted poses. ``end`` is the offset after the last of them."""

    __slots__ = ("end", "json", "updates")

    def __init__(self, updates: Sequence[Update], end: int) -> None:
        self.updates = updates
        self.end = end
        self.json: bytes | None = None  # of all its poses, made when the first reader needs it


class Poses:
    """What is known of positions. ``offset`` counts accepted poses since the start."""

    def __init__(self, history: int, states: dict[str, State]) -> None:
        """Keep at least ``history`` poses; ``states`` has the newest state by robot."""
        self.newest: dict[str, Update] = {}
        self.dirty: dict[str, Update] = {}
        self.order: list[str] = []  # robots with a pose, in the order of their first one
        self.recent: list[Update] = []  # accepted, not yet a block
        self.offset = 0
        self.keeping = False  # history: only while somebody could ask for it
        self._states = states
        self._size = min(BLOCK, history)
        self._blocks: deque[Block] = deque(maxlen=-(-history // self._size))
        self._json: dict[str, tuple[Update, bytes]] = {}

    def keep(self) -> None:
        """Keep history from here on."""
        self.keeping = True

    def forget(self) -> None:
        """Keep no history: whoever resumes now is told so, and gets a snapshot."""
        self.keeping = False
        self.recent = []
        self._blocks.clear()

    def roll(self) -> None:
        """Make blocks of ``recent``; call when poses were added to it and ``offset`` moved."""
        size, recent = self._size, self.recent
        start = self.offset - len(recent)
        whole = len(recent) - len(recent) % size
        for i in range(0, whole, size):
            self._blocks.append(Block(recent[i : i + size], start + i + size))
        self.recent = recent[whole:]
        oldest = recent[-1][4] - MEMORY_MS if recent else 0
        while self._blocks and self._blocks[0].updates[-1][4] < oldest:
            self._blocks.popleft()

    @property
    def full(self) -> bool:
        """Whether ``roll`` has something to do."""
        return len(self.recent) >= self._size

    def since(self, offset: int) -> list[Block] | None:
        """Return every pose accepted after ``offset``, None if that is not known any more.

        The blocks stay as they are while the caller holds them.
        """
        missing = self.offset - offset
        if missing < 0 or missing > len(self.recent) + len(self._blocks) * self._size:
            return None
        found = []
        for block in self._blocks:
            if block.end > offset:
                start = block.end - len(block.updates)
                skip = offset - start
                found.append(block if skip <= 0 else Block(block.updates[skip:], block.end))
        if self.recent:
            skip = max(0, offset - (self.offset - len(self.recent)))
            rest = self.recent[skip:]
            if rest:
                found.append(Block(rest, self.offset))
        return found

    def forget_state(self, robot: str) -> None:
        """Make the robot's JSON again: its battery or state changed."""
        self._json.pop(robot, None)
        update = self.newest.get(robot)
        if update is not None:
            self.dirty[robot] = update

    def as_json(self, update: Update) -> bytes:
        """Return the pose object of a robot's newest update."""
        kept = self._json.get(update[1])
        if kept is not None and kept[0] is update:
            return kept[1]
        made = _encode(self._shaped(update))
        self._json[update[1]] = (update, made)
        return made

    def as_dict(self, robot: str) -> dict[str, Any] | None:
        """Return the pose object of ``robot``, None if there was no pose yet."""
        update = self.newest.get(robot)
        if update is None:
            return None
        shaped: dict[str, Any] = msgspec.to_builtins(self._shaped(update))
        return shaped

    def all_json(self, robots: Iterable[str] | None = None) -> bytes:
        """Return the JSON list of the newest poses, of all robots or of ``robots``."""
        newest = self.newest
        if robots is None:
            chosen: Iterable[Update] = newest.values()
        else:
            chosen = [newest[robot] for robot in robots if robot in newest]
        return b"[" + b",".join(map(self.as_json, chosen)) + b"]"

    def block_json(self, block: Block, robots: frozenset[str] | None) -> bytes | None:
        """Return the JSON list of a block's poses, None if it has none of ``robots``."""
        if robots is None:
            if block.json is None:
                block.json = _encode([self._shaped(update) for update in block.updates])
            return block.json
        chosen = [self._shaped(update) for update in block.updates if update[1] in robots]
        return _encode(chosen) if chosen else None

    def _shaped(self, update: Update) -> PoseJson:
        robot = update[1]
        pose = cast(Pose, update[2])
        theta = pose.theta
        if not -math.pi <= theta <= math.pi:
            theta = math.remainder(theta, math.tau)
        known = self._states.get(robot)
        return PoseJson(
            robot,
            pose.map,
            pose.x,
            pose.y,
            theta,
            pose.vx,
            pose.vy,
            pose.omega,
            pose.localized,
            None if known is None else known.battery,
            None if known is None else known.state,
            update[3],
            update[4],
            pose.seq,
        )


def is_stale(update: Update, old: Update) -> bool:
    """Decide about a pose that is not from a later millisecond."""
    if update[4] - old[4] >= STEPPED_S * 1000:
        return False
    if update[3] < old[3]:
        return True
    seq, old_seq = cast(Pose, update[2]).seq, cast(Pose, old[2]).seq
    return seq is not None and old_seq is not None and seq <= old_seq
