"""What a batch from the bus becomes."""

import json
from typing import Any, cast

import pytest

from gateway.bus.port import Batch
from gateway.core.deadletter import decode as decode_dead
from gateway.core.kinds import Kind
from gateway.core.payloads import MAX_PAYLOAD_BYTES, Pose, Sensor
from gateway.journal.port import Journal
from gateway.services.ingest import DAY_MS, Ingest, Update
from tests.chain.memory_journal import MemoryJournal

NOW = 1_790_000_000_000


class Chain:
    """An ingest between lists."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.live: list[Update] = []
        self.acknowledged: list[int] = []
        self.heard: list[tuple[int, int]] = []
        self.ingest = Ingest(
            cast("Journal", self.journal),
            self._publish,
            prefix="smartair/v1",
            site="home",
            now_ms=lambda: NOW,
            box="b1",
            heard=lambda id_, offset: self.heard.append((id_, offset)),
        )
        self._batches = 0

    def _publish(self, updates: list[Update]) -> int:
        self.live += updates
        return 0

    def send(self, *items: tuple[str, bytes]) -> None:
        number, self._batches = self._batches, self._batches + 1
        self.ingest.take(Batch(items, lambda: self.acknowledged.append(number)))

    def line(self, hop: str, kind: str) -> tuple[int, int, int, dict[str, int]]:
        for a_hop, a_kind, line in self.ingest.lines():
            if (a_hop, a_kind) == (hop, kind):
                assert line.unaccounted == 0
                return line.entered, line.delivered, line.pending, dict(line.dropped)
        raise AssertionError(f"no line {hop} {kind}")

    def dead(self) -> tuple[str, str, bytes]:
        kind, _, _, payload = self.journal.entries[-1]
        assert kind == Kind.DEAD
        letter = decode_dead(payload)
        return letter.topic, letter.reason, letter.payload


@pytest.fixture
def chain() -> Chain:
    return Chain()


def topic(kind: str, robot: str = "r1") -> str:
    return f"smartair/v1/home/{robot}/{kind}"


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_a_pose_is_live_at_once_and_acknowledged_when_durable(chain: Chain) -> None:
    payload = body(ts=NOW - 5, seq=1, map="f1", x=1, y=2.5)
    chain.send((topic("pose"), payload))
    assert chain.journal.entries == [(Kind.POSE, "r1", NOW - 5, payload)]
    assert chain.live == [
        (Kind.POSE, "r1", Pose(x=1, y=2.5, ts=NOW - 5, seq=1, map="f1"), NOW - 5, NOW)
    ]
    assert chain.acknowledged == []
    assert chain.line("mqtt", "pose") == (1, 0, 1, {})
    chain.journal.commit()
    assert chain.acknowledged == [0]
    assert chain.line("mqtt", "pose") == (1, 1, 0, {})
    assert chain.line("journal", "pose") == (1, 1, 0, {})


def test_batches_are_acknowledged_in_order_also_when_nothing_is_kept(chain: Chain) -> None:
    chain.send((topic("pose"), body(x=1, y=1)))
    chain.send(("homeassistant/status", b"online"))
    assert chain.acknowledged == []
    chain.journal.commit(1)
    assert chain.acknowledged == [0]
    chain.journal.commit()
    assert chain.acknowledged == [0, 1]
    assert chain.line("mqtt", "other") == (1, 1, 0, {})


@pytest.mark.parametrize(
    ("ts", "kept"),
    [
        pytest.param(NOW - DAY_MS, NOW - DAY_MS, id="a day old"),
        pytest.param(NOW - DAY_MS - 1, NOW, id="older"),
        pytest.param(NOW + DAY_MS + 1, NOW, id="from the future"),
        pytest.param(0, NOW, id="booted in 1970"),
        pytest.param(None, NOW, id="none"),
        pytest.param(NOW - 4.75, NOW - 5, id="with a fraction"),
    ],
)
def test_a_clock_that_is_off_is_replaced_by_the_receive_time(
    chain: Chain, ts: float | None, kept: int
) -> None:
    chain.send((topic("sensor"), body(ts=ts, pm25=3)))
    assert [entry[2] for entry in chain.journal.entries] == [kept]


@pytest.mark.parametrize(
    ("where", "payload", "reason"),
    [
        pytest.param(topic("pose"), b"{", "NOT_JSON", id="cut"),
        pytest.param(topic("pose"), b"", "NOT_JSON", id="empty"),
        pytest.param(topic("pose"), b"\xff\xfe", "NOT_JSON", id="not text"),
        pytest.param(topic("pose"), b'{"x":1,"y":1,"z":' + b"[" * 60_000, "NOT_JSON", id="nested"),
        pytest.param(topic("pose"), b"[1,2]", "INVALID", id="no object"),
        pytest.param(topic("pose"), b'{"x":NaN,"y":1}', "NOT_JSON", id="NaN"),
        pytest.param(topic("pose"), b'{"x":1e999,"y":1}', "INVALID", id="infinite"),
        pytest.param(topic("pose"), b'{"x":1}', "INVALID", id="missing"),
        pytest.param(topic("pose"), b'{"x":"1","y":1}', "INVALID", id="text for a number"),
        pytest.param(topic("pose"), b'{"x":200000,"y":1}', "INVALID", id="out of range"),
        pytest.param(topic("pose"), b'{"x":1,"y":1,"map":"f 1"}', "INVALID", id="map"),
        pytest.param(topic("sensor"), b'{"co2":1}', "INVALID", id="no such air"),
        pytest.param(topic("sensor"), b'{"ts":1}', "INVALID", id="no metric"),
        pytest.param(topic("state"), b'{"state":"flying"}', "INVALID", id="no such state"),
        pytest.param(
            topic("pose"), b" " * (MAX_PAYLOAD_BYTES + 1), "TOO_LARGE", id="over the limit"
        ),
        pytest.param(topic("lidar"), b"{}", "UNKNOWN_TOPIC", id="kind"),
        pytest.param("smartair/v1/home", b"{}", "UNKNOWN_TOPIC", id="short"),
        pytest.param("smartair/v1/away/r1/pose", b"{}", "WRONG_SITE", id="site"),
        pytest.param(topic("pose", "r 1"), b"{}", "BAD_ROBOT_ID", id="id"),
    ],
)
def test_what_does_not_fit_is_a_dead_letter(
    chain: Chain, where: str, payload: bytes, reason: str
) -> None:
    chain.send((topic("pose"), body(x=1, y=1)), (where, payload), (topic("pose"), body(x=2, y=2)))
    kinds = [entry[0] for entry in chain.journal.entries]
    assert kinds == [Kind.POSE, Kind.DEAD, Kind.POSE]
    del chain.journal.entries[-1]
    assert chain.dead() == (where, reason, payload[:MAX_PAYLOAD_BYTES])
    assert len(chain.live) == 2
    chain.journal.commit()
    assert chain.acknowledged == [0]
    dropped = [line.dropped for _, _, line in chain.ingest.lines() if line.dropped]
    assert dropped == [{reason: 1}]
    assert all(line.unaccounted == 0 and line.pending == 0 for _, _, line in chain.ingest.lines())


def test_clearing_a_retained_state_is_not_a_dead_letter(chain: Chain) -> None:
    chain.send((topic("state"), b""), (topic("connection"), b""))
    assert chain.journal.entries == []
    chain.journal.commit()
    assert chain.line("mqtt", "state") == (1, 1, 0, {})


def test_readings_by_rest_keep_their_time_however_old(chain: Chain) -> None:
    done: list[str] = []
    end = chain.ingest.submit([("r1", Sensor(pm25=1.0, ts=5))], lambda: done.append("durable"))
    assert (end, chain.journal.entries[0][:3]) == (1, (Kind.SENSOR, "r1", 5))
    assert done == []
    chain.journal.commit()
    assert done == ["durable"]
    assert chain.line("mqtt", "rest") == (1, 1, 0, {})


def test_fits_says_whether_a_replay_would_work(chain: Chain) -> None:
    assert chain.ingest.fits(topic("pose"), body(x=1, y=1))
    assert not chain.ingest.fits(topic("pose"), b"{}")
    assert not chain.ingest.fits("elsewhere", b"{}")


def test_a_record_that_a_later_hop_refuses_is_buried_in_its_turn(chain: Chain) -> None:
    chain.send((topic("pose"), body(x=1, y=1)))
    chain.ingest.bury(topic("pose"), "r1", "TOO_LARGE", "9 bytes; 8 fit", b"x" * 70_000)
    assert chain.line("journal", "dead-letter") == (1, 0, 1, {})
    assert chain.dead() == (topic("pose"), "TOO_LARGE", b"x" * MAX_PAYLOAD_BYTES)
    chain.journal.commit()
    assert chain.line("journal", "dead-letter") == (1, 1, 0, {})


def test_a_name_that_no_robot_has_is_not_kept(chain: Chain) -> None:
    chain.ingest.bury("elsewhere", "r" * 300, "NOT_JSON", "why", b"{")
    assert chain.journal.entries[-1][:2] == (Kind.DEAD, "")
    assert chain.dead() == ("elsewhere", "NOT_JSON", b"{")


def test_a_canary_is_durable_and_heard_and_no_robot(chain: Chain) -> None:
    chain.send(("smartair/v1/home/r1/pose", b'{"x":1,"y":2}'))
    chain.send(
        ("smartair/v1/home/r1/pose", b'{"x":1,"y":2}'),
        ("smartair/v1/home/b1/canary", b'{"id":7,"ts":1790000000000}'),
        ("smartair/v1/home/r1/pose", b'{"x":2,"y":2}'),
    )
    assert chain.heard == [(7, 2)]
    assert chain.journal.entries[2][:3] == (Kind.CANARY, "b1", NOW)
    assert [update[1] for update in chain.live] == ["r1"] * 3
    assert chain.line("mqtt", "canary") == (1, 0, 1, {})
    chain.journal.commit()
    assert chain.line("mqtt", "canary") == (1, 1, 0, {})
    assert chain.line("journal", "canary") == (1, 1, 0, {})
    assert chain.acknowledged == [0, 1]
    assert chain.ingest.taken == 2


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("smartair/v1/home/b2/canary", b'{"id":7,"ts":1}', "UNKNOWN_TOPIC"),
        ("smartair/v1/home/b1/canary", b'{"id":-7,"ts":1}', "INVALID"),
        ("smartair/v1/home/b1/canary", b"", "NOT_JSON"),
    ],
)
def test_a_false_canary_is_a_dead_letter(
    chain: Chain, topic: str, payload: bytes, reason: str
) -> None:
    chain.send((topic, payload))
    assert chain.dead() == (topic, reason, payload)
    assert chain.heard == []
