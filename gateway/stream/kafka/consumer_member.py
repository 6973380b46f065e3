"""One client in the consumer group, from its first connection to its end.

The parts are aiokafka's own (client, fetcher, group coordinator), put together here and not by
AIOKafkaConsumer, for four things that it does not do: records are taken in bulk
(consumer_fetched), a link that swallows everything is noticed, a new client goes on as the same
member of the group, so that an outage costs no rebalance, and no topic is ever made by asking for
it. A member in trouble is thrown away; KafkaConsumer makes the next one.
"""

import asyncio
import logging
import re
import time
from collections.abc import Collection, Mapping
from typing import Any, Final

from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import (
    IllegalGenerationError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from gateway.stream.kafka.consumer_client import Client, end
from gateway.stream.kafka.consumer_fetched import Fetched

log = logging.getLogger(__name__)

SESSION_S: Final = 6.0  # a dead box's partitions move after it; brokers allow no less by default
HEARTBEAT_S: Final = 1.0
SILENT_S: Final = 1.5  # a healthy broker answers a fetch or a heartbeat every second
PLACE_S: Final = 5.0  # longest wait for the offsets to begin at
TICK_S: Final = 0.2  # offsets are committed, and the client looked at, so often
COMMIT_S: Final = 1.5  # longest wait for a commit
LEAVE_S: Final = 2.0  # longest wait for a good-bye
NEW_GROUP_MS: Final = 600_000  # how far back a group that never read begins
FETCH_WAIT_MS: Final = 250  # a broker with nothing new answers after it
FETCH_BYTES: Final = 8 * 2**20  # of one answer
PARTITION_BYTES: Final = 2**20  # of one partition in an answer; all that is held of one
REFRESH_S: Final = 1.0  # a missing topic is looked for so often


class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka comes without types
    """A place in the group, or on the way to one. ``trouble`` says why it must be replaced."""

    def __init__(
        self, client: Client, kinds: Mapping[str, int], *, group: str, member_id: str
    ) -> None:
        """``kinds``: topic to kind. ``client`` is connected; it belongs to the member now."""
        self.trouble = ""
        self.joined = False  # the group has shared out, and we were there
        self.lost = 0  # records that were gone before they could be read: retention
        self._stir = asyncio.Event()
        self._refreshed_at = time.monotonic()
        self._client = client
        self._kinds = kinds
        self._safe: dict[Any, int] = {}  # by partition, the offset behind what is written
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
        self.fetched = Fetched(self._fetcher, self._subscription, kinds, fail=self.fail)
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
        return self._client.silent_s

    @property
    def missing(self) -> list[str]:
        """The topics that are not there."""
        return sorted(self._kinds.keys() - self._subscription.topics)

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

    async def place(self) -> None:
        """Begin where it is right in partitions that have no position, or an impossible one."""
        unplaced = {
            each: error
            for each, error in self.fetched.unplaced.items()
            if self._subscription.is_assigned(each)
        }
        self.fetched.unplaced.clear()  # whoever is left out comes up again
        if not unplaced:
            return
        try:
            async with asyncio.timeout(PLACE_S):
                places = await self._beginnings(unplaced)
        except (KafkaError, TimeoutError) as exc:
            self.fail(f"it is not known where to begin: {text(exc)}")
            return
        for partition, offset in places.items():
            if self._subscription.is_assigned(partition):
                self.fetched.seek(partition, offset)
                self._safe[partition] = offset
        # at once: who comes after an outage knows by it that the group is not new
        await self.commit(self._subscription.assigned_partitions())

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
        """All that was taken is safe elsewhere; committed within TICK_S."""
        self._safe.update(self.fetched.taken)

    async def commit(self, ours: Collection[Any]) -> None:
        """Commit what is marked of ``ours``; what cannot be committed comes again."""
        offsets = {
            each: OffsetAndMetadata(offset, "")
            for each, offset in self._safe.items()
            if each in ours and self._committed.get(each) != offset
        }
        if not offsets:
            return
        try:
            async with asyncio.timeout(COMMIT_S):
                # one try: commit_offsets would leave a task behind that nobody waits for
                await self._coordinator._do_commit_offsets(None, offsets)  # noqa: SLF001
        except (IllegalGenerationError, UnknownMemberIdError):  # the group went on without us
            self._forget()
        except (KafkaError, TimeoutError) as exc:
            log.debug("kafka: offsets not committed, trying again: %s", exc)
        else:
            self._committed.update((each, at.offset) for each, at in offsets.items())

    def _forget(self) -> None:
        self._safe.clear()
        self._committed.clear()
        self.fetched.forget()

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        """Commit what is safe while the partitions are still ours."""
        await self.commit(revoked)
        self._forget()

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        """Note that there is a share, of nothing perhaps."""
        self.joined = True
        log.info("kafka: reading %d partitions", len(assigned))

    # Living and dying

    async def watch(self) -> str:
        """Commit, and look after the client, until it must be replaced; return why."""
        while not self.trouble:
            try:
                async with asyncio.timeout(TICK_S):
                    await self._stir.wait()
            except TimeoutError:
                pass
            await self.commit(self.assigned)
            await self._look()
        return self.trouble

    async def _look(self) -> None:
        try:
            self._coordinator.check_errors()
        except KafkaError as exc:
            self.fail(text(exc))
        if self._fetcher.error_future.done():
            self.fail("the fetcher ended")
        if self.silent_s > SILENT_S and not await self._client.answers():
            self.fail("no broker answers")
        if self.missing and time.monotonic() - self._refreshed_at > REFRESH_S:
            self._refreshed_at = time.monotonic()
            self._client.force_metadata_update()

    async def leave(self) -> None:
        """Commit and say good-bye, if that goes quickly: the others then need not wait for us."""
        try:
            async with asyncio.timeout(LEAVE_S):
                await self.commit(self.assigned)
                await self._coordinator.close()
        except (KafkaError, OSError, TimeoutError) as exc:
            log.debug("kafka: left the group without a good-bye: %s", exc)

    async def abandon(self) -> None:
        """End every task and connection, now."""
        coordinator, fetcher = self._coordinator, self._fetcher
        self._client.shut()
        self.fetched.close()
        tasks = [
            coordinator._coordination_task,  # noqa: SLF001 - its close() would wait for answers
            coordinator._heartbeat_task,  # noqa: SLF001
            coordinator._commit_refresh_task,  # noqa: SLF001
            fetcher._fetch_task,  # noqa: SLF001
            *fetcher._pending_tasks,  # noqa: SLF001
            self._client._sync_task,  # noqa: SLF001
        ]
        await end(task for task in tasks if task is not None)
        self.fetched.close()  # again: a task may have waited while it ended


def text(exc: BaseException) -> str:
    """Return what ``exc`` says, for people."""
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
