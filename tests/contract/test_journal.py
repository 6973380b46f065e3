"""What gateway.journal.port promises."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.model import JournalConfig
from gateway.core.kinds import Kind
from gateway.journal.open import open_journal
from gateway.journal.port import Entry, Journal, Record
from tests.journal.filling import FAST, RTS, TINY, drain, entries, expected, put, put_each


@pytest.fixture(params=[FAST, TINY], ids=["from memory", "from files"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Journal]:
    async with open_journal(request.param, tmp_path) as opened:
        yield opened


async def test_records_come_back_in_order(journal: Journal) -> None:
    items = entries(300)
    for at in range(0, 300, 7):
        assert journal.append(items[at : at + 7], RTS, lambda: None) == at
    await journal.flush()
    records, lost = await drain(journal, journal.reader("all"))
    assert records == [expected(n, item) for n, item in enumerate(items)]
    assert lost == 0


async def test_callbacks_come_in_order_and_after_durability(journal: Journal) -> None:
    seen: list[tuple[int, int]] = []

    def note(number: int) -> None:
        seen.append((number, journal.stats().committed_offset))

    for n in range(50):
        journal.append(entries(n % 3, n), RTS, lambda n=n: note(n))  # type: ignore[misc]
    ends = [sum(k % 3 for k in range(n + 1)) for n in range(50)]
    assert seen == []
    await journal.flush()
    assert [number for number, _ in seen] == list(range(50))
    assert all(committed >= ends[number] for number, committed in seen)


async def test_an_empty_append_is_called_back(journal: Journal) -> None:
    await put(journal, [])
    await put(journal, entries(1))
    await put(journal, [])
    assert journal.stats().committed_offset == 1


async def test_an_empty_append_keeps_its_turn_behind_what_is_being_written(
    journal: Journal,
) -> None:
    order: list[str] = []
    journal.append(entries(1), RTS, lambda: order.append("record"))
    flushed = asyncio.Event()

    def first_commit() -> None:
        journal.append(entries(1, 1), RTS, lambda: order.append("second"))
        journal.append([], RTS, lambda: order.append("empty"))
        journal.append([], RTS, flushed.set)

    journal.append([], RTS, first_commit)
    await flushed.wait()
    assert order == ["record", "second", "empty"]


async def test_a_callback_that_fails_does_not_stop_the_others(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("a bug of the caller")

    journal.append(entries(1), RTS, fail)
    await put(journal, entries(1, 1))
    assert journal.stats().committed_offset == 2
    assert "a commit callback failed" in caplog.text


async def test_a_caller_may_use_its_list_again(journal: Journal) -> None:
    items = entries(3)
    copy = list(items)
    await put(journal, items)
    items.clear()
    records, _ = await drain(journal, journal.reader("all"))
    assert records == [expected(n, item) for n, item in enumerate(copy)]


async def test_only_durable_records_are_seen(journal: Journal) -> None:
    reader = journal.reader("all")
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        waiting = group.create_task(reader.read())
        await asyncio.sleep(0)
        journal.append(entries(2), RTS, lambda: None)
        await asyncio.sleep(0)
        assert not waiting.done()
        step = await waiting
    assert [record.offset for record in step.records] == [0, 1]
    assert journal.stats().committed_offset == 2


async def test_a_reader_gets_its_kinds_and_passes_the_others(journal: Journal) -> None:
    items: list[Entry] = []
    for n in range(90):
        items += entries(1, n, (Kind.POSE, Kind.POSE, Kind.SENSOR, Kind.EVENT)[n % 4])
    await put_each(journal, items[:60])
    await put(journal, items[60:])
    wanted = frozenset({int(Kind.SENSOR), int(Kind.EVENT)})
    reader = journal.reader("some", wanted)
    records, lost = await drain(journal, reader)
    assert records == [expected(n, i) for n, i in enumerate(items) if i[0] in wanted]
    assert (reader.position, lost) == (90, 0)


async def test_a_reader_that_wants_nothing_here_still_moves(journal: Journal) -> None:
    await put(journal, entries(50, kind=Kind.POSE))
    reader = journal.reader("events", frozenset({int(Kind.EVENT)}))
    records, _ = await drain(journal, reader)
    assert records == []
    assert reader.position == 50


@pytest.mark.parametrize("most", [1, 7, 40])
async def test_max_records(journal: Journal, most: int) -> None:
    await put_each(journal, entries(30))
    await put(journal, entries(70, 30))
    reader = journal.reader("all")
    records: list[Record] = []
    while reader.position < 100:
        step = await reader.read(max_records=most)
        assert len(step.records) <= most
        records += step.records
    assert records == [expected(n, item) for n, item in enumerate(entries(100))]


async def test_readers_are_independent(journal: Journal) -> None:
    await put_each(journal, entries(120))
    fast, slow = journal.reader("fast"), journal.reader("slow")
    assert len((await drain(journal, fast))[0]) == 120
    assert slow.position == 0
    assert len((await drain(journal, slow))[0]) == 120


async def test_cancelling_a_read_loses_nothing(journal: Journal) -> None:
    await put_each(journal, entries(100))
    reader = journal.reader("all")
    cancelled = 0
    for _ in range(20):
        before = reader.position
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(reader.read(max_records=5))
            await asyncio.sleep(0)
            reading.cancel()
        assert (reader.position == before) == reading.cancelled()
        cancelled += reading.cancelled()
    assert cancelled
    position = reader.position
    records, _ = await drain(journal, reader)
    assert [record.offset for record in records] == list(range(position, 100))


async def test_flush_of_nothing_returns(journal: Journal) -> None:
    async with asyncio.timeout(5):
        await journal.flush()


async def test_figures(journal: Journal) -> None:
    await put_each(journal, entries(100))
    journal.append(entries(5, 100), RTS, lambda: None)
    stats = journal.stats()
    assert (stats.first_offset, stats.committed_offset, stats.next_offset) == (0, 100, 105)
    assert (stats.appended, stats.committed) == (105, 100)
    assert stats.pending_bytes > 0
    assert stats.syncs > 0
    assert stats.failing == ""
    assert len(stats.epoch) == 16
    await journal.flush()
    assert journal.stats().pending_bytes == 0


async def test_pressure(tmp_path: Path) -> None:
    """Paused once above the mark, resumed once below half of it, in every registered pair."""
    config = JournalConfig(commit_ms=1, pending_bytes="4KiB")
    async with open_journal(config, tmp_path) as journal:
        calls: list[str] = []
        resumed = asyncio.Event()
        journal.on_pressure(lambda: calls.append("pause 1"), lambda: calls.append("resume 1"))
        journal.on_pressure(lambda: calls.append("pause 2"), resumed.set)
        for n in range(200):
            journal.append(entries(1, n), RTS, lambda: None)
        assert calls == ["pause 1", "pause 2"]
        journal.on_pressure(lambda: calls.append("late"), lambda: None)
        assert calls[-1] == "late"
        async with asyncio.timeout(10):
            await resumed.wait()
        await journal.flush()
        assert calls == ["pause 1", "pause 2", "late", "resume 1"]
        assert journal.stats().pending_bytes == 0


async def test_everything_survives_a_restart(tmp_path: Path) -> None:
    """Records, offsets, epoch and cursors; the close makes the last records durable."""
    for config in (FAST, TINY):
        directory = tmp_path / config.segment_bytes
        async with open_journal(config, directory) as journal:
            epoch = journal.stats().epoch
            await put_each(journal, entries(60))
            reader = journal.reader("half")
            step = await reader.read(max_records=20)
            reader.commit(step.next_offset)
            await reader.read(max_records=20)
            journal.append(entries(40, 60), RTS, lambda: None)
        async with open_journal(config, directory) as journal:
            assert journal.stats().epoch == epoch
            assert journal.stats().committed_offset == 100
            assert await put(journal, entries(1, 100)) == 100
            again = journal.reader("half")
            assert again.position == again.committed == 20
            records, lost = await drain(journal, again)
            assert records == [expected(n, i) for n, i in enumerate(entries(101))][20:]
            assert lost == 0


async def test_a_commit_beyond_what_was_read_is_refused(journal: Journal) -> None:
    await put(journal, entries(10))
    reader = journal.reader("hasty")
    with pytest.raises(ValueError, match="read only up to 0"):
        reader.commit(10)


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a/b", "x" * 65, "a.part"])
async def test_names_of_readers(journal: Journal, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        journal.reader(name)


async def test_a_reader_asked_for_again_starts_at_its_last_commit(journal: Journal) -> None:
    await put(journal, entries(10))
    reader = journal.reader("again")
    step = await reader.read(max_records=4)
    reader.commit(step.next_offset)
    await drain(journal, reader)
    assert journal.reader("again").position == 4
