"""What became of every message: asked of Kafka, PostgreSQL and Redis, past the gateway."""

import asyncio
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Self

from confluent_kafka import Consumer, TopicPartition

from gateway.config.model import RedisState
from gateway.core.shared import decode
from gateway.state.open import open_state
from tests.e2e.outage_load import KINDS, Load
from tests.e2e.outage_site import Shares, Site
from tests.e2e.process import GatewayProcess

LOOK_S: Final = 0.1
READ_S: Final = 60.0


class Topics:
    """Reads the topics from their beginning, each record once however often it is called."""

    def __init__(self, site: Site, shares: Shares) -> None:
        self.first: dict[str, list[int]] = {}  # by robot and kind: numbers as they came first
        self.times: Counter[int] = Counter()
        self._config: Final = {
            "bootstrap.servers": site.kafka.servers,
            "group.id": f"{shares.name}-proof",
            "enable.auto.commit": False,
            "log_level": 0,
        }
        self._names = [f"{shares.topics}.{kind}" for kind in KINDS]
        self._at: dict[tuple[str, int], int] = {}

    def read(self) -> None:
        """Take everything that is there now."""
        consumer = Consumer(self._config)  # one that was there in an outage may not get over it
        try:
            self._read(consumer, self._ends(consumer))
        finally:
            consumer.close()

    def _read(self, consumer: Consumer, ends: dict[tuple[str, int], int]) -> None:
        consumer.assign([TopicPartition(*key, self._at.get(key, 0)) for key in ends])
        deadline = time.monotonic() + READ_S
        while any(self._at.get(key, 0) < end for key, end in ends.items()):
            assert time.monotonic() < deadline, "Kafka does not give what it has"
            for message in consumer.consume(5_000, timeout=0.2):
                self._take(message)

    def _take(self, message: Any) -> None:
        assert message.error() is None, message.error()
        topic = message.topic()
        self._at[topic, message.partition()] = message.offset() + 1
        number = json.loads(message.value())["seq"]
        self.times[number] += 1
        if self.times[number] == 1:
            key = f"{message.key().decode()} {topic.rpartition('.')[2]}"
            self.first.setdefault(key, []).append(number)

    @property
    def numbers(self) -> set[int]:
        """All that came."""
        return set(self.times)

    @property
    def duplicates(self) -> int:
        """How many records had come before."""
        return self.times.total() - len(self.times)

    def disordered(self) -> list[str]:
        """Return the robots and kinds whose numbers went back, and where."""
        return [
            f"{key}: {old} before {new}"
            for key, numbers in self.first.items()
            for old, new in pairwise(numbers)
            if new < old
        ]

    def _ends(self, consumer: Consumer) -> dict[tuple[str, int], int]:
        ends: dict[tuple[str, int], int] = {}
        found = consumer.list_topics(timeout=READ_S).topics
        for name in self._names:
            for partition in found[name].partitions if name in found else ():
                place = TopicPartition(name, partition)
                ends[name, partition] = consumer.get_watermark_offsets(place, READ_S)[1]
        return ends


def in_history(site: Site, shares: Shares, *, after: int) -> list[int]:
    """Return the numbers above ``after`` of all readings in PostgreSQL."""
    sql = f"SELECT seq FROM edge_gateway.readings WHERE seq > {after}"
    return [int(line) for line in site.postgres.psql(sql, shares.database).split()]


def in_state(site: Site, shares: Shares) -> dict[str, int]:
    """Return the newest number of every robot and kind in Redis."""

    async def ask() -> dict[str, int]:
        config = RedisState(url=site.redis.url, prefix=shares.topics)
        newest: dict[str, int] = {}
        async with open_state(config) as state:
            for kind in KINDS:
                for robot, value in (await state.newest(kind)).items():
                    newest[f"{robot} {kind}"] = json.loads(decode(value).payload)["seq"]
        return newest

    return asyncio.run(ask())


def newest_published(load: Load) -> dict[str, int]:
    """Return the newest number of every robot and kind as they were published."""
    newest: dict[str, int] = {}
    for number in range(1, len(load.sent_at)):
        newest[f"{load.robot_of(number)} {load.kind_of(number)}"] = number
    return newest


@dataclass(slots=True)
class Look:
    """/readyz at one moment; without parts: it did not answer."""

    at: float
    ready: bool
    red: dict[str, str] = field(default_factory=dict)  # name to detail
    green: set[str] = field(default_factory=set)


class Watchman:
    """Looks at /readyz again and again."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.looks: list[Look] = []
        self._gateway = gateway
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(timeout=20)

    def reported(self, parts: set[str], since: float, until: float) -> float | None:
        """Return the seconds from ``since`` to the first look with one of ``parts`` red."""
        for look in list(self.looks):
            if since <= look.at < until and look.red.keys() & parts:
                return look.at - since
        return None

    def green_since(self, since: float, parts: set[str] | None = None) -> float | None:
        """Return the seconds from ``since`` until everything (or ``parts``) was ok and stayed so.

        None: it is not.
        """
        healed: float | None = None
        for look in list(self.looks):
            if look.at >= since:
                ok = look.ready if parts is None else parts <= look.green
                healed = None if not ok else look.at - since if healed is None else healed
        return healed

    def until_green(self, since: float, timeout_s: float, parts: set[str] | None = None) -> float:
        """Wait for that."""
        deadline = time.monotonic() + timeout_s
        while (healed := self.green_since(since, parts)) is None:
            last = self.looks[-1] if self.looks else None
            assert time.monotonic() < deadline, f"not green after {timeout_s} s: {last}"
            time.sleep(0.05)
        return healed

    def _run(self) -> None:
        while not self._end.wait(LOOK_S):
            at = time.monotonic()
            try:
                answer = self._gateway.get("/readyz")
            except (OSError, ValueError):  # killed, or not there yet
                self.looks.append(Look(at, ready=False))
                continue
            self.looks.append(_look(at, answer))


def _look(at: float, answer: Any) -> Look:
    parts = answer["parts"]
    return Look(
        at,
        answer["ready"],
        {part["name"]: part["detail"] for part in parts if not part["ok"]},
        {part["name"] for part in parts if part["ok"]},
    )
