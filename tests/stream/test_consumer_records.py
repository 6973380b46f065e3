"""From batches as brokers store them to what arrives: every codec, any piece size, any header."""

import struct
import time
from collections.abc import Sequence
from typing import Any

import google_crc32c
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from gateway.stream.kafka.consumer_records import MOST_NAMES, Names, Records, Unreadable
from gateway.stream.port import Arrived

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
OURS: list[tuple[str, bytes | None]] = [
    ("site", b"home"),
    ("rts", b"1763000000000"),
    ("box", b"edge-1"),
    ("seq", b"12"),
]
THEN = 1_763_000_000_000

Row = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]


def batch(
    rows: Sequence[Row], *, base: int = 0, codec: int = 0, attributes: int = 0, stamp: int = THEN
) -> bytes:
    """Return a record batch (magic 2) of rows (offset - base, key, value, headers)."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 24)
    for offset, key, value, headers in rows:
        assert builder.append(offset, stamp, key, value, headers) is not None
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base)
    flags = struct.unpack_from(">h", data, 21)[0]
    struct.pack_into(">h", data, 21, flags | attributes)
    struct.pack_into(">I", data, 17, google_crc32c.value(bytes(data[21:])))
    return bytes(data)


def rows(count: int) -> list[Row]:
    return [(place, b"r%d" % (place % 3), b"%d" % place, OURS) for place in range(count)]


def records(data: bytes, position: int = 0) -> Records:
    return Records(MemoryRecords(data), position, kind=1, source="t.pose[2]")


def drain(source: Records, most: int = 10_000) -> list[Arrived]:
    names, found = Names(), list[Arrived]()
    while True:
        before = len(found)
        done = source.take(most, names, found)
        assert len(found) - before <= most
        if found:
            assert source.position > found[-1].offset
        if done:
            return found


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("most", [1, 7, 10, 11, 1000])
def test_all_records_come_once_and_in_order_in_pieces_of_any_size(codec: int, most: int) -> None:
    data = batch(rows(20), codec=codec) + batch(rows(10), base=20, codec=codec)
    source = records(data)
    found = drain(source, most)
    assert [each.offset for each in found] == list(range(30))
    assert [each.payload for each in found] == [
        b"%d" % (n if n < 20 else n - 20) for n in range(30)
    ]
    assert source.position == 30
    assert found[4] == Arrived(1, "r1", "home", "edge-1", THEN, b"4", "t.pose[2]", 4)
    assert found[4].place == "t.pose[2]@4"


@pytest.mark.parametrize("most", [1, 4, 100])
def test_records_before_the_position_are_passed_over(most: int) -> None:
    source = records(batch(rows(20), base=100, codec=3) + batch(rows(2), base=120), 115)
    assert [each.offset for each in drain(source, most)] == list(range(115, 122))


def test_what_compaction_removed_at_the_end_is_not_asked_for_again() -> None:
    data = bytearray(batch(rows(3), base=10))
    struct.pack_into(">i", data, 23, 9)  # last offset delta: the batch once had ten records
    struct.pack_into(">I", data, 17, google_crc32c.value(bytes(data[21:])))
    source = records(bytes(data), 10)
    assert len(drain(source)) == 3
    assert source.position == 20


def test_marks_of_transactions_are_no_records() -> None:
    mark = batch([(0, b"\0\0\0\1", b"\0\0\0\0\0\0", [])], base=2, attributes=0x20)
    source = records(batch(rows(2)) + mark + batch(rows(1), base=3))
    assert [each.offset for each in drain(source)] == [0, 1, 3]
    assert source.position == 4


@pytest.mark.parametrize(
    ("headers", "site", "box", "rts"),
    [
        (OURS, "home", "edge-1", THEN),
        (OURS[::-1], "home", "edge-1", THEN),
        (OURS[:3], "home", "edge-1", THEN),
        ([*OURS, ("more", b"1")], "home", "edge-1", THEN),
        ([("a", b"1"), ("b", b"2"), ("c", b"3"), ("d", b"4")], "", "", THEN),
        ([], "", "", THEN),
        ([("site", None), ("rts", None), ("box", None), ("seq", None)], "", "", THEN),
        ([("site", b"\xff"), ("rts", b"soon"), ("box", b""), ("seq", b"")], "\ufffd", "", THEN),
        ([("site", b"x"), ("rts", b"17"), ("box", b"y"), ("seq", b"")], "x", "y", 17),
        ([("rts", b"9" * 5000)], "", "", THEN),  # more digits than Python reads
    ],
)
def test_headers_of_any_sort(
    headers: list[tuple[str, bytes | None]], site: str, box: str, rts: int
) -> None:
    (found,) = drain(records(batch([(0, b"r1", b"{}", headers)])))
    assert (found.site, found.box, found.rts) == (site, box, rts)


@pytest.mark.parametrize(
    ("key", "value", "robot", "payload"),
    [
        (None, None, "", b""),
        (b"", b"", "", b""),
        (b"\xffr", b"x", "\ufffdr", b"x"),
        (b"r" * 1000, b"x", "r" * 1000, b"x"),
    ],
)
def test_keys_and_values_of_any_sort(
    key: bytes | None, value: bytes | None, robot: str, payload: bytes
) -> None:
    (found,) = drain(records(batch([(0, key, value, [])])))
    assert (found.robot, found.payload) == (robot, payload)


@pytest.mark.parametrize("stamp", [-1, 0, time.time_ns() // 1_000_000 + 3_600_000])
def test_a_time_that_cannot_be_is_not_taken_for_the_receive_time(stamp: int) -> None:
    (found,) = drain(records(batch([(0, b"r1", b"{}", [])], stamp=stamp)))
    assert found.rts == 0


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_damaged_batch_is_named_and_what_came_before_it_is_there(codec: int) -> None:
    damaged = bytearray(batch(rows(5), base=5, codec=codec))
    damaged[-2] ^= 0x10
    source = records(batch(rows(5), codec=codec) + bytes(damaged) + batch(rows(5), base=10))
    found: list[Arrived] = []
    with pytest.raises(Unreadable) as caught:
        source.take(100, Names(), found)
    assert [each.offset for each in found] == [0, 1, 2, 3, 4]
    assert (source.position, caught.value.after) == (5, 10)


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 7])
def test_a_batch_that_cannot_be_decompressed_is_named(codec: int) -> None:
    source = records(batch(rows(5), base=5, attributes=codec), 5)  # says so, but is not compressed
    with pytest.raises(Unreadable) as caught:
        source.take(100, Names(), [])
    assert (source.position, caught.value.after) == (5, 10)


def test_a_batch_with_fewer_records_than_it_says_is_named() -> None:
    data = bytearray(batch(rows(5)))
    struct.pack_into(">i", data, 57, 6)
    struct.pack_into(">I", data, 17, google_crc32c.value(bytes(data[21:])))
    found: list[Arrived] = []
    source = records(bytes(data))
    with pytest.raises(Unreadable):
        source.take(100, Names(), found)
    assert (len(found), source.position) == (5, 5)


def test_names_that_are_remembered_are_bounded() -> None:
    names = Names()
    for number in range(MOST_NAMES + 10):
        assert names.robot(b"r%d" % number) == f"r{number}"
    assert len(names.robots) <= MOST_NAMES
    assert names.robots[None] == ""
    long: Any = b"r" * 10_000
    names.robot(long)
    assert long not in names.robots
