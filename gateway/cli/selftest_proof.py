"""The proof of a selftest: whatever was acknowledged is looked for where it must be."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from gateway.cli.selftest_gate import Failed, Gate, Refused
from gateway.cli.selftest_load import Robot
from gateway.core import shared
from gateway.core.errors import Unavailable
from gateway.core.kinds import LABEL, Kind
from gateway.state.port import StateStore

_AGAIN_S: Final = 0.5

Missing = set[tuple[str, int]]
"""(robot, seq) of acknowledged messages that are not where they must be."""

Look = Callable[[], Awaitable[Missing]]


class Proof(Struct, frozen=True, rename="camel"):
    """One place: how many of how many are missing there. ``trouble``: why it could not be read."""

    place: str
    expected: int
    missing: int
    duplicates: int = 0
    disordered: int = 0
    trouble: str = ""

    @property
    def holds(self) -> bool:
        """Whether everything is there, in order."""
        return not (self.missing or self.disordered or self.trouble)


async def complete(look: Look, expected: int, place: str, until_s: float) -> Proof:
    """Look until nothing is missing, or until ``until_s`` of the monotonic clock."""
    missing, trouble = expected, "it was not looked at"
    while True:
        try:
            missing, trouble = len(await look()), ""
        except (*Failed, Refused, Unavailable) as exc:
            trouble = str(exc) or type(exc).__name__
        if (not missing and not trouble) or time.monotonic() >= until_s:
            return Proof(place, expected, missing, trouble=trouble)
        await asyncio.sleep(_AGAIN_S)


async def in_history(gate: Gate, robots: Sequence[Robot], until_s: float) -> Proof:
    """Look for every acknowledged reading, page by page as any client would."""
    expected = {robot.id: set(robot.acknowledged(Kind.SENSOR)) for robot in robots}
    left = dict(expected)

    async def look() -> Missing:
        for robot in [*left]:
            left[robot] = left[robot] - await gate.history(robot)
            if not left[robot]:
                del left[robot]
        return {(robot, seq) for robot, seqs in left.items() for seq in seqs}

    return await complete(look, sum(map(len, expected.values())), "history", until_s)


async def on_the_view(robots: Sequence[Robot], until_s: float) -> Proof:
    """Look whether a WebSocket reader knows each robot's last pose."""

    async def look() -> Missing:
        return {
            (robot.id, seq) for robot in robots if robot.looked < (seq := robot.last(Kind.POSE))
        }

    return await complete(look, len(robots), "live view (last pose)", until_s)


async def in_state(store: StateStore, robots: Sequence[Robot], until_s: float) -> Proof:
    """Look whether the newest pose and reading of each robot are the last ones."""

    async def look() -> Missing:
        missing: Missing = set()
        for kind in (Kind.POSE, Kind.SENSOR):
            newest = await store.newest(LABEL[kind])
            missing |= {
                (robot.id, robot.last(kind))
                for robot in robots
                if robot.last(kind) and _seq(newest, robot.id) != robot.last(kind)
            }
        return missing

    return await complete(look, 2 * len(robots), "state (newest)", until_s)


def _seq(newest: Mapping[str, bytes], robot: str) -> int | None:
    data = newest.get(robot)
    if data is None:
        return None
    try:
        body: Any = msgspec.json.decode(shared.decode(data).payload)
    except msgspec.DecodeError:
        return None
    seq = body.get("seq") if isinstance(body, dict) else None
    return seq if isinstance(seq, int) else None


class Carried(Protocol):
    """Messages of one robot and kind that were read back from the stream."""

    @property
    def seqs(self) -> set[int]: ...
    @property
    def duplicates(self) -> int: ...
    @property
    def disordered(self) -> int: ...


class ReadBack(Protocol):
    """gateway.cli.selftest_stream, which is imported only where Kafka is: it needs the driver."""

    @property
    def carried(self) -> Mapping[tuple[Kind, str], Carried]: ...

    async def read(self) -> None: ...


async def in_stream(stream: ReadBack, robots: Sequence[Robot], until_s: float) -> Proof:
    """Read back every acknowledged message, in order per robot and kind."""
    expected = {
        (kind, robot.id): set(robot.acknowledged(kind))
        for robot in robots
        for kind in (Kind.POSE, Kind.SENSOR)
    }

    async def look() -> Missing:
        await stream.read()
        return {
            (robot, seq)
            for (kind, robot), seqs in expected.items()
            for seq in seqs - stream.carried[kind, robot].seqs
        }

    found = await complete(look, sum(map(len, expected.values())), "stream", until_s)
    each = stream.carried.values()
    return msgspec.structs.replace(
        found,
        duplicates=sum(one.duplicates for one in each),
        disordered=sum(one.disordered for one in each),
    )
