"""The way in: what every box put into the topics, shared out among the boxes of one group.

Where reading begins: at the committed offset. A group that never committed anything begins ten
minutes back, by the brokers' clock of each record: "latest" would lose what arrives while the group
is being formed, "earliest" would first replay the whole retention, hours of it, into a state whose
values all get replaced. A partition without an offset in a group that has others is new, or its
topic was made again, and is read from its beginning; so is one whose offset is out of range.

What is read comes again after a rebalance, a restart or an outage unless it was committed: at least
once. Offsets are committed a fifth of a second after ``commit``, when partitions are handed to
another box, and at the end.

Memory is bounded: at most one fetched piece per partition (1 MiB compressed, or one batch) waits,
and nothing more is fetched of it until it is taken.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from random import Random
from types import TracebackType
from typing import Final, Self

from aiokafka.errors import KafkaError

from gateway.aio.supervisor import Supervisor
from gateway.config.model import KafkaStream
from gateway.core.backoff import Backoff
from gateway.core.errors import Unavailable
from gateway.core.kinds import Kind
from gateway.stream.kafka.consumer_client import METADATA_S, Client
from gateway.stream.kafka.consumer_member import SESSION_S, Member
from gateway.stream.kafka.security import Security
from gateway.stream.kafka.topics import topic_of
from gateway.stream.port import Arrived, StreamStatus

log = logging.getLogger(__name__)

KINDS: Final = (Kind.POSE, Kind.SENSOR, Kind.STATE, Kind.EVENT, Kind.CANARY)
MOST_RECORDS: Final = 2_000  # of one read: 3 ms of the event loop
QUICK_S: Final = 2.0  # what most attempts to connect get: an attempt that was swallowed ends soon
STEADY_S: Final = 10.0  # a member that lived so long is replaced at once
DEAF_S: Final = 5.0  # without an answer for so long we are not connected, whatever we believe


class KafkaConsumer:
    """Implements ``gateway.stream.port.Consumer``; works inside ``async with``."""

    def __init__(
        self,
        config: KafkaStream,
        security: Security,
        *,
        group: str,
        box: str,
        rng: Random | None = None,
    ) -> None:
        self._config = config
        self._security = security
        self._group = group
        self._box = box
        self._rng = rng or Random()  # noqa: S311 - jitter, not a secret
        self._backoff = Backoff(base_s=0.2, cap_s=2.0)
        self._kinds = {topic_of(config.prefix, kind): int(kind) for kind in KINDS}
        self._tasks = Supervisor()
        self._member: Member | None = None
        self._member_id = ""
        self._here = asyncio.Event()  # there is a member
        self._allowed = asyncio.Event()  # no drill cuts us off
        self._allowed.set()
        self._detail = "not connected yet"
        self._attempts = 0
        self._members = 0
        self._records = 0
        self._lost = 0
        self._damaged = 0

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.spawn("kafka consumer", self._run)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._tasks.__aexit__(exc_type, exc, traceback)

    async def read(self) -> Sequence[Arrived]:
        """See ``Consumer``."""
        while True:
            await self._here.wait()
            member = self._member
            if member is None:
                continue
            fetched = member.fetched
            if fetched.unplaced:
                await member.place()
            records = fetched.take(MOST_RECORDS)
            if records:
                self._records += len(records)
                return records
            if not fetched.unplaced:
                await fetched.more()

    async def commit(self) -> None:
        """See ``Consumer``."""
        if self._member is not None:
            self._member.mark()

    def status(self) -> StreamStatus:
        """See ``Consumer``."""
        member = self._member
        if member is None or not member.joined:
            return StreamStatus(connected=False, detail=self._detail)
        if member.silent_s > DEAF_S:
            return StreamStatus(
                connected=False, detail=f"no broker answered for {member.silent_s:.0f} s"
            )
        count = len(member.assigned)
        if count:
            detail = f"group {self._group}: {count} partitions, {member.behind()} records behind"
        elif member.missing:
            detail = f"group {self._group}: no topic {', '.join(member.missing)} yet"
        else:
            detail = f"group {self._group}: no partitions at present"
        return StreamStatus(connected=True, detail=detail)

    def figures(self) -> Mapping[str, int | float]:
        """Return counters and gauges for /metrics, by name."""
        member = self._member
        return {
            "consumer_connected": int(self.status().connected),
            "consumer_partitions": len(member.assigned) if member else 0,
            "consumer_behind_records": member.behind() if member else 0,
            "consumer_records": self._records,
            "consumer_connects": self._members,
            "consumer_lost_to_retention": self._lost + (member.lost if member else 0),
            "consumer_damaged_batches": self._damaged + (member.fetched.damaged if member else 0),
        }

    def sever(self, cut: bool) -> None:  # noqa: FBT001 - a switch
        """Drill: see ``Stream.sever``."""
        if not cut:
            self._allowed.set()
            return
        self._allowed.clear()
        if self._member is not None:
            self._member.fail("cut off by a drill")

    async def _run(self) -> None:
        """Be a member of the group, for ever."""
        failures = 0
        while True:
            if not self._allowed.is_set():
                self._detail = "cut off by a drill"
                await self._allowed.wait()
            try:
                member = await self._enter()
            except Unavailable as exc:
                why = exc.detail
                failures += 1
            else:
                since = time.monotonic()
                if not failures:
                    self._detail = f"joining group {self._group}"
                why = await self._live(member)
                failures = 0 if time.monotonic() - since > STEADY_S else failures + 1
            if self._detail != why:
                log.warning("kafka consumer: %s; trying again", why)
            self._detail = why
            if failures:
                await asyncio.sleep(max(0.05, self._backoff.delay_s(failures, self._rng)))

    async def _live(self, member: Member) -> str:
        """Keep ``member`` until there is trouble; return what it was."""
        self._member = member
        self._members += 1
        self._here.set()
        try:
            if not self._allowed.is_set():
                return "cut off by a drill"
            return await member.watch()
        except asyncio.CancelledError:
            await member.leave()
            raise
        finally:
            self._member = None
            self._here.clear()
            self._member_id = member.member_id
            self._lost += member.lost
            self._damaged += member.fetched.damaged
            await member.abandon()

    async def _enter(self) -> Member:
        """Connect to the first server that answers.

        Raises:
            Unavailable: none does; says why.
        """
        arguments = await self._security.arguments()
        # Mostly quick tries: one that was swallowed by a dead link must not outlast it for long.
        # Every third gets all its time, for links that are slow by nature.
        self._attempts += 1
        patience_s = self._config.timeout_s
        if self._attempts % 3:
            patience_s = min(QUICK_S, patience_s)
        servers = [each.strip() for each in self._config.servers.split(",")]
        self._rng.shuffle(servers)
        why = ""
        for server in servers:
            client = Client(
                security=arguments,
                bootstrap_servers=server,
                client_id=self._box,
                # A join waits for the other members, up to their session's end.
                request_timeout_ms=round((self._config.timeout_s + SESSION_S) * 1000),
                metadata_max_age_ms=round(METADATA_S * 1000),
            )
            try:
                async with asyncio.timeout(patience_s):
                    await client.meet()
            except TimeoutError:
                why = f"{server} does not answer"
            except (KafkaError, OSError) as exc:
                why = f"{server} cannot be used: {exc or type(exc).__name__}"
            else:
                return Member(client, self._kinds, group=self._group, member_id=self._member_id)
            await client.close()
        raise Unavailable(why, dependency="kafka")
