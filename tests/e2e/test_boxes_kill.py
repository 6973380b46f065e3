"""A box that dies: the other one takes over, and when it comes back nothing is told twice."""

import time
from collections import Counter
from pathlib import Path

from tests.e2e.boxes import (
    Box,
    Device,
    Drive,
    Shared,
    Watcher,
    note,
    now_ms,
    until,
    until_all,
)
from tests.e2e.boxes_load import read_topic
from tests.services.kafka import Kafka
from tests.services.redis import Redis

ROBOTS = [f"r{number}" for number in range(30)]


def test_kill_one_of_two(kafka: Kafka, redis_server: Redis, tmp_path: Path) -> None:
    shared = Shared(kafka.servers, redis_server.url)
    events = "/ws/events?types=event"
    with Box(tmp_path, "one", *shared.sets) as one, Box(tmp_path, "two", *shared.sets) as two:
        one.ready()
        two.ready()
        with (
            Watcher(two, "/ws/coordinates") as poses,
            Watcher(two, events) as heard,
            Drive(two, ROBOTS) as drive,
        ):
            with Device(one.mqtt, "alone") as device:
                device.pose("lost", 1)
                for number in range(50):
                    device.event("lost", f"before-{number}")
                until("its robot is on the other box", lambda: poses.newest().get("lost") == 1)
                device.pose("lost", 2)
                for number in range(50):
                    device.event("lost", f"last-{number}")
                one.kill()  # acknowledged, and not all of it is in Kafka yet
            killed_at, died = drive.seq, time.monotonic()
            _alive(shared, killed_at, since_ms=now_ms())
            two.ready()
            until("all partitions are the survivor's", lambda: _partitions(two) == 30)
            taken_over = time.monotonic()
            with Device(two.mqtt, "survivor") as device:
                for number in range(20):
                    device.event("r0", f"meanwhile-{number}")

            began = time.monotonic()
            one.start()
            until("it knows every robot", lambda: one.poses().keys() == {"lost", *ROBOTS})
            complete = time.monotonic() - began
            one.ready()
            until("they share again", lambda: 0 < _partitions(one) < 30)
            with Watcher(one, events) as back, Device(two.mqtt, "survivor") as device:
                with Device(one.mqtt, "alone") as returned:
                    for number in range(20):
                        returned.event("lost", f"again-{number}")
                        device.event("r0", f"after-{number}")
                _alive(shared, drive.seq, since_ms=now_ms())
                newest = dict.fromkeys(ROBOTS, drive.stop()) | {"lost": 2}
                expected = Counter(
                    f"{name}-{number}"
                    for name, count in (
                        ("before", 50), ("last", 50), ("meanwhile", 20), ("again", 20),
                        ("after", 20),
                    )
                    for number in range(count)
                )  # fmt: skip
                until("every event is told", lambda: set(heard.codes()) == set(expected))
                until_all((one, two), "the newest", lambda box: box.seqs() == newest)
                one.balanced()
                two.balanced()
                assert Counter(heard.codes()) == expected
                poses.never_back()
                new = Counter(code for code in back.codes() if code.startswith(("again", "after")))
                assert new == {code: 1 for code in expected if code.startswith(("again", "after"))}
            in_kafka = Counter(
                (record.box, record.value)
                for record in read_topic(kafka.servers, shared.topic("event"))
            )
            assert len(in_kafka) == len(expected)
            note(
                f"killed: taken over after {taken_over - died:.1f} s; back: every robot is known"
                f" {complete:.1f} s after the start, with {one.started_s:.1f} s of it to listen;"
                f" events in Kafka {in_kafka.total()}, of them"
                f" {in_kafka.total() - len(in_kafka)} duplicates; shown once each"
            )


def _alive(shared: Shared, seq: int, *, since_ms: int) -> None:
    """Wait until Redis has a newer pose of every robot that drives."""

    def newer() -> bool:
        stored = shared.newest()
        return all(stored[robot][1] > seq and stored[robot][0] > since_ms for robot in ROBOTS)

    until("every robot moves on in Redis", newer)


def _partitions(box: Box) -> int:
    """Return how many partitions the box reads now: of 5 topics of 6."""
    for part in box.get("/readyz")["parts"]:
        if part["name"] == "consumer":
            words = part["detail"].replace(",", "").split()
            return int(words[words.index("partitions") - 1]) if "behind" in words else 0
    raise AssertionError("/readyz says nothing of the consumer")
