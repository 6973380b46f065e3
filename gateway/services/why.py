"""The flight recorder: where a robot's messages of the last 15 minutes are, and why. docs/why.md.

Nothing is recorded per message. The messages are in the journal; how far each hop was at which time
is in the checkpoints; what the live view did not show is in its exceptions. A question joins them.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from gateway.core.deadletter import DeadLetter
from gateway.core.deadletter import decode as decode_dead
from gateway.core.errors import NotFound
from gateway.core.kinds import LABEL, Kind
from gateway.core.times import rfc3339
from gateway.journal.port import Journal, Record
from gateway.records.port import RecordStore
from gateway.services.canary_hop import Hop
from gateway.services.why_answer import (
    Why,
    WhyHop,
    WhyMessage,
    WhyPassage,
    exception_of,
    reason_of,
    summary_of,
    verdict_of,
    worst,
)
from gateway.services.why_checkpoints import BEFORE, MEMORY_S, Checkpoints
from gateway.services.why_exceptions import Exceptions, Missed

MOST: Final = 200  # messages of each kind
PATIENCE_S: Final = 0.8  # for the journal: an answer takes less than a second
SLICE: Final = 50  # messages joined in one turn of the loop: 3 ms

_Key = tuple[int, int, int, int]
"""Kind, device time, arrival, seq or -1: what tells a message of a robot from the others."""


class Canaries(Protocol):
    """What is used of the canary."""

    @property
    def home(self) -> int: ...
    def trouble(self, name: str) -> str: ...


class LiveView(Protocol):
    """What is used of the live view."""

    @property
    def exceptions(self) -> Exceptions: ...
    def robot(self, id_: str) -> Any: ...


class FlightRecorder:
    """Answer ``why``; ``checkpoints.run`` must run meanwhile."""

    def __init__(
        self,
        journal: Journal,
        hops: Sequence[Hop],
        canary: Canaries,
        *,
        live: LiveView,
        store: RecordStore,
        now_ms: Callable[[], int],
    ) -> None:
        """``hops``: the canary's, the journal first. Of one that cannot say how far it is, the
        newest canary that has passed it does.
        """
        self.checkpoints = Checkpoints(
            lambda: journal.stats().next_offset,
            {hop.name: self._reached(hop, canary) for hop in hops},
            now_ms=now_ms,
        )
        self._journal = journal
        self._hops = hops
        self._canary = canary
        self._live = live
        self._store = store
        self._now_ms = now_ms

    @staticmethod
    def _reached(hop: Hop, canary: Canaries) -> Callable[[], int]:
        return (lambda: canary.home) if hop.reached is None else hop.reached

    def _failing(self, hop: Hop) -> str:
        return hop.failing() or self._canary.trouble(hop.name)

    async def why(self, robot: str) -> Why:
        """Return what happened to the messages of ``robot``.

        Raises:
            NotFound: nothing was ever heard of it.
            Unavailable: the journal cannot be read, or history has to be asked and is away.
        """
        self.checkpoints.sample()
        now = self._now_ms()
        begin = now - int(MEMORY_S * 1000)
        since = self.checkpoints.offset_at(begin)
        if self.checkpoints.since() > begin:  # a young process: also what an earlier one took in
            since = self._journal.stats().first_offset
        trace = await self._journal.trace(
            robot, since=since, age_s=MEMORY_S, most=MOST, patience_s=PATIENCE_S
        )
        records = [record for record in trace.records if record.rts >= begin]
        missed = [miss for miss in self._live.exceptions.of(robot) if miss.rts >= begin]
        if not (trace.records or missed):
            await self._known(robot)
        messages = await self._messages(records, missed, now)
        return Why(
            robot=robot,
            from_=rfc3339(begin),
            to=rfc3339(now),
            truncated=trace.more or len(missed) > MOST,
            summary=summary_of(messages),
            hops=[self._hop(hop) for hop in self._hops],
            messages=messages,
            exceptions=[exception_of(miss) for miss in missed[: -MOST - 1 : -1]],
        )

    async def _known(self, robot: str) -> None:
        if self._live.robot(robot) is None and await self._store.robot(robot) is None:
            raise NotFound("no robot of that id is known")

    def _hop(self, hop: Hop) -> WhyHop:
        stats = self._journal.stats()
        end = stats.next_offset if hop is self._hops[0] else stats.committed_offset
        at = self._reached(hop, self._canary)()
        dropped = max(0, stats.first_offset - at)
        reason = self._failing(hop)
        if dropped and not reason:
            reason = "the journal dropped what this hop did not have yet"
        return WhyHop(hop.name, not reason, max(0, end - at - dropped), dropped, reason)

    async def _messages(
        self, records: Sequence[Record], missed: Sequence[Missed], now: int
    ) -> list[WhyMessage]:
        notes = {(miss.kind, miss.ts, miss.rts, miss.seq): miss for miss in missed}
        messages = []
        for number, record in enumerate(records):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            messages.append(self._message(record, notes, now))
        return messages

    def _message(self, record: Record, notes: Mapping[_Key, Missed], now: int) -> WhyMessage:
        way = [
            self._passage(hop, record, now)
            for hop in self._hops
            if hop.kinds is None or record.kind in hop.kinds
        ]
        arrived = rfc3339(record.rts)
        seq = None
        if record.kind == Kind.DEAD:
            letter = _letter(record)
            reason = f"{letter.reason}: {letter.detail} ({letter.topic})"
            verdict, why = worst(way)
            if verdict in ("delivered", "unknown"):
                verdict, why = "dead-letter", reason
            hops = [WhyPassage("received", "refused", arrived, 0, reason), *way]
        else:
            seq = _seq(record.payload)
            shown = self._shown(record, seq, notes)
            hops = [WhyPassage("received", "delivered", arrived, 0), way[0], shown, *way[1:]]
            verdict, why = worst(hops)
        return WhyMessage(
            kind=LABEL.get(record.kind, str(record.kind)),
            ts=rfc3339(record.ts),
            rts=arrived,
            seq=seq,
            offset=record.offset,
            verdict=verdict,
            reason=why,
            hops=hops,
        )

    def _passage(self, hop: Hop, record: Record, now: int) -> WhyPassage:
        at = self.checkpoints.passed(hop.name, record.offset)
        if at is None:
            waited_s = max(0, now - record.rts) / 1000
            why = self._failing(hop) or "on its way"
            return WhyPassage(hop.name, "waiting", reason=f"for {waited_s:.1f} s: {why}")
        if at == BEFORE:
            return WhyPassage(hop.name, "delivered", reason=_EARLIER)
        at = max(at, record.rts)
        return WhyPassage(hop.name, "delivered", rfc3339(at), at - record.rts)

    def _shown(self, record: Record, seq: int | None, notes: Mapping[_Key, Missed]) -> WhyPassage:
        miss = notes.get((record.kind, record.ts, record.rts, -1 if seq is None else seq))
        if miss is not None:
            return WhyPassage("live", verdict_of(miss), reason=reason_of(miss))
        if self.checkpoints.passed(self._hops[0].name, record.offset) == BEFORE:
            return WhyPassage("live", "unknown", reason=_EARLIER)
        return WhyPassage("live", "delivered", rfc3339(record.rts), 0)


_EARLIER: Final = "before this process began to look"


class _Numbered(Struct, gc=False):
    seq: int | None = None


_numbered: Final = msgspec.json.Decoder(_Numbered).decode


def _seq(payload: bytes) -> int | None:
    try:
        return _numbered(payload).seq
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None  # a dead letter, or of another version: it has none that we know of


def _letter(record: Record) -> DeadLetter:
    try:
        return decode_dead(record.payload)
    except msgspec.MsgspecError:
        return DeadLetter("", "UNREADABLE", "written by another version", b"")
