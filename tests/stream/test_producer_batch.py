"""Record batches as bytes: what aiokafka's own parser reads in them."""

import msgspec
import pytest
from aiokafka.record.memory_records import MemoryRecords

from gateway.core import deadletter
from gateway.core.deadletter import DeadLetter
from gateway.core.kinds import Kind
from gateway.stream.kafka.batch import Encoder, Records, pack, seal, sequence_numbers
from gateway.stream.kafka.lanes import partition_of
from gateway.stream.port import Message
from tests.stream.producer_rig import RTS, message


def parsed(wire: bytes) -> list[tuple[int, int, bytes, bytes, dict[str, bytes]]]:
    """Return (offset, time, key, value, headers) of each record of a batch."""
    batches = MemoryRecords(wire)
    found = []
    while (batch := batches.next_batch()) is not None:
        assert batch.validate_crc()
        found += [(r.offset, r.timestamp, r.key, r.value, dict(r.headers)) for r in batch]
    return found


def encoded(messages: list[Message], *, timed: bool = True) -> Records:
    encoder = Encoder(site="home", box="box-1")
    places = range(len(messages))
    return encoder.encode(messages, places, sequence_numbers(messages), timed=timed)


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4", "zstd"])
def test_a_batch_is_read_back(compression: str) -> None:
    messages = [message(n, f"r{n % 7}") for n in range(500)]
    packed = pack(encoded(messages), compression)
    assert packed.codec == {"none": 0, "gzip": 1, "lz4": 3, "zstd": 4}[compression]
    records = parsed(seal(packed, producer_id=5, epoch=1, sequence=9))
    assert len(records) == 500
    for n, (offset, time, key, value, headers) in enumerate(records):
        assert (offset, time, key, value) == (n, RTS + n, b"r%d" % (n % 7), messages[n][5])
        assert headers == {"site": b"home", "box": b"box-1", "rts": b"%d" % (RTS + n),
                           "seq": b"%d" % n}  # fmt: skip


def test_what_would_grow_is_not_compressed() -> None:
    assert pack(encoded([message(0)]), "lz4").codec == 0


@pytest.mark.parametrize(
    "times", [(RTS, RTS - 5_000_000_000, RTS + 3), (RTS, RTS, RTS - 1), (5, RTS * 4, 0)]
)
def test_receive_times_may_go_in_any_direction(times: tuple[int, ...]) -> None:
    messages: list[Message] = [(n, 1, "r", 1, rts, b"{}") for n, rts in enumerate(times)]
    records = encoded(messages)
    assert records.latest_ms == max(times)
    wire = seal(pack(records, "none"), producer_id=1, epoch=0, sequence=0)
    assert [time for _, time, *_ in parsed(wire)] == list(times)


def test_without_times_only_the_header_has_them() -> None:
    wire = seal(
        pack(encoded([message(1), message(2)], timed=False), "none"),
        producer_id=1, epoch=0, sequence=0,
    )  # fmt: skip
    records = parsed(wire)
    assert [time for _, time, *_ in records] == [-1, -1]
    assert records[1][4]["rts"] == b"%d" % (RTS + 2)


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        (b'{"seq":7}', b"7"),
        (b'{ "x" : 1 , "seq" : 7 }', b"7"),
        (b'{"a":{"seq":1},"seq":7}', b"7"),
        (b'{"seq":7,"a":{"seq":1}}', b"7"),
        (b'{"a":{"seq":1}}', None),
        (b'{"a":[{"seq":1}],"b":"\\"seq\\":5"}', None),
        (b'{"x\\"seq":5}', None),
        (b'{"\\u0073eq":7}', b"7"),
        (b'{"seq":null}', None),
        pytest.param(b'{"seq":7,"a":' + b"[" * 60_000, None, id="nested by the thousand"),
        (b'{"seq":-3}', b"-3"),
        (b'{"seq":9007199254740991}', b"9007199254740991"),
        (b'{"seq":-9223372036854775808}', b"-9223372036854775808"),
        (b'{"seq":123456789012345678901234567890}', None),
        (b'{"seq":"7"}', None),
        (b'{"seq":1.5}', None),
        (b'{"seq":true}', None),
        (b"{}", None),
        (b"not json", None),
        (b"\xff\xfe", None),
        (b"", None),
    ],
)
def test_the_number_is_the_payloads(payload: bytes, number: bytes | None) -> None:
    messages = [message(1), message(2, payload=payload), message(3)]
    assert sequence_numbers(messages) == [b"1", number or b"null", b"3"]
    wire = seal(pack(encoded(messages), "none"), producer_id=1, epoch=0, sequence=0)
    _, _, _, value, headers = parsed(wire)[1]
    assert (value, headers.get("seq")) == (payload, number)


def test_a_dead_letter_travels_as_it_came() -> None:
    letter = DeadLetter("smartair/v1/home/r1/pose", "INVALID", "found “x” at $.y", b"\x00{bad")
    good = DeadLetter("t", "OLD", "", b'{"seq":12}')
    messages = [
        message(1, kind=Kind.DEAD, payload=deadletter.encode(letter)),
        message(2, kind=Kind.DEAD, payload=deadletter.encode(good)),
        message(3, kind=Kind.DEAD, payload=b"no letter"),
    ]
    wire = seal(pack(encoded(messages), "none"), producer_id=1, epoch=0, sequence=0)
    first, second, third = parsed(wire)
    common = {"site": b"home", "box": b"box-1"}
    assert first[3] == b"\x00{bad"
    assert first[4] == common | {
        "rts": b"%d" % (RTS + 1), "topic": b"smartair/v1/home/r1/pose", "reason": b"INVALID",
        "detail": b"found \\u201cx\\u201d at $.y",
    }  # fmt: skip
    assert second[4] == common | {
        "rts": b"%d" % (RTS + 2), "seq": b"12", "topic": b"t", "reason": b"OLD", "detail": b"",
    }  # fmt: skip
    assert third[3] == b"no letter"
    assert third[4] == common | {"rts": b"%d" % (RTS + 3), "reason": b"UNREADABLE"}


def test_large_payloads_and_long_names() -> None:
    payload = msgspec.json.encode({"seq": 1, "pad": "x" * 200_000})
    messages: list[Message] = [(1, 1, "r" * 255, 1, RTS, payload), message(2, "로봇")]
    wire = seal(pack(encoded(messages), "lz4"), producer_id=1, epoch=0, sequence=0)
    records = parsed(wire)
    assert records[0][2:4] == (b"r" * 255, payload)
    assert records[1][2] == "로봇".encode()


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_partitions_are_those_of_the_java_client(key: str, hashed: int) -> None:
    """The hashes are those that Kafka's own UtilsTest expects of Utils.murmur2."""
    for partitions in (1, 2, 6, 7, 1000):
        assert partition_of(key, partitions) == (hashed & 0x7FFFFFFF) % partitions
