"""From the journal to the stream: the ``stream`` reader.

At least once, in the journal's order: the cursor moves after the acknowledgement, and what was not
acknowledged is sent again before anything newer. While the stream is away the journal keeps all;
afterwards the backlog goes out at a pace that leaves room for the live data, which browsers get
from the hub in any case. The time in between is marked as a gap.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from random import Random
from typing import Final

from gateway.config.model import JournalConfig
from gateway.core.backoff import Backoff
from gateway.core.errors import Unavailable
from gateway.core.kinds import LABEL, Kind
from gateway.journal.port import JournalStats, Read, Reader, Record
from gateway.services.forwarder_gaps import Announce, Gap, Gaps
from gateway.services.forwarder_watch import TICK_S, Clock, Watch
from gateway.services.insist import Insist
from gateway.services.ledger import Line
from gateway.services.way import Way
from gateway.stream.port import Producer, Refusal

log = logging.getLogger(__name__)

KINDS: Final = frozenset({Kind.POSE, Kind.SENSOR, Kind.STATE, Kind.EVENT, Kind.CANARY, Kind.DEAD})
MOST: Final = 5_000  # records sent at once: encoding them takes some milliseconds of the loop
LEAST: Final = 64  # the same over a link that is too slow for more
LINGER_S: Final = 0.02  # at least from one send to the next: each costs half a millisecond
SLOW_S: Final = 1.0  # an attempt that fails after so long may have had too much to carry
PATIENCE_S: Final = 60.0  # a producer that says nothing for so long has lost what it was given
LEFT_MS: Final = 10_000  # what is older at the start was left over

_kind: Final = itemgetter(1)


class Forwarder:
    """Send what the journal holds; ``run`` never returns.

    Cancelling it loses nothing: the cursor is at the last acknowledgement.
    """

    def __init__(
        self,
        reader: Reader,
        producer: Producer,
        *,
        bury: Callable[[str, str, str, str, bytes], None],
        stats: Callable[[], JournalStats],
        announce: Announce,
        journal: JournalConfig,
        drain_factor: float,
        topics: str,
        patience_s: float = PATIENCE_S,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
        rng: Random | None = None,
    ) -> None:
        """Start where the reader's cursor is.

        Args:
            reader: of KINDS.
            bury: gateway.services.ingest.Ingest.bury.
            stats: of the journal.
            announce: gateway.services.live.Live.announce.
            drain_factor: times the live rate, after an outage.
            topics: "<prefix>/<site>" of the robots' topics, for dead letters.
            patience_s: for one answer of the producer, which has timeouts of its own.
        """
        self._reader = reader
        self._producer = producer
        self._bury = bury
        self._stats = stats
        self._topics = topics
        self._patience_s = patience_s
        self._clock = clock or Clock()
        self._insist = Insist("the stream", backoff or Backoff(base_s=0.1, cap_s=1.0), rng)
        self._watch = Watch(
            reader.position,
            producer,
            self._insist,
            stats=stats,
            gaps=Gaps(announce, self._clock.unix_ms),
            journal=journal,
            drain_factor=drain_factor,
            clock=self._clock,
        )
        self._lines: dict[int, Line] = {}
        self._way = Way(reader)
        self._hold = 0  # the cursor stays until the reader has passed this offset
        self._most = MOST

    async def run(self) -> None:
        """Copy for ever, in the journal's order."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look(), name="stream watch")
            tasks.create_task(self._copy(), name="journal to stream")

    async def _look(self) -> None:
        while True:
            self._watch.look()
            await self._clock.sleep(TICK_S)

    async def _copy(self) -> None:
        watch, steady_s = self._watch, self._clock.steady_s
        step = await self._reader.read(max_records=LEAST)  # it may be the first of very many
        if step.records and self._clock.unix_ms() - step.records[0].rts > LEFT_MS:
            watch.begin_gap(step.records[0].rts, "left over from before the start")
        while True:
            began = steady_s()
            self._way.take(step)
            if step.records:
                await self._deliver(step, began)
            self._settle(step.next_offset, step.lost, all_sent=True)
            await self._rest(len(step.records), began)
            most = self._most if watch.gaps.open is None else watch.pace.step(self._most)
            step = await self._reader.read(max_records=most)

    async def _rest(self, count: int, began: float) -> None:
        """Let records collect, or a backlog wait for its turn."""
        now = self._clock.steady_s()
        if self._watch.gaps.open is not None:
            pause_s = self._watch.pace.pause_s(count, began, now)
        else:
            pause_s = 0.0 if count >= self._most else began + LINGER_S - now
        if pause_s > 0.0005:
            await self._clock.sleep(pause_s)

    async def _deliver(self, step: Read, began: float) -> None:
        records = step.records
        counts: Mapping[int, int] = Counter(map(_kind, records))
        for kind, count in counts.items():
            line = self._lines.setdefault(kind, Line())
            line.entered += count
            line.pending += count
        at = 0
        while True:
            self._watch.begin(records[at].rts, began)
            chunk, refused = await self._insist.until_taken(partial(self._send, records, at))
            at += len(chunk)
            if len(chunk) != len(records):
                counts = Counter(map(_kind, chunk))
            self._leave(chunk, counts, refused)
            if at == len(records):
                return
            self._settle(chunk[-1].offset + 1, 0, all_sent=False)

    async def _send(
        self, records: Sequence[Record], at: int
    ) -> tuple[Sequence[Record], Sequence[Refusal]]:
        """Send the next records from ``at``, as many as the way out carries in time."""
        whole = at == 0 and len(records) <= self._most
        chunk = records if whole else records[at : at + self._most]
        began = self._clock.steady_s()
        try:
            async with asyncio.timeout(self._patience_s):
                refused = await self._producer.send(chunk)
        except (TimeoutError, Unavailable) as exc:
            self._watch.resent += len(chunk)
            if self._clock.steady_s() - began >= SLOW_S:
                self._most = max(LEAST, len(chunk) // 2)
            if isinstance(exc, Unavailable):
                raise
            raise Unavailable("the producer does not answer", dependency="stream") from exc
        took_s = self._clock.steady_s() - began
        self._watch.acknowledged(len(chunk) - len(refused), took_s)
        if took_s < SLOW_S / 4:  # twice as much would still be far from slow
            self._most = min(MOST, self._most * 2)
        return chunk, refused

    def _leave(
        self, chunk: Sequence[Record], counts: Mapping[int, int], refused: Sequence[Refusal]
    ) -> None:
        """Count what was acknowledged, and bury what was refused."""
        for kind, count in counts.items():
            line = self._lines[kind]
            line.pending -= count
            line.delivered += count
        for refusal in refused:
            record = chunk[refusal.place]
            line = self._lines[record.kind]
            line.delivered -= 1
            line.dropped[refusal.code] += 1
            label = LABEL[record.kind]
            log.warning(
                "the stream refuses a record: robot=%s kind=%s offset=%d code=%s: %s",
                record.robot,
                label,
                record.offset,
                refusal.code,
                refusal.detail,
            )
            if record.kind != Kind.DEAD:  # its dead letter would be refused as well, for ever
                topic = f"{self._topics}/{record.robot}/{label}"
                self._bury(topic, record.robot, refusal.code, refusal.detail, record.payload)
                # The reader gets to the dead letter when it is durable, and not before.
                self._hold = self._stats().next_offset

    def _settle(self, offset: int, lost: int, *, all_sent: bool) -> None:
        if offset >= self._hold:
            self._reader.commit(offset)
        self._watch.settled(offset, lost, all_sent=all_sent)

    @property
    def failing(self) -> str:
        """Why the stream does not take records now, or an empty string."""
        return self._insist.failing

    @property
    def behind(self) -> bool:
        """Whether the stream does not carry at once what this box receives."""
        return self._watch.behind()

    @property
    def gaps(self) -> list[Gap]:
        """The last gaps, the oldest first; one that is not drained is still open."""
        return self._watch.gaps.last()

    @property
    def position(self) -> int:
        """The journal offset of the next record to be read."""
        return self._reader.position

    @property
    def committed(self) -> int:
        """The journal offset from which on records are sent after a restart."""
        return self._reader.committed

    @property
    def progress_at(self) -> float:
        """When (monotonic) the stream last took something; now, while nothing waits."""
        return self._clock.steady_s() if self._watch.idle() else self._watch.progress_at

    def offline_hours_left(self) -> float:
        """Return after how long, at the present rate, the journal drops what the stream has not."""
        return self._watch.hours_left()

    def status(self) -> tuple[bool, str]:
        """Return (ok, detail) for /readyz; never waits."""
        return self._watch.status()

    def lines(self, committed_offset: int) -> Iterable[tuple[str, str, Line]]:
        """Return the hop ``stream``: by kind what is sent; ``backlog``: what is still to read."""
        yield "stream", "backlog", self._way.line(committed_offset)
        for kind in sorted(KINDS):
            yield "stream", LABEL[kind], self._lines.setdefault(kind, Line())

    def figures(self) -> dict[str, int | float]:
        """Return what /metrics shows; ``gaps`` counts them."""
        return self._watch.figures()
