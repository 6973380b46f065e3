"""What goes to each partition: in order, cut into batches, with the sequence that makes it unique.

The brokers take a producer's batches of a partition in the order of their sequence numbers, once
each. A batch whose fate is unknown keeps its numbers until it is known, also from one ``send`` to
the next: sent again, it is taken at most once, and whatever still lies in a dead connection is
refused when it arrives late. Where the same records do not come again, the producer's *epoch* goes
up, and the late batch is refused because its epoch is too low.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from aiokafka.partitioner import murmur2

from gateway.config.model import KafkaStream
from gateway.core.units import size_bytes
from gateway.stream.kafka.batch import (
    MOST_RECORDS,
    OVERHEAD,
    Encoder,
    Packed,
    pack,
    seal,
    sequence_numbers,
)
from gateway.stream.kafka.topics import KINDS, topic_of
from gateway.stream.port import Message, Refusal

_MOST_ROBOTS: Final = 65_536  # whose partition is remembered
_HEADERS: Final = 64  # bytes of a record beside its payload, more or less: for a first guess
_SEQUENCES: Final = 2**31


class Batch:
    """Records of one partition that are sent together.

    ``places`` are their indexes in what ``send`` got. ``wire`` is the sealed batch once it has been
    sent; ``offsets``, the journal's, are known once a ``send`` ended without an answer. ``tries``
    counts answers that were odd.
    """

    __slots__ = ("offsets", "packed", "places", "tries", "wire")

    def __init__(self, places: Sequence[int], packed: Packed) -> None:
        self.places = places
        self.packed = packed
        self.wire = b""
        self.offsets: list[int] = []
        self.tries = 0


class Lane:
    """One partition."""

    __slots__ = ("open", "partition", "places", "sequence", "topic", "waiting")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.sequence = 0  # of the next record
        self.places: list[int] = []  # of messages not cut into batches yet
        self.waiting: deque[Batch] = deque()
        self.open: Batch | None = None  # sent, and nobody knows what became of it

    def taken(self, batch: Batch) -> None:
        """The broker has ``batch``, the first one that waits."""
        self.waiting.popleft()
        self.open = None
        self.sequence = (self.sequence + len(batch.places)) % _SEQUENCES


class _Lanes(dict[str, Callable[[int], None]]):
    """Robot -> how to put a message's place into the lane of its partition."""

    def __init__(self, lanes: list[Lane]) -> None:
        super().__init__()
        self._lanes = lanes

    def __missing__(self, robot: str) -> Callable[[int], None]:
        if len(self) >= _MOST_ROBOTS:
            self.clear()
        lane = self._lanes[partition_of(robot, len(self._lanes))]
        self[robot] = put = lane.places.append
        return put


def partition_of(robot: str, partitions: int) -> int:
    """Return the partition of a robot, as the Java client's default partitioner chooses it."""
    return (int(murmur2(robot.encode())) & 0x7FFF_FFFF) % partitions


