"""The way out: journal records into Kafka's topics, acknowledged by every in-sync replica.

aiokafka carries the bytes, logs in and knows the protocol. Batches, their numbers and what to do
after a failure are ours: its own producer does not always recover, and costs three times as much.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from gateway.config.model import KafkaStream
from gateway.core.errors import Unavailable
from gateway.stream.kafka.codes import Code
from gateway.stream.kafka.keeper import Keeper
from gateway.stream.kafka.lanes import Batch, Lane, Lanes
from gateway.stream.kafka.security import DEPENDENCY, Security
from gateway.stream.kafka.session import Outcome, Session
from gateway.stream.port import Message, Refusal, StreamStatus

_REQUEST_BYTES: Final = 1_048_576  # then a request is sent: 5 ms of the loop to make it
_RETRY_S: Final = 0.1  # pause after an answer that a moment may change
_CORRUPT_TRIES: Final = 3  # then it is the record, not the wire

_FOR_GOOD: Final = {
    Code.INVALID_RECORD: "the brokers find the record invalid",
    Code.INVALID_TIMESTAMP: "the brokers take no time of this record, nor one without",
    Code.UNSUPPORTED_FOR_MESSAGE_FORMAT: "the topic's message format cannot hold the record",
    Code.POLICY_VIOLATION: "a policy of the brokers forbids the record",
}
_TOO_LARGE: Final = "the record is larger than the topic takes (max.message.bytes)"


class KafkaProducer:
    """See ``port.Producer``. ``run`` keeps the connection; without it nothing is sent."""

    def __init__(
        self,
        config: KafkaStream,
        security: Security,
        *,
        site: str,
        box: str,
    ) -> None:
        self._config = config
        self._security = security
        self._keeper = Keeper(
            config, security, f"edge-gateway-{box}", adopt=self._adopt, nameless=self._nameless
        )
        self._lanes = Lanes(config, site=site, box=box)
        self._lock = asyncio.Lock()
        self._cluster = ""
        self._trouble = ""  # connected, but this keeps records from being taken
        self._records = self._bytes = self._batches = self._requests = 0
        self._resent = self._refused = self._untimed = self._splits = 0
        self._ack_s = 0.0

    async def send(self, messages: Sequence[Message]) -> Sequence[Refusal]:
        """See ``port.Producer``. Gives up after twice ``timeout_s`` without any progress."""
        if not messages:
            return ()
        async with self._lock:
            refusals = await self._deliver(messages)
        self._refused += len(refusals)
        return refusals

    def status(self) -> StreamStatus:
        """See ``port.Producer``."""
        if self._keeper.session is None or not self._trouble:
            return StreamStatus(self._keeper.session is not None, self._keeper.detail)
        return StreamStatus(connected=False, detail=self._trouble)

    def sever(self, cut: bool) -> None:  # noqa: FBT001 - a switch
        """Drop every connection and make none while ``cut``."""
        self._keeper.sever(cut)

    def figures(self) -> dict[str, int | float]:
        """Return counters since the start, and whether the way is open."""
        return {
            "connected": int(self._keeper.session is not None),
            "records": self._records,
            "bytes": self._bytes,
            "batches": self._batches,
            "requests": self._requests,
            "ack_seconds": self._ack_s,
            "repeated": self._resent,
            "repeated_maybe_twice": self._lanes.again,
            "refused": self._refused,
            "splits": self._splits,
            "untimed": self._untimed,
            "connects": self._keeper.connects,
            "failures": self._keeper.failures,
        }

    async def run(self) -> None:
        """Keep the connection, for ever."""
        await self._keeper.run()

    def _adopt(self, session: Session) -> None:
        self._lanes.arrange(session.partitions)
        if session.identity is not None:
            self._lanes.identify(*session.identity)
        self._cluster = session.cluster

    def _nameless(self, cluster: str) -> bool:
        """Another cluster may have given our producer id to somebody else."""
        return not self._lanes.identified or cluster != self._cluster

    async def _deliver(self, messages: Sequence[Message]) -> Sequence[Refusal]:
        loop = asyncio.get_running_loop()
        patience_s = 2 * self._config.timeout_s
        give_up_at = loop.time() + patience_s
        session = await self._keeper.ready(give_up_at)
        lanes = self._lanes
        lanes.load(messages)
        generation = lanes.generation
        active = [lane for lane in lanes.all() if lane.places or lane.waiting]
        while True:
            if lanes.generation != generation:
                raise Unavailable("Kafka's partitions changed meanwhile", dependency=DEPENDENCY)
            if not lanes.identified:
                await self._identify(session)
            sending = self._choose(session, active)
            if not sending:
                return lanes.refusals
            before = self._records + self._splits + self._untimed
            wrong = await self._exchange(session, sending)
            if self._records + self._splits + self._untimed > before:
                give_up_at = loop.time() + patience_s
            if wrong is not None:
                if isinstance(wrong, _Denied) or loop.time() >= give_up_at:
                    raise wrong
                await asyncio.sleep(_RETRY_S)
            session = await self._keeper.ready(give_up_at)

    async def _identify(self, session: Session) -> None:
        try:
            self._lanes.identify(*await session.producer_id())
        except Unavailable as exc:
            self._keeper.give_up(session, exc.detail)
            raise

    def _choose(self, session: Session, active: list[Lane]) -> dict[int, list[tuple[Lane, Batch]]]:
        """Return the next batches by the broker they go to; lanes with nothing left are dropped."""
        chosen: dict[int, list[tuple[Lane, Batch]]] = {}
        size = 0
        for lane in active[:]:
            batch = self._lanes.first(lane)
            if batch is None:
                active.remove(lane)
                continue
            node = session.leaders[lane.topic, lane.partition]
            chosen.setdefault(node, []).append((lane, batch))
            size += len(batch.packed.records.data)
            if size >= _REQUEST_BYTES:
                break
        return chosen

    async def _exchange(
        self, session: Session, sending: dict[int, list[tuple[Lane, Batch]]]
    ) -> Unavailable | None:
        """Send and settle; return what went wrong, if a moment or another session may cure it."""
        if len(sending) == 1:
            ((node, batches),) = sending.items()
            return await self._to_broker(session, node, batches)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._to_broker(session, node, batches))
                for node, batches in sending.items()
            ]
        return next((wrong for task in tasks if (wrong := task.result()) is not None), None)

    async def _to_broker(
        self, session: Session, node: int, batches: list[tuple[Lane, Batch]]
    ) -> Unavailable | None:
        loop = asyncio.get_running_loop()
        for lane, batch in batches:
            if lane.open is batch:
                self._resent += len(batch.places)
            lane.open = batch
        began = loop.time()
        try:
            outcomes = await session.produce(
                node, [(lane.topic, lane.partition, batch.wire) for lane, batch in batches]
            )
        except Unavailable as exc:
            self._keeper.give_up(session, exc.detail)
            return exc
        now = loop.time()
        self._requests += 1
        self._ack_s += now - began
        wrong: Unavailable | None = None
        for lane, batch in batches:
            outcome = outcomes.get((lane.topic, lane.partition), Outcome(-1, "no answer"))
            said = self._settle(lane, batch, outcome)
            wrong = wrong or said
        if wrong is None:
            self._keeper.heard_at = now
            self._trouble = ""
        else:
            self._trouble = wrong.detail
            if not isinstance(wrong, _Denied):
                self._keeper.give_up(session, wrong.detail)
        return wrong

    def _settle(self, lane: Lane, batch: Batch, outcome: Outcome) -> Unavailable | None:
        """Do what the broker's answer asks for; return what keeps the batch from being taken."""
        code = outcome.code
        lanes = self._lanes
        if lane.open is not batch:  # another partition's answer made us begin again
            return None
        if code in (Code.NONE, Code.DUPLICATE_SEQUENCE_NUMBER):
            lane.taken(batch)
            self._records += len(batch.places)
            self._bytes += len(batch.wire)
            self._batches += 1
        elif code in (Code.MESSAGE_TOO_LARGE, Code.RECORD_LIST_TOO_LARGE):
            self._splits += 1
            lanes.split(lane, batch, "TOO_LARGE", _TOO_LARGE)
        elif code == Code.INVALID_TIMESTAMP and batch.packed.records.base_ms >= 0:
            self._untimed += len(batch.places)
            lanes.without_times(lane, batch)
        elif code in _FOR_GOOD:
            self._splits += 1
            lanes.split(lane, batch, "INVALID_RECORD", _FOR_GOOD[Code(code)])
        elif code == Code.CORRUPT_MESSAGE and batch.tries + 1 >= _CORRUPT_TRIES:
            self._splits += 1
            lanes.split(lane, batch, "CORRUPT", "the record never reaches the brokers whole")
        elif code in (Code.OUT_OF_ORDER_SEQUENCE_NUMBER, Code.UNKNOWN_PRODUCER_ID):
            lanes.raise_epoch()
            return _wrong(lane, outcome)
        elif code == Code.INVALID_PRODUCER_EPOCH:
            lanes.forget_id()
            return _wrong(lane, outcome)
        elif code == Code.TOPIC_AUTHORIZATION_FAILED:
            text = f"Kafka does not let us write to the topic {lane.topic}: allow our user WRITE"
            return _Denied(text, dependency=DEPENDENCY)
        elif code == Code.UNSUPPORTED_COMPRESSION_TYPE:
            text = f"Kafka does not take {self._config.compression}: set stream.compression"
            return _Denied(text, dependency=DEPENDENCY)
        else:
            batch.tries += 1
            return _wrong(lane, outcome)
        return None


class _Denied(Unavailable):
    """Only a person can cure it."""


def _wrong(lane: Lane, outcome: Outcome) -> Unavailable:
    where = f"{lane.topic}[{lane.partition}]"
    return Unavailable(f"Kafka did not take records for {where}: {outcome.detail}",
                       dependency=DEPENDENCY)  # fmt: skip
