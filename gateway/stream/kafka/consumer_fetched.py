"""What aiokafka's fetcher brought, taken in bulk; and how often it goes.

A fetch is answered as soon as there is one record, and asking for 30 partitions costs aiokafka
0.7 ms: at 5,000 records a second, one answer after the other would take half a core. So a
partition is asked for again only PACE_S after the last time, unless much came; the records of the
meantime come together then.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiokafka.consumer.fetcher import Fetcher, FetchError
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import (
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
)

from gateway.stream.kafka.consumer_records import Names, Records, Unreadable
from gateway.stream.port import Arrived

log = logging.getLogger(__name__)

PACE_S: Final = 0.015  # adds so much to the delay of a record, at most
TRIES: Final = 3  # at a batch that cannot be read
MUCH: Final = 500  # records of one take: we are behind, go on at once

# aiokafka keeps what it fetched to itself, and gives it out one object per record only.
# ruff: noqa: SLF001


class Fetched:
    """Records that are here. ``taken``: by partition, the offset behind what was handed out.

    ``unplaced``: partitions of which nothing is read before ``seek``, and why.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        subscription: SubscriptionState,
        kinds: Mapping[str, int],
        *,
        fail: Callable[[str], None],
    ) -> None:
        """``kinds``: topic to kind. ``fail`` is told of errors that a new client may not have."""
        self.taken: dict[Any, int] = {}
        self.unplaced: dict[Any, Exception] = {}
        self.damaged = 0  # batches that could not be read and were passed over
        self._fetcher = fetcher
        self._subscription = subscription
        self._kinds = kinds
        self._fail = fail
        self._names = Names()
        self._open: dict[Any, tuple[Any, Records]] = {}
        self._spent: dict[Any, Any] = {}  # read to the end, to be fetched again soon
        self._suspect: dict[Any, tuple[int, int]] = {}  # position, and how often it failed there
        self._asked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def take(self, most: int) -> list[Arrived]:
        """Return up to ``most`` records that are here; never waits."""
        out: list[Arrived] = []
        if self._subscription.reassignment_in_progress:
            return out
        here = self._fetcher._records
        ended = False
        for partition in list(here):
            entry = here[partition]
            if self._spent.get(partition) is entry:
                continue
            if isinstance(entry, FetchError):
                self._refused(partition, entry._error)
                continue
            if not entry.check_assignment(partition):
                self._remove(partition)
                continue
            done = self._take(partition, entry._partition_records, most - len(out), out)
            entry._update_position()
            if done:
                self._spent[partition] = entry
                ended = True
            if len(out) >= most:
                break
        if ended:
            self._ask_again(at_once=len(out) >= MUCH)
        return out

    def _take(self, partition: Any, fetched: Any, most: int, out: list[Arrived]) -> bool:
        held = self._open.get(partition)
        if held is None or held[0] is not fetched:
            topic = partition.topic
            records = Records(
                fetched._records,
                fetched.next_fetch_offset,
                kind=self._kinds[topic],
                source=f"{topic}[{partition.partition}]",
            )
            held = self._open[partition] = (fetched, records)
        records = held[1]
        try:
            done = records.take(most, self._names, out)
        except Unreadable as exc:
            self._pass_over(partition, records, exc)
            done = True  # what follows is fetched again
        fetched.next_fetch_offset = self.taken[partition] = records.position
        return done

    def _pass_over(self, partition: Any, records: Records, why: Unreadable) -> None:
        """Have it fetched again; if it stays unreadable, go on behind it."""
        where, times = self._suspect.get(partition, (-1, 0))
        times = times + 1 if where == records.position else 1
        self._suspect[partition] = (records.position, times)
        if times < TRIES:
            return
        self.damaged += 1
        log.error(
            "kafka: records %d to %d of %s cannot be read and are passed over: %s",
            records.position, why.after - 1, partition, why,
        )  # fmt: skip
        records.position = why.after
        del self._suspect[partition]

    def _ask_again(self, *, at_once: bool) -> None:
        """Have the spent partitions fetched again, PACE_S after the last time."""
        wait_s = 0.0 if at_once else self._asked_at + PACE_S - time.monotonic()
        if self._timer is not None:
            if not at_once:
                return
            self._timer.cancel()
            self._timer = None
        if wait_s <= 0:
            self._ask()
        else:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._ask)

    def _ask(self) -> None:
        self._timer = None
        self._asked_at = time.monotonic()
        here = self._fetcher._records
        for partition, entry in self._spent.items():
            if here.get(partition) is entry:
                self._remove(partition)
        self._spent.clear()

    def _remove(self, partition: Any) -> None:
        """Forget what was fetched of ``partition``, so that it is fetched again."""
        self._open.pop(partition, None)
        self._fetcher._records.pop(partition, None)
        self._fetcher._notify(self._fetcher._wait_consume_future)

    def seek(self, partition: Any, offset: int) -> None:
        """Go on at ``offset``."""
        self._open.pop(partition, None)
        self.unplaced.pop(partition, None)
        self._fetcher.seek_to(partition, offset)
        self.taken[partition] = offset

    def forget(self) -> None:
        """Forget the partitions: they may be somebody else's now."""
        for each in (self.taken, self.unplaced, self._open, self._spent, self._suspect):
            each.clear()

    def close(self) -> None:
        """Ask no more, and wake who waits in ``more``."""
        if self._timer is not None:
            self._timer.cancel()
        for waiter in list(self._fetcher._fetch_waiters):
            self._fetcher._notify(waiter)

    def _refused(self, partition: Any, error: Exception) -> None:
        if isinstance(error, NoOffsetForPartitionError | OffsetOutOfRangeError):
            self.unplaced[partition] = error  # stays as it is until ``seek``
            return
        self._remove(partition)
        if isinstance(error, RecordTooLargeError):  # the fetcher passed over it
            self.damaged += 1
            log.error("kafka: a record of %s is too large to be read", partition)
        else:
            self._fail(f"fetching from {partition.topic}: {_text(error)}")

    async def more(self) -> None:
        """Wait until there may be records, or trouble."""
        waiter = self._fetcher._create_fetch_waiter()
        try:
            await waiter
        except KafkaError as exc:
            self._fail(_text(exc))


def _text(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
