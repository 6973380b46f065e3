"""One run of a selftest: before, during and after the cut, and then the proof."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.aio.supervisor import Supervisor
from gateway.cli.selftest_gate import Failed, Gate, Refused
from gateway.cli.selftest_load import Load
from gateway.cli.selftest_proof import (
    Proof,
    ReadBack,
    in_history,
    in_state,
    in_stream,
    on_the_view,
)
from gateway.cli.selftest_report import Outcome
from gateway.cli.selftest_verdict import Marks, Order, verdict
from gateway.state.port import StateStore

BEFORE_S: Final = 5.0
AFTER_S: Final = 5.0  # at least
LINKED_S: Final = 15.0  # for the robots' connections and the WebSocket
DRAIN_S: Final = 60.0  # to heal and drain, or twice the cut if that is longer
PROOF_S: Final = 60.0  # until everything must be where it belongs

_DRILL: Final = "/api/admin/drill"
_RESTORE_S: Final = 5.0  # after its time; then the cut is ended by hand
_LOOK_S: Final = 0.05
_FRESH_S: Final = 1.0  # poses on the WebSocket are on time again

Progress = Callable[[str, float, float], None]
"""Shows (what goes on, seconds done, seconds in all; 0: not known)."""


class NotPossible(Exception):
    """The selftest cannot be made; ``service``: because something does not answer."""

    def __init__(self, detail: str, *, service: bool = False, usage: bool = False) -> None:
        super().__init__(detail)
        self.service = service
        self.usage = usage


class Trial:
    """Everything of one run. ``stream`` and ``state`` are proven where they are given."""

    def __init__(
        self,
        order: Order,
        gate: Gate,
        load: Load,
        *,
        stream: ReadBack | None,
        state: StateStore | None,
        progress: Progress,
    ) -> None:
        self._order = order
        self._gate = gate
        self._load = load
        self._stream = stream
        self._state = state
        self._progress = progress
        self._marks = Marks()
        self._cutting = False

    async def run(self) -> Outcome:
        """Return what was found.

        Raises:
            NotPossible: there is no connection, or the gateway refuses the cut.
        """
        gate, load, ready = self._gate, self._load, asyncio.Event()
        robots = {robot.id: robot for robot in load.robots}
        async with Supervisor() as tasks:
            for robot in load.robots:
                tasks.spawn(robot.id, partial(load.stay_connected, robot))
            tasks.spawn("poses", lambda: gate.watch_poses(robots, ready))
            tasks.spawn("health", gate.watch_health)
            tasks.spawn("ledger", gate.watch_ledger)
            try:
                await self._link(ready)
                tasks.spawn("load", load.drive)
                result: Outcome | NotPossible = await self._course()
            except NotPossible as exc:  # as it is: the supervisor would make a group of it
                result = exc
        if isinstance(result, NotPossible):
            raise result
        return result

    async def _course(self) -> Outcome:
        load, dropped = self._load, dict(self._gate.balance.dropped)
        try:
            await self._phases()
        finally:
            await self._undo()
        load.over = True
        await self._until("acknowledgements", lambda: not load.unacknowledged, PROOF_S)
        proofs = await self._prove()
        await self._settle()
        return verdict(self._order, self._marks, self._gate, load, proofs, dropped)

    async def _link(self, ready: asyncio.Event) -> None:
        gate, load = self._gate, self._load
        there = await self._until(
            "connecting",
            lambda: load.connected and ready.is_set() and gate.health.looks > 0 and gate.looks > 0,
            LINKED_S,
        )
        if there:
            return
        if not load.connected:
            raise NotPossible(f"the robots cannot connect: {load.trouble}", service=True)
        raise NotPossible(f"{gate.url} does not answer: {gate.trouble}", service=True)

    async def _phases(self) -> None:
        marks, order, gate, load = self._marks, self._order, self._gate, self._load
        await self._pass("before", BEFORE_S)
        marks.bad_before = gate.health.forget()
        marks.cut_s = time.monotonic()
        if order.cut:
            await self._cut()
        await self._pass(f"{order.cut} is cut" if order.cut else "running", order.for_s)
        if order.cut:
            await self._restored()
        marks.restored_s, looks = time.monotonic(), gate.looks
        self._cutting = False

        def over() -> bool:
            now_s = time.monotonic()
            slack = int(self._order.rate) + 50
            drained = (
                gate.looks > looks + 1
                and gate.balance.pending <= marks.pending + slack
                and load.unacknowledged <= marks.unacknowledged + slack
                and load.behind_s < _FRESH_S
            )
            if drained and marks.drained_s is None:
                marks.drained_s = now_s
            return (
                drained
                and not gate.health.bad - marks.bad_before
                and now_s - marks.restored_s >= AFTER_S
            )

        await self._until("after", over, max(DRAIN_S, 2 * order.for_s))

    async def _cut(self) -> None:
        order = self._order
        self._cutting = True
        try:
            await self._gate.ask("POST", _DRILL, {"link": order.cut, "seconds": order.for_s})
        except Refused as exc:
            self._cutting = False
            raise NotPossible(f"the gateway refuses: {exc}") from exc
        except Failed as exc:
            raise NotPossible(f"{self._gate.url} does not answer: {exc}", service=True) from exc

    async def _restored(self) -> None:
        """Wait for the end of the cut, which is the gateway's business; else end it."""
        end_s = time.monotonic() + _RESTORE_S
        while time.monotonic() < end_s:
            try:
                if (await self._gate.ask("GET", _DRILL))["link"] is None:
                    return
            except (*Failed, Refused) as exc:
                self._gate.trouble = str(exc)
            await asyncio.sleep(_LOOK_S)
        self._marks.ended_by_hand = True
        await self._undo()

    async def _undo(self) -> None:
        if self._cutting:
            self._cutting = False
            try:
                await self._gate.ask("DELETE", _DRILL)
            except (*Failed, Refused) as exc:
                self._gate.trouble = str(exc)

    async def _prove(self) -> list[Proof]:
        robots, until_s = self._load.robots, time.monotonic() + PROOF_S
        self._progress("looking for every message", 0, 0)
        proofs = [
            await on_the_view(robots, until_s),
            await in_history(self._gate, robots, until_s),
        ]
        if self._stream is not None:
            proofs.append(await in_stream(self._stream, robots, until_s))
        if self._state is not None:
            proofs.append(await in_state(self._state, robots, until_s))
        return proofs

    async def _settle(self) -> None:
        """Let the ledger end on a moment without messages under way, if there is one."""
        looks = self._gate.looks
        await self._until(
            "the ledger",
            lambda: self._gate.looks > looks and not self._gate.balance.unaccounted,
            5.0,
        )

    async def _pass(self, what: str, seconds: float) -> None:
        marks, gate, load = self._marks, self._gate, self._load

        def note() -> bool:
            if not marks.cut_s:
                marks.pending = max(marks.pending, gate.balance.pending)
                marks.unacknowledged = max(marks.unacknowledged, load.unacknowledged)
            return False

        await self._until(what, note, seconds, total_s=seconds)

    async def _until(
        self, what: str, holds: Callable[[], bool], most_s: float, *, total_s: float = 0.0
    ) -> bool:
        start_s = time.monotonic()
        while not (there := holds()) and (gone_s := time.monotonic() - start_s) < most_s:
            self._progress(what, gone_s, total_s)
            await asyncio.sleep(min(_LOOK_S, max(0.0, most_s - gone_s)))
        return there


async def allowed(gate: Gate, cut: str) -> None:
    """Ask first: a gateway that will refuse need not be bothered. Raises NotPossible."""
    if not cut:
        return
    try:
        drill = await gate.ask("GET", _DRILL)
    except Refused as exc:
        raise NotPossible(f"this gateway has no drill: {exc}") from exc
    except Failed as exc:
        raise NotPossible(f"{gate.url} does not answer: {exc}", service=True) from exc
    if cut not in drill["available"]:
        there = ", ".join(drill["available"])
        raise NotPossible(f"the gateway that runs has no link {cut}, but {there}", usage=True)
    if drill["link"] is not None:
        raise NotPossible(f"a drill goes on there: {drill['link']} is cut")
