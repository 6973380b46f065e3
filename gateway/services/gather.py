"""From the stream to what boxes share: the newest value per robot, and the channel to their hubs.

At least once, and harmless when it comes again: the newest value wins in the store. Offsets are
committed after the write. A record that does not fit becomes a dead letter and stalls nothing; a
store that is away is tried again for ever, with the records in hand and nothing more read.

Records of every site that uses the same stream are taken: a robot's id is its key, and the state is
as wide as the stream.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import Final, Protocol

import msgspec

from gateway.core.backoff import Backoff
from gateway.core.errors import Unavailable
from gateway.core.kinds import LABEL, Kind
from gateway.core.payloads import MAX_PAYLOAD_BYTES
from gateway.core.shared import CHANNEL, NEWEST, TTL_S, Shared, encode, encode_all
from gateway.core.topics import ID
from gateway.services.ingest import DAY_MS, DECODERS
from gateway.services.ledger import Line
from gateway.state.port import Newest, StateStore
from gateway.stream.port import Arrived, Consumer

log = logging.getLogger(__name__)

KINDS: Final = (Kind.POSE, Kind.SENSOR, Kind.STATE, Kind.EVENT, Kind.CANARY)
SET_BACK_MS: Final = 10_000  # received so much later, it is newer whatever it says: ``Newest``
MESSAGE_VALUES: Final = 500  # of one message on the channel
MESSAGE_BYTES: Final = 262_144  # of payloads, likewise; one alone may be over it
LONGEST_ID: Final = 64  # looked at first: what is longer must not be remembered

_is_id: Final = lru_cache(maxsize=100_000)(ID.fullmatch)

# What a decoder says of bad bytes; RecursionError: JSON nested by the thousand.
_BAD: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

Candidate = tuple[int, int, int, Arrived]
"""(ts, seq, rts, as it arrived)"""


class Bury(Protocol):
    """Keeps a dead letter."""

    def __call__(
        self, topic: str, robot: str, code: str, detail: str, payload: bytes
    ) -> None: ...  # topic: where it stood in the stream; robot "": its key was none


class _Work:
    """What is still to be done with the records of one read; shrinks as it is done."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}  # of what fits, by kind
        self.newest: dict[int, dict[str, Candidate]] = {int(kind): {} for kind in NEWEST}
        self.live: list[Shared] = []  # for the channel: events, canaries, and what was stored
        self.messages: deque[bytes] | None = None  # ``live`` as it is sent
        self.stale: dict[int, int] = {}  # something newer was in the store, by kind
        self.doubtful: set[int] = set()  # a write of this kind may have happened unanswered


