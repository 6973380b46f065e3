"""One client in the consumer group, from its first connection to its end.

The parts are aiokafka's own (client, fetcher, group coordinator), put together here and not by
AIOKafkaConsumer, for four things that it does not do: records are taken in bulk
(consumer_records), a link that swallows everything is noticed, a new client goes on as the same
member of the group, so that an outage costs no rebalance, and no topic is ever made by asking for
it. A member in trouble is thrown away; KafkaConsumer makes the next one.
"""

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import create_conn
from aiokafka.consumer.fetcher import Fetcher, FetchError
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import (
    CommitFailedError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
)
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from aiokafka.util import create_task

from gateway.stream.kafka.consumer_records import Names, Records, Unreadable
from gateway.stream.port import Arrived

log = logging.getLogger(__name__)

SESSION_S: Final = 6.0  # a dead box's partitions move after it; brokers allow no less by default
HEARTBEAT_S: Final = 1.0
SILENT_S: Final = 1.5  # a healthy broker answers a fetch or a heartbeat every second
ANSWER_S: Final = 2.0  # what a broker gets to answer when asked whether it is there
TICK_S: Final = 0.2  # offsets are committed, and the client looked at, so often
COMMIT_S: Final = 1.5  # longest wait for a commit
LEAVE_S: Final = 2.0  # longest wait for a good-bye
NEW_GROUP_MS: Final = 600_000  # how far back a group that never read begins
FETCH_WAIT_MS: Final = 250  # a broker with nothing new answers after it
FETCH_BYTES: Final = 8 * 2**20  # of one answer
PARTITION_BYTES: Final = 2**20  # of one partition in an answer; all that is held of one
METADATA_S: Final = 30.0  # new topics and partitions are seen after it


class Client(AIOKafkaClient):  # type: ignore[misc]  # aiokafka comes without types
    """Knows when a broker answered last, and makes no connection after ``shut``."""

    def __init__(self, *, security: Mapping[str, Any], **arguments: Any) -> None:
        super().__init__(**security, **arguments)
        self._security = security
        self.heard_at = time.monotonic()
        self._shut = False

    async def meet(self) -> None:
        """Learn who the brokers are; ``bootstrap``, which would hide why it could not.

        Raises:
            KafkaError, OSError, TimeoutError: the server cannot be used, or did not answer.
        """
        host, port, _ = self.hosts[0]
        connection = await create_conn(
            host,
            port,
            client_id=self._client_id,
            request_timeout_ms=self._request_timeout_ms,
            **self._security,
        )
        try:
            self.cluster.update_metadata(await connection.send(MetadataRequest([])))
        finally:
            connection.close()
        self._sync_task = create_task(self._md_synchronizer())

    async def send(
        self, node_id: Any, request: Any, *, group: Any = ConnectionGroup.DEFAULT
    ) -> Any:
        """Return the answer."""
        answer = await super().send(node_id, request, group=group)
        self.heard_at = time.monotonic()
        return answer

    async def _get_conn(
        self, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False
    ) -> Any:
        if self._shut:
            return None
        return await super()._get_conn(node_id, group=group, no_hint=no_hint)

    def shut(self) -> None:
        """Drop every connection at once; whoever waits for an answer gets an error."""
        self._shut = True
        for connection in self._conns.values():
            writer = connection._writer  # noqa: SLF001 - close() would wait for a dead peer
            if writer is not None:
                writer.transport.abort()
            connection.close()


