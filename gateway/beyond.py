"""The part of the composition that reaches beyond the box: stream, shared state, canary.

``serve`` in gateway.main stays one screen because of it. Which parts exist follows from the
configuration: without Kafka there is no forwarder, with the state in memory nobody to share with.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from gateway.aio.supervisor import Supervisor
from gateway.bus.port import Bus
from gateway.config.model import Config, KafkaStream, MemoryState, RedisState
from gateway.core.shared import CHANNEL
from gateway.core.topics import canary_topic
from gateway.journal.port import Journal
from gateway.records.port import RecordStore
from gateway.services.canary import Canary
from gateway.services.canary_hop import Hop
from gateway.services.forwarder import KINDS as STREAM_KINDS
from gateway.services.forwarder import Forwarder
from gateway.services.gather import Gather
from gateway.services.ingest import Ingest
from gateway.services.ledger import Ledger, Line
from gateway.services.live import Live
from gateway.services.once import Once
from gateway.services.overview import wire_canary
from gateway.services.readiness import Readiness
from gateway.services.relay import Relay
from gateway.services.share import Share
from gateway.services.why import FlightRecorder
from gateway.state.open import open_state
from gateway.state.port import StateStore
from gateway.stream.open import open_stream
from gateway.stream.port import Stream

Figures = Callable[[], Mapping[str, int | float]]


@asynccontextmanager
async def open_beyond(
    config: Config, live: Live, *, box: str, now_ms: Callable[[], int]
) -> AsyncIterator["Beyond"]:
    """Open the shared state and the stream; neither waits for its server.

    Raises:
        ConfigError: one of them cannot be used as it is written.
    """
    async with (
        open_state(config.state) as state,
        open_stream(
            config.stream, site=config.site.id, box=box, group=_group(config, box)
        ) as stream,
    ):
        yield Beyond(config, state, stream, live=live, box=box, now_ms=now_ms)


def _group(config: Config, box: str) -> str:
    """Return the consumer group: boxes that share a state share the work of filling it."""
    kafka = config.stream
    if not isinstance(kafka, KafkaStream):
        return ""
    common = f"{kafka.prefix}-state"
    return kafka.group or (common if isinstance(config.state, RedisState) else f"{common}-{box}")


class Beyond:
    """What there is of it. ``publish`` stands between ingest and the hub."""

    def __init__(
        self,
        config: Config,
        state: StateStore,
        stream: Stream | None,
        *,
        live: Live,
        box: str,
        now_ms: Callable[[], int],
    ) -> None:
        self._config = config
        self._state = state
        self._stream = stream
        self._live = live
        self._box = box
        self._now_ms = now_ms
        self._forwarder: Forwarder | None = None
        self._gather: Gather | None = None
        self._relay: Relay | None = None
        self._share: Share | None = None
        self._canary: Canary | None = None
        self.publish = live.publish
        if isinstance(config.state, RedisState):
            self._share = Share(state, live.publish, box=box, behind=self._behind)
            self.publish = self._share.publish
        self._once = Once(self.publish, box=box)
        if self._consumes or self._share is not None:
            self.publish = self._once.publish

    def _behind(self) -> bool:
        """Return whether other boxes do not hear of this one's robots by the stream in time."""
        if self._forwarder is None:
            return self._stream is None
        gather = self._gather
        return self._forwarder.behind or gather is None or bool(gather.failing)

    @property
    def _consumes(self) -> bool:
        kafka = self._config.stream
        return isinstance(kafka, KafkaStream) and kafka.consume

    def heard(self, id_: int, offset: int) -> None:
        """Take note of an own canary that came over the bus."""
        if self._canary is not None:
            self._canary.heard(id_, offset)

    def start(
        self,
        tasks: Supervisor,
        hops: Iterable[Hop],
        *,
        journal: Journal,
        ingest: Ingest,
        bus: Bus,
        store: RecordStore,
    ) -> FlightRecorder:
        """Start what there is, and the canary through ``hops`` of the box and those beyond it."""
        hops = [*hops, *self._start_stream(tasks, journal, ingest)]
        direct = self._share is not None and not self._consumes
        if direct:
            hops.append(Hop(name="state", after="", failing=self._state_trouble))
        config = self._config
        self._canary = canary = Canary(
            canary_topic(prefix=config.bus.prefix, site=config.site.id, box=self._box),
            hops,
            box=self._box,
            taken=lambda: ingest.taken,
            now_ms=self._now_ms,
        )
        if direct or self._gather is not None:
            self._relay = Relay(
                self._state,
                self._live.publish,
                box=self._box,
                once=self._once,
                came_home=canary.came_home,
            )
            tasks.spawn("state to live view", self._relay.run)
        if self._share is not None:
            tasks.spawn("live view to state", self._share.run)
        share = (lambda data: self._state.publish(CHANNEL, data)) if direct else None
        tasks.spawn("canary", lambda: canary.run(bus.probe, share))
        recorder = FlightRecorder(
            journal, hops, canary, live=self._live, store=store, now_ms=self._now_ms
        )
        tasks.spawn("checkpoints", recorder.checkpoints.run)
        return recorder

    def _start_stream(self, tasks: Supervisor, journal: Journal, ingest: Ingest) -> Iterable[Hop]:
        config, stream = self._config, self._stream
        if stream is None or not isinstance(config.stream, KafkaStream):
            return
        self._forwarder = forwarder = Forwarder(
            journal.reader("stream", STREAM_KINDS),
            stream.producer,
            bury=ingest.bury,
            stats=journal.stats,
            announce=self._live.announce,
            journal=config.journal,
            drain_factor=config.stream.drain_factor,
            topics=f"{config.bus.prefix}/{config.site.id}",
        )
        tasks.spawn("journal to stream", forwarder.run)
        yield Hop(
            name="stream",
            after="journal",
            reached=lambda: forwarder.committed,
            failing=lambda: forwarder.failing,
            kinds=STREAM_KINDS,
        )
        if not self._consumes:
            return
        self._gather = gather = Gather(
            stream.consumer,
            self._state,
            bury=ingest.bury,
            now_ms=self._now_ms,
            heard=lambda _: None,
        )
        tasks.spawn("stream to state", gather.run)
        yield Hop(
            name="state",
            after="stream",
            moved=lambda: round(gather.progress_at * 1000),
            failing=lambda: gather.failing or self._consumer_trouble() or self._state_trouble(),
            kinds=STREAM_KINDS,
        )

    def _state_trouble(self) -> str:
        status = self._state.status()
        return "" if status.connected else status.detail

    def _consumer_trouble(self) -> str:
        if self._stream is None:
            return ""
        status = self._stream.consumer.status()
        return "" if status.connected else status.detail

    def wire(self, ledger: Ledger, readiness: Readiness, journal: Journal) -> None:
        """Add the hops and the parts of /readyz. Rows stand also for what there is not."""
        ledger.add(lambda: self._lines(journal.stats().committed_offset))
        if self._forwarder is not None:
            readiness.add("stream", self._forwarder.status, essential=True)
        if self._gather is not None:
            readiness.add("consumer", self._consumer_part, essential=True)
        if not isinstance(self._config.state, MemoryState):
            readiness.add("state", self._state_part, essential=True)
        if self._canary is not None:
            wire_canary(readiness, self._canary)

    def _consumer_part(self) -> tuple[bool, str]:
        assert self._stream is not None and self._gather is not None  # noqa: PT018, S101
        status = self._stream.consumer.status()
        failing = self._gather.failing
        return status.connected and not failing, failing or status.detail

    def _state_part(self) -> tuple[bool, str]:
        status = self._state.status()
        return status.connected, status.detail

    def _lines(self, committed: int) -> Iterable[tuple[str, str, Line]]:
        forwarder, gather = self._forwarder, self._gather
        yield from forwarder.lines(committed) if forwarder else [("stream", "all", Line())]
        yield from gather.lines() if gather else [("state", "all", Line())]
        for part in (self._share, self._relay, self._relay and self._once):
            if part is not None:
                yield from part.lines()

    def figures(self) -> dict[str, Figures]:
        """Return by name what each part shows on /metrics."""
        parts = {
            "stream": self._stream,
            "forwarder": self._forwarder,
            "gather": self._gather,
            "state": self._state,
            "share": self._share,
            "relay": self._relay,
            "canary": self._canary,
        }
        return {name: part.figures for name, part in parts.items() if part is not None}

    def links(self) -> dict[str, Callable[[bool], None]]:
        """Return what a drill can cut of it."""
        links: dict[str, Callable[[bool], None]] = {}
        if self._stream is not None:
            links["kafka"] = self._stream.sever
        if isinstance(self._config.state, RedisState):
            links["redis"] = self._state.sever
        return links
