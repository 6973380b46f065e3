"""Bounds in bytes and age: the oldest segment goes, counted, and a reader that missed it knows."""

import asyncio
from pathlib import Path

import msgspec

from gateway.journal.catalog import Clock
from gateway.journal.log import Log
from gateway.journal.open import open_journal
from gateway.journal.port import Journal
from tests.journal.filling import (
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

SMALL = msgspec.structs.replace(TINY, max_bytes="32KiB")


class Watch:
    """A clock in the test's hand."""

    def __init__(self) -> None:
        self.s = 1_763_900_000.0
        self.clock = Clock(unix_ms=lambda: int(self.s * 1000), steady_s=lambda: self.s)


async def tick(journal: Journal) -> None:
    """Do now what the writer does every few seconds while it is idle."""
    assert isinstance(journal, Log)
    await asyncio.to_thread(journal._writer.tick)


async def test_size(tmp_path: Path) -> None:
    async with open_journal(SMALL, tmp_path) as journal:
        for n in range(0, 2000, 50):
            await put_each(journal, entries(50, n))
            assert sum(path.stat().st_size for path in segments(tmp_path)) <= 32_768
            assert journal.stats().bytes_on_disk <= 32_768
        stats = journal.stats()
        assert stats.dropped["size"] == stats.first_offset > 1000
        assert stats.segments == len(segments(tmp_path)) > 4
        records, lost = await drain(journal, journal.reader("new"))
        assert lost == 0  # a new reader starts at the oldest record
        assert [record.offset for record in records] == list(range(stats.first_offset, 2000))


async def test_a_slow_reader_is_overtaken_and_told(tmp_path: Path) -> None:
    async with open_journal(SMALL, tmp_path) as journal:
        await put_each(journal, entries(100))
        reader = journal.reader("slow")
        step = await reader.read(max_records=10)
        reader.commit(step.next_offset)
        position = reader.position
        await put_each(journal, entries(2000, 100))
        records, lost = await drain(journal, reader)
        first = journal.stats().first_offset
        assert lost == first - position
        assert records[0] == expected(first, entries(1, first)[0])
        assert len(records) == 2100 - first
        assert journal.stats().dropped["size"] == first


async def test_a_cursor_that_was_overtaken_while_nobody_read(tmp_path: Path) -> None:
    async with open_journal(SMALL, tmp_path) as journal:
        await put_each(journal, entries(20))
        reader = journal.reader("away")
        step = await reader.read(max_records=5)
        reader.commit(step.next_offset)
    async with open_journal(SMALL, tmp_path) as journal:
        await put_each(journal, entries(2000, 20))
        _, lost = await drain(journal, journal.reader("away"))
        assert lost == journal.stats().first_offset - step.next_offset > 0


async def test_a_reader_in_memory_is_not_overtaken(tmp_path: Path) -> None:
    config = msgspec.structs.replace(SMALL, memory_bytes="16MiB")
    async with open_journal(config, tmp_path) as journal:
        reader = journal.reader("near")
        await put_each(journal, entries(2000))
        assert journal.stats().first_offset > 0
        records, lost = await drain(journal, reader)
        assert (len(records), lost) == (2000, 0)


async def test_age(tmp_path: Path) -> None:
    """A segment goes when its newest record is too old; the clock is the test's."""
    watch = Watch()
    config = msgspec.structs.replace(TINY, max_age="100s")
    async with open_journal(config, tmp_path, clock=watch.clock) as journal:
        await put_each(journal, entries(100))
        watch.s += 60
        await put_each(journal, entries(100, 100))
        watch.s += 39
        await tick(journal)
        assert journal.stats().dropped["age"] == 0
        watch.s += 2
        await tick(journal)
        assert journal.stats().first_offset == journal.stats().dropped["age"] == 100
        records, lost = await drain(journal, journal.reader("all"))
        assert (len(records), lost) == (100, 0)


async def test_age_of_an_idle_journal(tmp_path: Path) -> None:
    """The segment being written is closed and goes too, when nothing new comes."""
    watch = Watch()
    config = msgspec.structs.replace(TINY, max_age="100s")
    async with open_journal(config, tmp_path, clock=watch.clock) as journal:
        await put_each(journal, entries(10))
        watch.s += 101
        await tick(journal)
        assert segments(tmp_path) == []
        assert journal.stats().dropped["age"] == 10
        assert await put(journal, entries(1, 10)) == 10
        assert journal.stats().first_offset == 10


async def test_age_counts_over_a_restart(tmp_path: Path) -> None:
    watch = Watch()
    config = msgspec.structs.replace(TINY, max_age="100s")
    async with open_journal(config, tmp_path, clock=watch.clock) as journal:
        await put_each(journal, entries(200))
    count = len(segments(tmp_path))
    watch.s += 101
    async with open_journal(config, tmp_path, clock=watch.clock) as journal:
        assert journal.stats().dropped["age"] > 0
        assert len(segments(tmp_path)) < count
        assert await put(journal, entries(1, 200)) == 200


async def test_a_trickle_does_not_keep_old_records(tmp_path: Path) -> None:
    """One record every ten seconds would fill a segment in weeks: segments end by time as well."""
    watch = Watch()
    config = msgspec.structs.replace(TINY, segment_bytes="512KiB", max_age="100s")
    async with open_journal(config, tmp_path, clock=watch.clock) as journal:
        for n in range(100):
            await put(journal, entries(1, n))
            watch.s += 10
        await tick(journal)
        assert 100 - 14 <= journal.stats().first_offset <= 100 - 9


async def test_quarantined_files_count_and_go_first(tmp_path: Path) -> None:
    async with open_journal(SMALL, tmp_path) as journal:
        await put_each(journal, entries(200))
    victim = segments(tmp_path)[1]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    async with open_journal(SMALL, tmp_path) as journal:
        await drain(journal, journal.reader("all"))
        assert quarantined(tmp_path)
        on_disk = sum(p.stat().st_size for p in segments(tmp_path) + quarantined(tmp_path))
        assert journal.stats().bytes_on_disk == on_disk
        await put_each(journal, entries(300, 200))
        assert not quarantined(tmp_path)
        assert journal.stats().dropped["size"] == 0


async def test_one_large_group_is_spread_over_segments(tmp_path: Path) -> None:
    """What waited while the disk was slow does not become one huge segment."""
    config = msgspec.structs.replace(TINY, commit_ms=50)
    async with open_journal(config, tmp_path) as journal:
        for n in range(0, 500, 5):
            journal.append(entries(5, n), RTS, lambda: None)
        await journal.flush()
        assert max(path.stat().st_size for path in segments(tmp_path)) <= 4096
        assert len((await drain(journal, journal.reader("all")))[0]) == 500
