"""What a start makes of a damaged folder: never fatal, never a wrong record, all losses counted."""

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.record import HEADER_BYTES, Encoder, decode_header, encode_header
from gateway.journal.catalog import Clock
from gateway.journal.cursor import encode_cursor
from gateway.journal.open import open_journal
from gateway.journal.port import Record
from tests.journal.filling import (
    FAST,
    RTS,
    TINY,
    drain,
    entries,
    expected,
    put,
    put_each,
    quarantined,
    segments,
)

ITEMS = entries(4)
WANTED = [expected(n, item) for n, item in enumerate(ITEMS)]


@pytest.fixture
async def filled(tmp_path: Path) -> Path:
    """A data directory with one segment of four records."""
    directory = tmp_path / "filled"
    async with open_journal(FAST, directory) as journal:
        await put_each(journal, ITEMS)
    return directory


async def reopened(directory: Path) -> tuple[list[Record], dict[str, int], int]:
    """Open, read all, append one more; return the records, the drops and the new one's offset."""
    async with open_journal(FAST, directory) as journal:
        records, _ = await drain(journal, journal.reader("all"))
        offset = await put(journal, entries(1, 99))
        more, _ = await drain(journal, journal.reader("more"))
        assert more[-1] == expected(offset, entries(1, 99)[0])
        assert more[:-1] == records
        return records, journal.stats().dropped, offset


def copy_of(directory: Path, name: str) -> Path:
    return Path(shutil.copytree(directory, directory.with_name(name)))


async def test_cut_at_every_byte_of_the_last_record(filled: Path) -> None:
    whole = segments(filled)[0].read_bytes()
    salt = decode_header(whole)
    assert salt is not None
    last = len(whole) - len(Encoder(salt.salt).encode(ITEMS[3:], 3, RTS)[0])
    for cut in range(last, len(whole)):
        directory = copy_of(filled, f"cut-{cut}")
        segments(directory)[0].write_bytes(whole[:cut])
        records, dropped, offset = await reopened(directory)
        assert records == WANTED[:3], cut
        assert dropped == {"age": 0, "size": 0, "corrupt": 0, "torn": int(cut > last)}
        assert offset == 3
        assert not quarantined(directory)


async def test_every_flipped_byte_of_a_segment(filled: Path) -> None:
    """All records but the damaged one are there, and a lost one is counted."""
    whole = segments(filled)[0].read_bytes()
    for at in range(len(whole)):
        directory = copy_of(filled, f"flip-{at}")
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        segments(directory)[0].write_bytes(damaged)
        records, dropped, offset = await reopened(directory)
        assert len(records) == (4 if at < HEADER_BYTES else 3), at
        assert all(record in WANTED for record in records)
        assert dropped["corrupt"] + dropped["torn"] == 4 - len(records)
        assert offset == (4 if dropped["torn"] == 0 else 3)
        assert bool(quarantined(directory)) == (dropped["torn"] == 0)
        shutil.rmtree(directory)


async def test_every_flipped_byte_of_the_identity(filled: Path) -> None:
    identity = filled / "journal" / "identity"
    whole = identity.read_bytes()
    for at in range(len(whole)):
        directory = copy_of(filled, f"flip-{at}")
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        (directory / "journal" / "identity").write_bytes(damaged)
        assert (await reopened(directory))[0] == WANTED
        repaired = decode_header((directory / "journal" / "identity").read_bytes())
        assert repaired is not None
        assert repaired.epoch == getattr(decode_header(whole), "epoch", None)


async def test_a_lost_identity_is_taken_from_a_segment(filled: Path) -> None:
    (filled / "journal" / "identity").unlink()
    assert (await reopened(filled))[0] == WANTED


