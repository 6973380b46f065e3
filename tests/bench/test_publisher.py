"""The throughput generator believes no PUBACK that it should not."""

import json
import subprocess
import sys

import pytest

from bench.packets import Refused, Run, build, connect, length, publish
from bench.publisher import Connection, drive
from tests.bench.chain import Chain


def publish_all(chain: Chain, run: Run, *, window: int = 10) -> Connection:
    connection = Connection(chain.mqtt, "test", run, window=window, version=4)
    with connection.sock:
        first, last = drive([connection])
    assert last > first
    return connection


@pytest.mark.parametrize("qos", [0, 1])
def test_counts_what_was_acknowledged(qos: int) -> None:
    taken: list[int] = []

    def take(seq: int) -> int:
        taken.append(seq)
        return seq

    with Chain(deliver=take).running() as chain:
        connection = publish_all(chain, build(range(7), 300, qos=qos))
    assert connection.acked // 4 == (300 if qos else 1)
    assert len(taken) == len(set(taken)) == (300 if qos else 301)


def test_a_puback_for_another_message_is_an_error() -> None:
    def forget_the_fifth(packet_id: int) -> bytes:
        return b"" if packet_id == 5 else b"\x40\x02" + packet_id.to_bytes(2, "big")

    with Chain(ack=forget_the_fifth).running() as chain, pytest.raises(Refused, match="order"):
        publish_all(chain, build(range(1), 20, qos=1))


def test_no_more_in_flight_than_asked() -> None:
    run = build(range(1), 50, qos=1)
    with Chain(ack=lambda _: b"").running() as chain:
        connection = Connection(chain.mqtt, "test", run, window=8, version=4)
        with connection.sock:
            assert connection.write()
            assert connection.limit == 8 * run.size
            connection.acked = 3 * 4
            connection.slide()
            assert connection.limit == 11 * run.size


def test_the_command_prints_json() -> None:
    with Chain().running() as chain:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "bench.publisher", "--port", str(chain.mqtt)),
                *("--connections", "5", "--count", "100", "--inflight", "3"),
            ],
            capture_output=True,
            check=True,
            timeout=30,
        )
    result = json.loads(done.stdout)
    assert result["messages"] == result["acknowledged"] == 100
    assert result["seconds"] > 0


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (127, "7f"), (128, "8001"), (16_383, "ff7f"), (16_384, "808001")],
)
def test_remaining_length(value: int, encoded: str) -> None:
    """MQTT 3.1.1, table 2.4."""
    assert length(value).hex() == encoded


def test_packets_are_as_the_standard_has_them() -> None:
    """MQTT 3.1.1, 3.1 and 3.3; MQTT 5.0, 3.3: one byte more for no properties."""
    assert connect("ab").hex() == "100e00044d51545404020" + "03c00026162"
    assert (
        publish("a/b", b"hi", qos=1, packet_id=10).hex() == "3209" + "0003612f62" + "000a" + "6869"
    )
    assert publish("a/b", b"hi", qos=0, packet_id=0).hex() == "3007" + "0003612f62" + "6869"
    five = publish("a/b", b"hi", qos=1, packet_id=10, version=5)
    assert five.hex() == "320a" + "0003612f62" + "000a" + "00" + "6869"