class Gather:
    """Copy the stream into the state; ``run`` never returns.

    ``failing`` says why nothing moves, "" while it does; ``progress_at`` is the monotonic time of
    the last records that were written.
    """

    def __init__(
        self,
        consumer: Consumer,
        store: StateStore,
        *,
        bury: Bury,
        now_ms: Callable[[], int],
        heard: Callable[[Sequence[Arrived]], None],
        backoff: Backoff | None = None,
        rng: Random | None = None,
    ) -> None:
        """``heard`` is told of what arrived, before anything is done with it."""
        self._consumer = consumer
        self._store = store
        self._bury = bury
        self._now_ms = now_ms
        self._heard = heard
        self._backoff = backoff or Backoff(base_s=0.1, cap_s=2.0)
        self._rng = rng or Random()  # noqa: S311 - jitter, not a secret
        self._lines: dict[int, Line] = {int(kind): Line() for kind in KINDS}
        self._reads = 0
        self._stored = 0
        self._conflated = 0
        self._published = 0
        self._retries = 0
        self.failing = ""
        self.progress_at = time.monotonic()

    async def run(self) -> None:
        """Copy for ever."""
        while True:
            records = await self._consumer.read()
            self._reads += 1
            self._heard(records)
            await self._handle(records)
            await self._consumer.commit()
            self.progress_at = time.monotonic()

    async def _handle(self, records: Sequence[Arrived]) -> None:
        work = self._sort(records)
        await self._insist(work)
        for kind, count in work.counts.items():
            line, stale = self._lines[kind], work.stale.get(kind, 0)
            line.pending -= count
            line.delivered += count - stale
            if stale:
                line.dropped["stale"] += stale

    def _sort(self, records: Sequence[Arrived]) -> _Work:
        """Decode, count, bury what does not fit, and keep the newest of each robot and kind."""
        now = self._now_ms()
        future = now + DAY_MS
        work = _Work()
        fits: dict[int, int] = {int(kind): 0 for kind in KINDS}
        newest = work.newest
        for record in records:
            kind, robot, _, box, rts, payload, _, _ = record
            if not 0 < rts <= future:
                rts = now
            try:
                if len(robot) > LONGEST_ID or _is_id(robot) is None:
                    self._refuse(record, "BAD_ROBOT_ID", "the key of the record is no robot id")
                    continue
                if len(payload) > MAX_PAYLOAD_BYTES:
                    detail = f"{len(payload)} bytes; {MAX_PAYLOAD_BYTES} fit"
                    self._refuse(record, "TOO_LARGE", detail)
                    continue
                value = DECODERS[kind](payload)
            except _BAD as exc:
                code = "INVALID" if isinstance(exc, msgspec.ValidationError) else "NOT_JSON"
                self._refuse(record, code, str(exc))
                continue
            fits[kind] += 1
            ts = value.ts
            if ts is None or ts < rts - DAY_MS or ts > rts + DAY_MS:
                ts = rts
            elif ts.__class__ is float:
                ts = int(ts)
            robots = newest.get(kind)
            if robots is None:
                work.live.append(Shared(kind, robot, ts, rts, box, payload))
                continue
            seq = getattr(value, "seq", None)
            if seq is None:
                seq = -1
            held = robots.get(robot)
            if held is None:
                robots[robot] = (ts, seq, rts, record)
                continue
            newer = (seq < 0 or seq > held[1]) if ts == held[0] else ts > held[0]
            if newer or rts >= held[2] + SET_BACK_MS:
                robots[robot] = (ts, seq, rts, record)
        for kind, count in fits.items():
            if count:
                line = self._lines[kind]
                line.entered += count
                line.pending += count
                work.counts[kind] = count
        return work

    def _refuse(self, record: Arrived, code: str, detail: str) -> None:
        robot = "" if code == "BAD_ROBOT_ID" else record.robot
        self._bury(record.place, robot, code, detail, record.payload)
        line = self._lines[record.kind]
        line.entered += 1
        line.dropped[code] += 1

    async def _insist(self, work: _Work) -> None:
        """Write until the store has taken all of it; ``failing`` says why while it does not."""
        attempt = 0
        while True:
            try:
                await self._write(work)
            except Unavailable as exc:
                if not self.failing:
                    log.warning("the state does not take values, trying again: %s", exc.detail)
                self.failing = exc.detail
                self._retries += 1
                await asyncio.sleep(max(0.05, self._backoff.delay_s(attempt, self._rng)))
                attempt += 1
            else:
                if self.failing:
                    log.warning("the state takes values again")
                    self.failing = ""
                return

    async def _write(self, work: _Work) -> None:
        """Do what is left of ``work``.

        Raises:
            Unavailable: the store did not answer; what is left is left in ``work``.
        """
        for kind, robots in list(work.newest.items()):
            if robots:
                await self._put(kind, robots, work)
            del work.newest[kind]
        if work.messages is None:
            work.messages = deque(_messages(work.live))
        while work.messages:
            await self._store.publish(CHANNEL, work.messages[0])
            work.messages.popleft()
            self._published += 1

    async def _put(self, kind: int, robots: Mapping[str, Candidate], work: _Work) -> None:
        values = [
            Shared(kind, robot, ts, rts, record.box, record.payload)
            for robot, (ts, _, rts, record) in robots.items()
        ]
        candidates = [
            Newest(value.robot, value.ts, robots[value.robot][1], value.rts, encode(value))
            for value in values
        ]
        try:
            stored = await self._store.put_newest(LABEL[kind], candidates, ttl_s=TTL_S)
        except Unavailable:
            work.doubtful.add(kind)
            raise
        # A value that an unanswered write stored is refused now, being there already: all of them
        # are published then, and whoever reads the channel keeps the newest.
        doubtful = kind in work.doubtful
        live = [value for value, new in zip(values, stored, strict=True) if new or doubtful]
        work.live += live
        if len(live) < len(values):
            work.stale[kind] = len(values) - len(live)
        self._stored += len(live)
        self._conflated += work.counts[kind] - len(values)

    def lines(self) -> Iterable[tuple[str, str, Line]]:
        """Return the hop ``state``: what came out of the stream, by kind.

        Delivered is what was stored, published, or replaced by something newer of the same read;
        ``stale``: the store had something newer.
        """
        for kind, line in self._lines.items():
            yield "state", LABEL[kind], line

    def figures(self) -> Mapping[str, int | float]:
        """Return counters and gauges for /metrics, by name."""
        lines = self._lines.values()
        return {
            "failing": int(bool(self.failing)),
            "reads": self._reads,
            "records": sum(line.entered for line in lines),
            "pending": sum(line.pending for line in lines),
            "dropped": sum(line.dropped.total() for line in lines),
            "stored": self._stored,
            "conflated": self._conflated,
            "messages_published": self._published,
            "retries": self._retries,
        }


def _messages(values: Sequence[Shared]) -> Iterable[bytes]:
    """Encode ``values`` for the channel, in messages of bounded size."""
    start = size = 0
    for place, value in enumerate(values):
        if place > start and (
            place - start >= MESSAGE_VALUES or size + len(value.payload) > MESSAGE_BYTES
        ):
            yield encode_all(values[start:place])
            start, size = place, 0
        size += len(value.payload)
    if start < len(values):
        yield encode_all(values[start:])