async def test_nothing_to_check_records_with(filled: Path) -> None:
    """Identity and the only header gone: the file is kept aside, a new journal begins."""
    (filled / "journal" / "identity").unlink()
    path = segments(filled)[0]
    path.write_bytes(bytes(HEADER_BYTES) + path.read_bytes()[HEADER_BYTES:])
    records, dropped, offset = await reopened(filled)
    assert records == []
    assert dropped["corrupt"] > 0
    assert offset >= 4
    assert quarantined(filled)


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1, HEADER_BYTES])
async def test_killed_while_a_segment_was_begun(filled: Path, size: int) -> None:
    path = filled / "journal" / "00000000000000000004.log"
    path.write_bytes(segments(filled)[0].read_bytes()[:size])
    records, dropped, offset = await reopened(filled)
    assert records == WANTED
    assert offset == 4
    assert sum(dropped.values()) == 0


async def test_a_block_of_zeros_at_the_end(filled: Path) -> None:
    """What a power cut leaves where the file grew but its blocks were not written."""
    with segments(filled)[0].open("ab") as file:
        file.write(bytes(10_000))
    records, dropped, offset = await reopened(filled)
    assert (records, dropped["torn"], offset) == (WANTED, 1, 4)


async def test_a_hole_in_the_middle_of_a_large_segment(tmp_path: Path) -> None:
    """Damage larger than the steps in which files are read."""
    async with open_journal(FAST, tmp_path) as journal:
        await put_each(journal, entries(20_000))
    path = segments(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[200_000:800_000] = b"\xe7" * 600_000  # the mark of a record, to be nasty
    path.write_bytes(data)
    async with open_journal(FAST, tmp_path) as journal:
        records, lost = await drain(journal, journal.reader("all"))
        assert len(records) + lost == 20_000
        assert lost == journal.stats().dropped["corrupt"]
        assert 600_000 / 80 < lost < 600_000 / 60
        assert records == [expected(r.offset, entries(1, r.offset)[0]) for r in records]


async def test_damage_in_an_old_segment_is_found_by_the_reader(tmp_path: Path) -> None:
    async with open_journal(TINY, tmp_path) as journal:
        await put_each(journal, entries(300))
    victim = segments(tmp_path)[2]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    async with open_journal(TINY, tmp_path) as journal:
        assert journal.stats().dropped["corrupt"] == 0  # an old segment is not read at the start
        records, lost = await drain(journal, journal.reader("first"))
        assert (len(records), lost) == (299, 1)
        assert journal.stats().dropped["corrupt"] == 1
        again = await drain(journal, journal.reader("second"))
        assert again == (records, 1)
        assert journal.stats().dropped["corrupt"] == 1
    assert [path.name for path in quarantined(tmp_path)] == [f"{victim.name}.corrupt"]
    assert quarantined(tmp_path)[0].read_bytes() == data


async def test_an_old_segment_without_a_header(tmp_path: Path) -> None:
    async with open_journal(TINY, tmp_path) as journal:
        await put_each(journal, entries(300))
    victim = segments(tmp_path)[1]
    victim.write_bytes(bytes(HEADER_BYTES) + victim.read_bytes()[HEADER_BYTES:])
    async with open_journal(TINY, tmp_path) as journal:
        records, lost = await drain(journal, journal.reader("all"))
        assert (len(records), lost) == (300, 0)


async def test_a_segment_that_somebody_deleted(tmp_path: Path) -> None:
    async with open_journal(TINY, tmp_path) as journal:
        await put_each(journal, entries(300))
        victim = segments(tmp_path)[3]
        bases = [int(path.stem) for path in segments(tmp_path)]
        await asyncio.to_thread(victim.unlink)
        records, lost = await drain(journal, journal.reader("all"))
        assert lost == bases[4] - bases[3]
        assert len(records) == 300 - lost
        assert journal.stats().dropped["corrupt"] == lost


async def test_a_segment_of_another_journal(tmp_path: Path, filled: Path) -> None:
    async with open_journal(FAST, tmp_path / "mine") as journal:
        await put(journal, entries(4))
    stranger = tmp_path / "mine" / "journal" / "00000000000000000004.log"
    shutil.copy(segments(filled)[0], stranger)
    records, _, offset = await reopened(tmp_path / "mine")
    assert (records, offset) == (WANTED, 4)
    assert quarantined(tmp_path / "mine")


async def test_the_next_segment_overrules_what_a_failed_write_left(filled: Path) -> None:
    """Offset 2 is in two files: the one whose base it is holds the acknowledged record."""
    header = decode_header(segments(filled)[0].read_bytes())
    assert header is not None
    other = entries(4, 50)
    later = encode_header(replace(header, base=2))
    later += Encoder(header.salt).encode(other, 2, RTS)[0]
    (filled / "journal" / "00000000000000000002.log").write_bytes(later)
    records, dropped, offset = await reopened(filled)
    assert records == WANTED[:2] + [expected(n, item) for n, item in enumerate(other, 2)]
    assert sum(dropped.values()) == 0
    assert offset == 6


async def test_offsets_are_not_used_again_when_the_segments_are_gone(filled: Path) -> None:
    """A reader has seen offset 3; the name must not mean another record."""
    async with open_journal(FAST, filled) as journal:
        reader = journal.reader("records")
        await drain(journal, reader)
        reader.commit(4)
    for path in segments(filled):
        path.unlink()
    async with open_journal(FAST, filled) as journal:
        assert journal.stats().next_offset == 4
        assert await put(journal, entries(1, 4)) == 4


async def test_a_cursor_beyond_the_end_starts_at_the_oldest(
    filled: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_journal(FAST, filled) as journal:
        epoch = int(journal.stats().epoch, 16)
    cursors = filled / "journal" / "cursors"
    cursors.mkdir(exist_ok=True)
    (cursors / "ahead").write_bytes(encode_cursor(epoch, 1000))
    async with open_journal(FAST, filled) as journal:
        reader = journal.reader("ahead")
        assert reader.position == 0
        assert await put(journal, entries(1, 4)) == 1000
        records, lost = await drain(journal, reader)
    assert records == [*WANTED, expected(1000, entries(1, 4)[0])]
    assert lost == 996
    assert "cursor ahead is at 1000" in caplog.text


@pytest.mark.parametrize(
    "content",
    [encode_cursor(1, 2), b"", b"edge-cursor 1 broken\n", b"\xff" * 40],
    ids=["another epoch", "empty", "text", "noise"],
)
async def test_a_cursor_that_means_nothing_starts_at_the_oldest(
    filled: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cursors = filled / "journal" / "cursors"
    cursors.mkdir(exist_ok=True)
    (cursors / "odd").write_bytes(content)
    async with open_journal(FAST, filled) as journal:
        assert (await drain(journal, journal.reader("odd")))[0] == WANTED
    assert "cursor odd is" in caplog.text


async def test_what_a_crash_left_half_made_is_removed(filled: Path) -> None:
    part = filled / "journal" / "00000000000000000000.log.part"
    part.write_bytes(b"half")
    await reopened(filled)
    assert not part.exists()


async def test_one_process_at_a_time(filled: Path) -> None:
    async with open_journal(FAST, filled):
        with pytest.raises(OSError, match="open in another process"):
            async with open_journal(FAST, filled):
                pass
    await reopened(filled)


async def test_a_clock_that_was_not_set_makes_nothing_old(filled: Path) -> None:
    """Written in 1970, opened today: the age is not known, so nothing is dropped for it."""
    shutil.rmtree(filled)
    long_ago = Clock(unix_ms=lambda: 5_000)
    async with open_journal(TINY, filled, clock=long_ago) as journal:
        await put_each(journal, entries(100))
    async with open_journal(TINY, filled) as journal:
        await put_each(journal, entries(1))
        assert journal.stats().dropped["age"] == 0
        assert len((await drain(journal, journal.reader("all")))[0]) == 101