class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka comes without types
    """A place in the group, or on the way to one. ``trouble`` says why it must be replaced."""

    def __init__(
        self, client: Client, kinds: Mapping[str, int], *, group: str, member_id: str
    ) -> None:
        """``kinds``: topic to kind. ``client`` is connected; it belongs to the member now."""
        self.trouble = ""
        self.lost = 0  # records that were gone before they could be read: retention
        self.damaged = 0  # batches that could not be read and were passed over
        self._stir = asyncio.Event()
        self._client = client
        self._kinds = kinds
        self._names = Names()
        self._open: dict[Any, tuple[Any, Records]] = {}
        self._unplaced: dict[Any, Exception] = {}
        self._taken: dict[Any, int] = {}  # handed out
        self._safe: dict[Any, int] = {}  # and written elsewhere
        self._committed: dict[Any, int] = {}
        self._subscription = SubscriptionState()
        pattern = re.compile("|".join(f"{re.escape(topic)}$" for topic in kinds))
        self._subscription.subscribe_pattern(pattern, listener=self)
        self._fetcher = Fetcher(
            client,
            self._subscription,
            fetch_min_bytes=1,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_BYTES,
            auto_offset_reset="none",  # where to begin is decided in ``place``
        )
        self._coordinator = GroupCoordinator(
            client,
            self._subscription,
            group_id=group,
            session_timeout_ms=round(SESSION_S * 1000),
            rebalance_timeout_ms=round(SESSION_S * 1000),
            heartbeat_interval_ms=round(HEARTBEAT_S * 1000),
            max_poll_interval_ms=2**31 - 1,  # a store that is away is no reason to leave
            enable_auto_commit=False,
        )
        self._coordinator.member_id = member_id

    @property
    def member_id(self) -> str:
        """How the group knows us; "" before it does."""
        return str(self._coordinator.member_id)

    @property
    def assigned(self) -> frozenset[Any]:
        """The partitions that are ours now; empty while the group shares out."""
        if self._subscription.reassignment_in_progress:
            return frozenset()
        return frozenset(self._subscription.assigned_partitions())

    @property
    def silent_s(self) -> float:
        """Seconds since a broker answered anything."""
        return time.monotonic() - self._client.heard_at

    def behind(self) -> int:
        """Return how many records wait in the partitions that are ours, as far as is known."""
        if not self.assigned:
            return 0
        assignment = self._subscription.subscription.assignment
        states = [assignment.state_value(each) for each in assignment.tps]
        return sum(
            max(0, state.highwater - state.position)
            for state in states
            if state.highwater is not None and state.has_valid_position
        )

    def fail(self, why: str) -> None:
        """Have the member replaced; the first reason counts."""
        self.trouble = self.trouble or why
        self._stir.set()

    # Reading

    def take(self, most: int) -> list[Arrived]:
        """Return up to ``most`` records that are here; never waits."""
        out: list[Arrived] = []
        if self._subscription.reassignment_in_progress:
            return out
        fetched = self._fetcher._records  # noqa: SLF001 - see the top
        for partition in list(fetched):
            entry = fetched[partition]
            if isinstance(entry, FetchError):
                self._refused(partition, entry._error)  # noqa: SLF001
                continue
            if not entry.check_assignment(partition):
                self._drop(partition)
                continue
            done = self._take(partition, entry._partition_records, most - len(out), out)  # noqa: SLF001
            entry._update_position()  # noqa: SLF001
            if done:
                self._drop(partition)
            if len(out) >= most:
                break
        return out

    def _take(self, partition: Any, fetched: Any, most: int, out: list[Arrived]) -> bool:
        held = self._open.get(partition)
        if held is None or held[0] is not fetched:
            topic = partition.topic
            records = Records(
                fetched._records,  # noqa: SLF001
                fetched.next_fetch_offset,
                kind=self._kinds[topic],
                source=f"{topic}[{partition.partition}]",
            )
            held = self._open[partition] = (fetched, records)
        records = held[1]
        try:
            done = records.take(most, self._names, out)
        except Unreadable as exc:
            self.damaged += 1
            log.error(  # noqa: TRY400 - the broker's disk, not our code
                "kafka: records %d to %d of %s cannot be read and are passed over: %s",
                records.position, exc.after - 1, partition, exc,
            )  # fmt: skip
            records.position = exc.after
            done = True  # what follows is fetched again
        fetched.next_fetch_offset = self._taken[partition] = records.position
        return done

    def _drop(self, partition: Any) -> None:
        """Let the next data of ``partition`` be fetched."""
        self._open.pop(partition, None)
        self._fetcher._records.pop(partition, None)  # noqa: SLF001
        self._fetcher._notify(self._fetcher._wait_consume_future)  # noqa: SLF001

    def _refused(self, partition: Any, error: Exception) -> None:
        if isinstance(error, NoOffsetForPartitionError | OffsetOutOfRangeError):
            self._unplaced[partition] = error  # stays as it is until ``place``
            return
        self._drop(partition)
        if not isinstance(error, RecordTooLargeError):  # which the fetcher passed over
            self.fail(f"fetching from {partition.topic}: {_text(error)}")

    @property
    def unplaced(self) -> bool:
        """Whether there are partitions of which nothing is read before ``place``."""
        return bool(self._unplaced)

    async def more(self) -> None:
        """Wait until there may be records, or trouble."""
        waiter = self._fetcher._create_fetch_waiter()  # noqa: SLF001
        try:
            await waiter
        except KafkaError as exc:
            self.fail(_text(exc))

    async def place(self) -> None:
        """Begin where it is right in partitions that have no position, or an impossible one."""
        unplaced, self._unplaced = self._unplaced, {}
        ours = [each for each in unplaced if self._subscription.is_assigned(each)]
        try:
            async with asyncio.timeout(ANSWER_S):
                places = await self._beginnings({each: unplaced[each] for each in ours})
        except (KafkaError, TimeoutError) as exc:
            self.fail(f"asking where to begin: {_text(exc)}")
            return
        for partition, offset in places.items():
            if self._subscription.is_assigned(partition):
                self._open.pop(partition, None)
                self._fetcher.seek_to(partition, offset)
                # committed at once: who comes after an outage then knows that all since is new
                self._taken[partition] = self._safe[partition] = offset

    async def _beginnings(self, unplaced: Mapping[Any, Exception]) -> dict[Any, int]:
        first = await self._fetcher.beginning_offsets(list(unplaced), None)
        fresh = [
            each for each, error in unplaced.items() if isinstance(error, NoOffsetForPartitionError)
        ]
        for partition, error in unplaced.items():
            if isinstance(error, OffsetOutOfRangeError):
                wanted = error.args[0][partition]
                self.lost += max(0, first[partition] - wanted)
                log.warning(
                    "kafka: %s[%d] has no offset %d any more, reading on at %d",
                    partition.topic, partition.partition, wanted, first[partition],
                )  # fmt: skip
        if fresh and not await self._coordinator.fetch_committed_offsets(self._every_partition()):
            # Asked for the end first: what comes between the two questions is then not missed.
            last = await self._fetcher.end_offsets(fresh, None)
            since = time.time_ns() // 1_000_000 - NEW_GROUP_MS
            found = await self._fetcher.get_offsets_by_times(dict.fromkeys(fresh, since), None)
            for partition in fresh:
                at = found[partition]
                first[partition] = last[partition] if at is None else at.offset
        return dict(first)

    def _every_partition(self) -> list[Any]:
        cluster = self._client.cluster
        return [
            TopicPartition(topic, number)
            for topic in self._kinds
            for number in cluster.partitions_for_topic(topic) or ()
        ]

    # Committing

    def mark(self) -> None:
        """All that ``take`` returned is safe elsewhere; committed within TICK_S."""
        self._safe.update(self._taken)

    async def commit(self) -> None:
        """Commit what is marked; what cannot be committed comes again, here or elsewhere."""
        ours = self._subscription.assigned_partitions()
        offsets = {
            each: OffsetAndMetadata(offset, "")
            for each, offset in self._safe.items()
            if each in ours and self._committed.get(each) != offset
        }
        if not offsets:
            return
        assignment = self._subscription.subscription.assignment
        try:
            async with asyncio.timeout(COMMIT_S):
                await self._coordinator.commit_offsets(assignment, offsets)
        except CommitFailedError:  # the group went on without us
            self._forget()
        except (KafkaError, TimeoutError) as exc:
            log.debug("kafka: offsets not committed, trying again: %s", exc)
        else:
            self._committed.update((each, at.offset) for each, at in offsets.items())

    def _forget(self) -> None:
        for positions in (self._taken, self._safe, self._committed):
            positions.clear()
        self._open.clear()
        self._unplaced.clear()

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        """Commit what is safe while the partitions are still ours."""
        if revoked:
            await self.commit()
        self._forget()

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """Note the share."""
        log.info("kafka: reading %d partitions", len(list(assigned)))

    # Living and dying

    async def watch(self) -> str:
        """Commit, and look after the client, until it must be replaced; return why."""
        while not self.trouble:
            try:
                async with asyncio.timeout(TICK_S):
                    await self._stir.wait()
            except TimeoutError:
                pass
            if not self._subscription.reassignment_in_progress:
                await self.commit()
            await self._look()
        return self.trouble

    async def _look(self) -> None:
        try:
            self._coordinator.check_errors()
        except KafkaError as exc:
            self.fail(_text(exc))
        if self._fetcher.error_future.done():
            self.fail("the fetcher ended")
        if self.silent_s > SILENT_S and not await self._answers():
            self.fail("no broker answers")

    async def _answers(self) -> bool:
        """Return whether a broker answers a question."""
        node = self._client.get_random_node()
        if node is None:
            return False
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._client.send(node, MetadataRequest([]))
        except (KafkaError, OSError, TimeoutError):
            return False
        return True

    def refresh(self) -> None:
        """Ask soon for the topics again."""
        self._client.force_metadata_update()

    async def leave(self) -> None:
        """Commit and say good-bye, if that goes quickly: the others then need not wait for us."""
        try:
            async with asyncio.timeout(LEAVE_S):
                await self.commit()
                await self._coordinator.close()
        except (KafkaError, OSError, TimeoutError) as exc:
            log.debug("kafka: left the group without a good-bye: %s", exc)

    async def abandon(self) -> None:
        """End every task and connection, now."""
        self._client.shut()
        coordinator, fetcher = self._coordinator, self._fetcher
        tasks = [
            coordinator._coordination_task,  # noqa: SLF001
            coordinator._heartbeat_task,  # noqa: SLF001
            coordinator._commit_refresh_task,  # noqa: SLF001
            fetcher._fetch_task,  # noqa: SLF001
            *fetcher._pending_tasks,  # noqa: SLF001
            self._client._sync_task,  # noqa: SLF001
        ]
        await end(task for task in tasks if task is not None)
        for waiter in list(fetcher._fetch_waiters):  # noqa: SLF001
            fetcher._notify(waiter)  # noqa: SLF001
        await self._client.close()


async def end(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel ``tasks`` and wait for them; what they raise is of no interest any more."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    if ending:
        done, _ = await asyncio.wait(ending, timeout=LEAVE_S)
        for task in done:
            if not task.cancelled():
                task.exception()


def _text(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
