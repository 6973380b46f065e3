"""Filling a journal and reading it back."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from gateway.config.model import JournalConfig
from gateway.core.kinds import Kind
from gateway.journal.port import Entry, Journal, Reader, Record

RTS = 1_763_900_000_500
FAST = JournalConfig(commit_ms=1)
TINY = JournalConfig(
    commit_ms=0, segment_bytes="4KiB", max_bytes="1MiB", memory_bytes="1B", commit_bytes=512
)
"""Rotates after some thirty records and keeps nothing in memory, so readers use the files."""


def entries(count: int, first: int = 0, kind: int = Kind.SENSOR) -> list[Entry]:
    """Return entries whose payload tells their number."""
    return [
        (kind, f"r{n % 7}", 1_763_900_000_000 + n, f'{{"seq":{n},"pm25":12.5}}'.encode())
        for n in range(first, first + count)
    ]


def expected(offset: int, entry: Entry) -> Record:
    kind, robot, ts, payload = entry
    return Record(offset, kind, robot, ts, RTS, payload)


async def put(journal: Journal, items: Sequence[Entry]) -> int:
    """Append and wait until it is durable; return the first offset."""
    durable = asyncio.Event()
    first = journal.append(items, RTS, durable.set)
    async with asyncio.timeout(20):
        await durable.wait()
    return first


async def put_each(journal: Journal, items: Sequence[Entry]) -> None:
    """Append one by one, so that segments can rotate between any two."""
    for item in items:
        journal.append([item], RTS, lambda: None)
    async with asyncio.timeout(20):
        await journal.flush()


async def drain(journal: Journal, reader: Reader) -> tuple[list[Record], int]:
    """Read all that is durable; return the records and how many were lost.

    Checks the promise that ties ``passed``, ``lost`` and the position together.
    """
    records: list[Record] = []
    lost = 0
    async with asyncio.timeout(30):
        while reader.position < journal.stats().committed_offset:
            before = reader.position
            step = await reader.read()
            assert step.next_offset == reader.position > before
            assert step.passed + step.lost == step.next_offset - before
            assert step.passed >= len(step.records)
            records += step.records
            lost += step.lost
    offsets = [record.offset for record in records]
    assert offsets == sorted(set(offsets))
    return records, lost


def segments(directory: Path) -> list[Path]:
    return sorted((directory / "journal").glob("*.log"))


def quarantined(directory: Path) -> list[Path]:
    return sorted((directory / "journal").glob("*.corrupt"))
