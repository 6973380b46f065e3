"""Readers between memory and files."""

import asyncio
from pathlib import Path
from random import Random

import msgspec

from gateway.core.kinds import Kind
from gateway.journal.open import open_journal
from gateway.journal.port import Entry
from gateway.journal.tail import Tail, make_block
from tests.journal.filling import FAST, RTS, drain, entries, expected, put, put_each

FORGETFUL = msgspec.structs.replace(FAST, memory_bytes="64KiB")


async def test_starting_in_the_middle_of_a_large_segment(tmp_path: Path) -> None:
    """Found through the index, in the process that wrote it and after a restart."""
    for _ in range(2):
        async with open_journal(FORGETFUL, tmp_path) as journal:
            if journal.stats().next_offset == 0:
                await put_each(journal, entries(20_000))
                reader = journal.reader("middle")
                while reader.position < 15_001:
                    await reader.read(max_records=1_667)
                reader.commit(reader.position)
            again = journal.reader("middle")
            at = again.position
            records, lost = await drain(journal, again)
            assert records == [expected(n, i) for n, i in enumerate(entries(20_000))][at:]
            assert lost == 0


async def test_a_reader_that_falls_behind_and_catches_up(tmp_path: Path) -> None:
    """Memory, then files, then memory again: nothing twice, nothing left out."""
    async with open_journal(FORGETFUL, tmp_path) as journal:
        reader = journal.reader("all")
        offsets: list[int] = []
        end = 0
        for count in (10, 5_000, 10, 10, 3_000, 1):
            await put_each(journal, entries(count, end))
            end += count
            step = await reader.read(max_records=700)
            offsets += [record.offset for record in step.records]
        offsets += [record.offset for record in (await drain(journal, reader))[0]]
        assert offsets == list(range(end))


async def test_reading_while_writing(tmp_path: Path) -> None:
    """Readers of different speed and kinds all see one order, while files rotate under them."""
    config = msgspec.structs.replace(FORGETFUL, segment_bytes="64KiB")
    total = 20_000
    items: list[Entry] = []
    for n in range(total):
        items += entries(1, n, Kind.POSE if n % 3 else Kind.EVENT)
    async with open_journal(config, tmp_path) as journal:

        async def write() -> None:
            for at in range(0, total, 100):
                await put(journal, items[at : at + 100])

        async def read(name: str, kinds: frozenset[int] | None, most: int) -> None:
            reader = journal.reader(name, kinds)
            seen: list[int] = []
            while reader.position < total:
                step = await reader.read(max_records=most)
                assert step.lost == 0
                for record in step.records:
                    assert record == expected(record.offset, items[record.offset])
                    seen.append(record.offset)
                reader.commit(step.next_offset)
            wanted = [n for n, item in enumerate(items) if kinds is None or item[0] in kinds]
            assert seen == wanted

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(write())
            group.create_task(read("all", None, 10_000))
            group.create_task(read("few", None, 37))
            group.create_task(read("events", frozenset({int(Kind.EVENT)}), 500))


def test_memory_is_bounded() -> None:
    """The oldest blocks go first; what is counted is close to what they take."""
    tail = Tail(100_000)
    for n in range(0, 100_000, 10):
        block = make_block(n, n + 10, 1 << Kind.SENSOR, RTS, tuple(entries(10, n)), 600)
        tail.extend([block])
    oldest = next(n for n in range(100_000) if tail.read(n, None, -1, 1) is not None)
    assert 300 <= 100_000 - oldest <= 500
    assert len(tail._blocks) < 1_000
    step = tail.read(oldest, None, -1, 10_000)
    assert step is not None
    assert [record.offset for record in step.records] == list(range(oldest, 100_000))


def test_one_block_larger_than_memory_is_not_kept() -> None:
    tail = Tail(100)
    tail.extend([make_block(0, 10, 1, RTS, tuple(entries(10)), 600)])
    assert tail.read(0, None, -1, 10) is None


def test_blocks_of_every_mixture_come_whole_however_little_is_asked_for() -> None:
    """A step that ends inside a block goes on there, also if the next block is not wanted."""
    kinds = (Kind.POSE, Kind.SENSOR, Kind.STATE)
    for seed in range(300):
        rng = Random(seed)
        tail, items = Tail(10**9), list[Entry]()
        while len(items) < 60:
            mixture = rng.sample(kinds, rng.randint(1, 3))
            block = [
                entries(1, len(items) + n, rng.choice(mixture))[0] for n in range(rng.randint(1, 5))
            ]
            first, end = len(items), len(items) + len(block)
            mask = sum(1 << kind for kind in {int(item[0]) for item in block})
            tail.extend([make_block(first, end, mask, RTS, tuple(block), 100)])
            items += block
        wanted = frozenset(int(kind) for kind in rng.sample(kinds, rng.randint(1, 2)))
        most, at, seen = rng.randint(1, 6), 0, list[int]()
        while at < len(items):
            step = tail.read(at, wanted, sum(1 << kind for kind in wanted), most)
            assert step is not None
            assert len(step.records) <= most
            assert step.next_offset > at
            seen += [record.offset for record in step.records]
            at = step.next_offset
        assert seen == [n for n, item in enumerate(items) if item[0] in wanted], seed
