"""Looking for one robot's newest records in the files."""

import asyncio
import os
import struct
from pathlib import Path

import pytest

from gateway.config.model import JournalConfig
from gateway.core.kinds import Kind
from gateway.journal.open import open_journal
from gateway.journal.port import Entry, Journal, Record
from tests.journal.filling import FAST, RTS, TINY, entries, expected, put, put_each

AGE_S = 900.0


async def traced(
    journal: Journal, robot: str, *, since: int = 0, most: int = 10_000
) -> tuple[list[Record], bool]:
    async with asyncio.timeout(30):
        found = await journal.trace(robot, since=since, age_s=AGE_S, most=most, patience_s=30)
    return list(found.records), found.more


@pytest.mark.parametrize("config", [FAST, TINY], ids=["one file", "many files"])
async def test_the_records_of_a_robot_newest_first(config: JournalConfig, tmp_path: Path) -> None:
    items = entries(400)
    mine = [expected(n, item) for n, item in enumerate(items) if item[1] == "r3"][::-1]
    async with open_journal(config, tmp_path) as journal:
        await put_each(journal, items)
        assert await traced(journal, "r3") == (mine, False)
        assert await traced(journal, "r3", since=200) == (
            [record for record in mine if record.offset >= 200],
            False,
        )
        assert await traced(journal, "r3", most=5) == (mine[:5], True)
        assert await traced(journal, "r33") == ([], False)
        assert await traced(journal, "") == ([], False)
    async with open_journal(config, tmp_path) as journal:  # what an earlier process wrote
        assert await traced(journal, "r3") == (mine, False)


async def test_the_most_is_of_each_kind(tmp_path: Path) -> None:
    items: list[Entry] = [(Kind.POSE, "r", n, b"{}") for n in range(50)]
    items[7] = (Kind.STATE, "r", 7, b"{}")
    async with open_journal(FAST, tmp_path) as journal:
        await put(journal, items)
        records, more = await traced(journal, "r", most=3)
    assert [(record.kind, record.offset) for record in records] == [
        (Kind.POSE, 49), (Kind.POSE, 48), (Kind.POSE, 47), (Kind.STATE, 7),
    ]  # fmt: skip
    assert more


async def test_records_over_the_edges_of_windows_are_found(tmp_path: Path) -> None:
    """Payloads of 60 kB: every window of 256 KiB begins and ends inside one."""
    items: list[Entry] = [
        (Kind.SENSOR, f"r{n % 2}", n, bytes((n,)) * (60_000 + n)) for n in range(40)
    ]
    async with open_journal(FAST, tmp_path) as journal:
        await put(journal, items)
        records, more = await traced(journal, "r1")
        assert records == [expected(n, items[n]) for n in range(39, 0, -2)]
        assert not more


async def test_what_only_looks_like_a_record_is_none(tmp_path: Path) -> None:
    """A device that knows the format puts records into its payload, but not the secret salt."""
    body = struct.pack("<BBBxIQqq", 0xE7, Kind.STATE, 6, 2, 5, 1, 1) + b"victim" + b"{}"
    forged = os.urandom(4) + body
    huge = os.urandom(4) + struct.pack("<BBBxIQqq", 0xE7, Kind.STATE, 6, 2**31, 5, 1, 1) + b"victim"
    items: list[Entry] = [
        (Kind.EVENT, "villain", 1, forged * 20 + huge * 20 + forged[:20]),
        (Kind.SENSOR, "victim", 2, b'{"co2":500}'),
        (Kind.EVENT, "villain", 3, forged[:33]),
    ]
    async with open_journal(FAST, tmp_path) as journal:
        await put(journal, items)
        assert await traced(journal, "victim") == ([expected(1, items[1])], False)


async def test_it_gives_up_in_time_and_says_so(tmp_path: Path) -> None:
    async with open_journal(TINY, tmp_path) as journal:
        await put_each(journal, entries(400))
        found = await journal.trace("r3", since=0, age_s=AGE_S, most=10_000, patience_s=0.0)
    assert found.more
    assert len(found.records) < 50


async def test_old_files_are_left_out(tmp_path: Path) -> None:
    async with open_journal(TINY, tmp_path) as journal:
        await put_each(journal, entries(100))
        found = await journal.trace("r3", since=0, age_s=-1.0, most=10, patience_s=30)
    assert (list(found.records), found.more) == ([], False)


async def test_files_that_retention_takes_meanwhile_are_passed_over(tmp_path: Path) -> None:
    async with open_journal(TINY, tmp_path) as journal:
        items = entries(400)
        await put_each(journal, items)
        segments = sorted((tmp_path / "journal").glob("*.log"))
        for path in segments[:3]:
            path.unlink()
        records, _ = await traced(journal, "r3")
    first = int(segments[3].stem)
    assert (
        records
        == [expected(n, item) for n, item in enumerate(items) if item[1] == "r3" and n >= first][
            ::-1
        ]
    )


async def test_readers_and_writers_go_on_meanwhile(tmp_path: Path) -> None:
    async with open_journal(TINY, tmp_path) as journal:
        await put_each(journal, entries(300))
        reader = journal.reader("all")
        read = 0

        async def copy() -> None:
            nonlocal read
            while read < 350:
                read += (await reader.read(max_records=20)).passed

        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            searches = [
                tasks.create_task(journal.trace("r3", since=0, age_s=AGE_S, most=9, patience_s=30))
                for _ in range(5)
            ]
            tasks.create_task(copy())
            await put(journal, [(Kind.SENSOR, "r9", RTS, b"{}")] * 50)
        assert [len(search.result().records) for search in searches] == [9] * 5