class Lanes:
    """All partitions of our topics, and the messages on their way to them."""

    def __init__(self, config: KafkaStream, *, site: str, box: str) -> None:
        self._config = config
        self._batch_bytes = size_bytes(config.batch_bytes)
        self._record_bytes = size_bytes(config.max_record_bytes)
        self._encoder = Encoder(site=site, box=box)
        self._lanes: dict[str, list[Lane]] = {}  # by topic
        self._finders: dict[int, _Lanes] = {}  # by kind
        self._messages: Sequence[Message] = ()
        self._numbers: list[bytes] = []
        self._chunk = 1
        self._id = -1
        self._epoch = 0
        self.generation = 0
        """Goes up when partitions were added: what was loaded before has to be loaded again."""
        self.refusals: list[Refusal] = []
        self.again = 0
        """Records sent again although an earlier try may have been taken, as a new batch."""

    def arrange(self, partitions: Mapping[str, int]) -> None:
        """Take over how many partitions each topic has."""
        for kind in KINDS:
            topic = topic_of(self._config.prefix, kind)
            old = self._lanes.get(topic, [])
            if len(old) == partitions[topic]:
                continue
            if old:
                self.raise_epoch()  # what is on its way may belong to another partition now
            self.generation += 1
            self._lanes[topic] = lanes = [Lane(topic, at) for at in range(partitions[topic])]
            self._finders[kind] = _Lanes(lanes)

    def identify(self, producer_id: int, epoch: int) -> None:
        """Begin again as another producer."""
        self._id, self._epoch = producer_id, epoch
        self._restart()

    def raise_epoch(self) -> None:
        """Make brokers refuse what we sent before and do not know the fate of."""
        self._epoch += 1
        self._restart()

    @property
    def identified(self) -> bool:
        """Whether there is a producer id with an epoch to use."""
        return self._id >= 0 and self._epoch < 2**15

    def forget_id(self) -> None:
        """The next producer id has to be a new one."""
        self._id = -1

    def _restart(self) -> None:
        for lane in self.all():
            lane.sequence = 0
            if lane.open is not None:
                self.again += len(lane.open.places)
                lane.open = None
            for batch in lane.waiting:
                batch.wire = b""

    def all(self) -> Iterator[Lane]:
        """Return every lane."""
        for lanes in self._lanes.values():
            yield from lanes

    def load(self, messages: Sequence[Message]) -> None:
        """Begin a ``send``: nothing of the one before is on its way any more."""
        self.refusals = []
        for lane in self.all():
            if lane.open is not None and not lane.open.offsets:
                lane.open.offsets = [self._messages[place][0] for place in lane.open.places]
            lane.places.clear()
            lane.waiting.clear()
        if not messages:
            return
        self._messages = messages
        self._numbers = sequence_numbers(messages)
        total = sum([len(message[5]) for message in messages])
        average = total // len(messages) + _HEADERS
        self._chunk = min(MOST_RECORDS, max(1, (self._batch_bytes - OVERHEAD) // average))
        finders = self._finders
        try:
            for place, message in enumerate(messages):
                finders[message[1]][message[2]](place)
        except KeyError as exc:
            raise ValueError(f"a kind that has no topic: {exc}") from exc
        for lane in self.all():
            if lane.open is not None and lane.places:
                self._resume(lane, lane.open)

    def _resume(self, lane: Lane, batch: Batch) -> None:
        """Let the batch whose fate is unknown go first, if these are its records."""
        size = len(batch.offsets)
        places = lane.places[:size]
        if [self._messages[place][0] for place in places] != batch.offsets:
            self.raise_epoch()
            return
        batch.places = places
        lane.waiting.append(batch)
        del lane.places[:size]

    def first(self, lane: Lane) -> Batch | None:
        """Return the batch of ``lane`` that is sent next, sealed; None when there is no more."""
        while not lane.waiting:
            if not lane.places:
                return None
            chunk = lane.places[: self._chunk]
            del lane.places[: self._chunk]
            lane.waiting.extend(self._cut(chunk))
        batch = lane.waiting[0]
        if not batch.wire:
            batch.wire = seal(
                batch.packed, producer_id=self._id, epoch=self._epoch, sequence=lane.sequence
            )
            batch.offsets = []  # found when they are needed
        return batch

    def _cut(self, places: Sequence[int], *, timed: bool = True) -> Iterator[Batch]:
        """Make batches within the limits; a single record that is over them is refused."""
        records = self._encoder.encode(self._messages, places, self._numbers, timed=timed)
        size = len(records.data) + OVERHEAD
        if len(places) > 1 and size > self._batch_bytes:
            half = len(places) // 2
            yield from self._cut(places[:half], timed=timed)
            yield from self._cut(places[half:], timed=timed)
        elif size > self._record_bytes:
            limit = f"stream.max_record_bytes is {self._record_bytes}"
            self.refuse(places[0], "TOO_LARGE", f"the record takes {size} bytes, {limit}")
        else:
            yield Batch(places, pack(records, self._config.compression))

    def split(self, lane: Lane, batch: Batch, code: str, detail: str) -> None:
        """Send the halves of a batch which the broker refuses; a single record is refused."""
        lane.waiting.popleft()
        lane.open = None
        places = batch.places
        timed = batch.packed.records.base_ms >= 0
        if len(places) == 1:
            self.refuse(places[0], code, detail)
            return
        half = len(places) // 2
        for part in (places[half:], places[:half]):
            lane.waiting.extendleft(reversed(list(self._cut(part, timed=timed))))

    def without_times(self, lane: Lane, batch: Batch) -> None:
        """Send a batch again without Kafka's timestamps, which the broker refuses."""
        lane.waiting.popleft()
        lane.open = None
        lane.waiting.extendleft(reversed(list(self._cut(batch.places, timed=False))))

    def refuse(self, place: int, code: str, detail: str) -> None:
        """Give up a message."""
        self.refusals.append(Refusal(place, code, detail))
