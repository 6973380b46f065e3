"""The bytes of a record as docs/journal-format.md has them, and what damage does to them."""

import struct

import google_crc32c
import pytest

from gateway.core.record import (
    FIXED_BYTES,
    HEADER_BYTES,
    MAX_PAYLOAD,
    Encoder,
    Header,
    Row,
    decode_header,
    encode_header,
    resync,
    scan,
    seed,
)

SALT = b"\x01\x02\x03\x04\x05\x06\x07\x08"
START = seed(SALT)
HEADER = Header(base=7, epoch=0x0123456789ABCDEF, salt=SALT, created_ms=1_763_900_000_000)

ROWS: list[Row] = [
    (40, 1, "r1", 1_763_900_000_000, 1_763_900_000_500, b"{}"),
    (41, 2, "로봇-1", -1, 1_763_900_000_500, b""),
    (42, 15, "", 2**63 - 1, 1_763_900_000_500, bytes(range(256))),
]


def encoded(rows: list[Row], salt: bytes = SALT) -> bytes:
    first = rows[0][0]
    return Encoder(salt).encode([(k, r, t, p) for _, k, r, t, _, p in rows], first, rows[0][4])[0]


def test_layout_of_a_record() -> None:
    """Written out by hand from the specification."""
    body = struct.pack("<BBBB I Q q q", 0xE7, 2, 2, 0, 3, 9, 100, 200) + b"r1" + b"abc"
    crc = google_crc32c.value(SALT + body)
    data, mask = Encoder(SALT).encode([(2, "r1", 100, b"abc")], 9, 200)
    assert data == struct.pack("<I", crc) + body
    assert mask == 1 << 2


def test_layout_of_a_header() -> None:
    fields = struct.pack(
        "<8s HHI QQ 8s q", b"EDGEJRNL", 1, 52, 0, 7, HEADER.epoch, SALT, HEADER.created_ms
    )
    assert encode_header(HEADER) == fields + struct.pack("<I", google_crc32c.value(fields))
    assert HEADER_BYTES == 52


def test_header_comes_back_and_every_flipped_bit_is_noticed() -> None:
    data = encode_header(HEADER)
    assert decode_header(data + b"more") == HEADER
    assert decode_header(data[:-1]) is None
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert decode_header(bytes(flipped)) is None


def test_records_come_back() -> None:
    data = encoded(ROWS)
    found = scan(data, START, 40)
    assert found.rows == ROWS
    assert (found.used, found.next_offset, found.passed, found.gaps) == (len(data), 43, 3, 0)


def test_a_mask_of_all_kinds() -> None:
    items = [(1, "a", 0, b""), (2, "a", 0, b""), (1, "b", 0, b""), (255, "b", 0, b"")]
    assert Encoder(SALT).encode(items, 0, 0)[1] == 1 << 1 | 1 << 2 | 1 << 255


def test_cut_anywhere_keeps_the_whole_records() -> None:
    data = encoded(ROWS)
    ends = [len(encoded(ROWS[: n + 1])) for n in range(3)]
    for cut in range(len(data)):
        found = scan(data[:cut], START, 40)
        whole = sum(end <= cut for end in ends)
        assert found.rows == ROWS[:whole]
        assert not found.damaged
        assert (found.need > 0) == (whole < 3)


def test_every_flipped_bit_is_noticed() -> None:
    """Never a wrong record; those before the damage are there, and those after it are found."""
    data = encoded(ROWS)
    second = len(encoded(ROWS[:1]))
    third = len(encoded(ROWS[:2]))
    for bit in range(second * 8, third * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged = bytes(flipped)
        found = scan(damaged, START, 40)
        assert found.rows == ROWS[:1]
        assert found.damaged or found.need
        assert second + resync(damaged[second:], START, 41) == third
        assert scan(damaged[third:], START, 41).rows == ROWS[2:]


def test_records_of_another_journal_are_damage() -> None:
    assert scan(encoded(ROWS, b"another!"), START, 40).damaged
    assert resync(encoded(ROWS, b"another!"), START, 40) == -1


def test_a_record_inside_a_payload_is_not_found() -> None:
    """A device that knows the format cannot plant records: it does not know the salt."""
    planted = encoded([(41, 1, "evil", 0, 0, b"x")], b"\0" * 8)
    data = bytearray(encoded([(40, 1, "r1", 0, 0, planted)]))
    data[10] ^= 1
    assert resync(bytes(data), START, 40) == -1


def test_an_offset_that_goes_back_is_damage() -> None:
    data = encoded(ROWS)
    found = scan(data + data, START, 40)
    assert found.rows == ROWS
    assert found.damaged


def test_gaps_are_counted() -> None:
    data = encoded(ROWS[:1]) + encoded([(50, 1, "r1", 0, 0, b"")])
    found = scan(data, START, 38)
    assert [row[0] for row in found.rows] == [40, 50]
    assert (found.passed, found.gaps, found.next_offset) == (2, 2 + 9, 51)


@pytest.mark.parametrize(
    ("options", "offsets", "passed", "next_offset"),
    [
        ({"skip_to": 41}, [41, 42], 2, 43),
        ({"limit": 42}, [40, 41], 2, 42),
        ({"limit": 40}, [], 0, 40),
        ({"max_rows": 1}, [40], 1, 41),
        ({"kinds": frozenset({2})}, [41], 3, 43),
        ({"kinds": frozenset({9})}, [], 3, 43),
        ({"skip_to": 41, "max_rows": 1}, [41], 1, 42),
    ],
)
def test_scan_options(
    options: dict[str, int], offsets: list[int], passed: int, next_offset: int
) -> None:
    found = scan(encoded(ROWS), START, 40, **options)  # type: ignore[arg-type]
    assert [row[0] for row in found.rows] == offsets
    assert (found.passed, found.next_offset) == (passed, next_offset)


@pytest.mark.parametrize(
    "entry",
    [
        (1, "r" * 256, 0, b""),
        (256, "r", 0, b""),
        (1, "r", 2**63, b""),
        (1, "r", 0, b"x" * (MAX_PAYLOAD + 1)),
    ],
    ids=["robot", "kind", "time", "payload"],
)
def test_over_the_limits(entry: tuple[int, str, int, bytes]) -> None:
    encoder = Encoder(SALT)
    with pytest.raises(ValueError, match=r"robot|range|payload"):
        encoder.encode([(1, "fine", 0, b""), entry], 0, 0)


def test_many_robots_do_not_stay_in_memory() -> None:
    encoder = Encoder(SALT)
    for n in range(70_000):
        encoder.encode([(1, f"robot-{n}", 0, b"")], n, 0)
    assert len(encoder._robots) <= 65_536


def test_sizes_of_the_specification() -> None:
    assert FIXED_BYTES == 36
