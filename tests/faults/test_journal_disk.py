"""A disk that is full, fails or hangs: nothing is acknowledged, nothing is lost, it heals."""

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config.model import JournalConfig
from gateway.journal.disk import Disk
from gateway.journal.examine import Examination
from gateway.journal.open import open_journal
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

RETRY_S = 0.02


class BadDisk(Disk):
    """Fails on demand: set ``broken[name]`` to an errno."""

    def __init__(self) -> None:
        self.broken: dict[str, int] = {}
        self.failures = 0
        self.short = 0  # write only so many bytes, then fail

    def _check(self, name: str) -> None:
        if code := self.broken.get(name):
            self.failures += 1
            raise OSError(code, os.strerror(code))

    def open(self, path: Path) -> int:
        self._check("open")
        return super().open(path)

    def create(self, path: Path) -> int:
        self._check("create")
        return super().create(path)

    def write(self, fd: int, data: bytes) -> int:
        if self.short:
            count, self.short = super().write(fd, data[: self.short]), 0
            return count
        self._check("write")
        return super().write(fd, data)

    def sync(self, fd: int) -> None:
        self._check("sync")
        super().sync(fd)

    def sync_folder(self, folder: Path) -> None:
        self._check("sync_folder")
        super().sync_folder(folder)

    def truncate(self, fd: int, size: int) -> None:
        self._check("truncate")
        super().truncate(fd, size)


async def until(check: Callable[[], object]) -> None:
    """Wait for something that another thread does."""
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110 - it happens on a thread
            await asyncio.sleep(0.005)


async def reopened(directory: Path, count: int) -> None:
    """Check that a healthy start finds ``count`` records, whole and in order."""
    async with open_journal(FAST, directory) as journal:
        records, lost = await drain(journal, journal.reader("check"))
        assert records == [expected(n, item) for n, item in enumerate(entries(count))]
        assert lost == 0
        assert sum(journal.stats().dropped.values()) == 0
    assert not quarantined(directory)
    verdicts = await asyncio.to_thread(lambda: [*Examination(directory / "journal").verify()])
    assert [verdict.problem for verdict in verdicts if verdict.problem] == []


@pytest.mark.parametrize(
    ("broken", "code", "short"),
    [
        (("write",), errno.ENOSPC, 0),
        (("write",), errno.ENOSPC, 50),
        (("write", "truncate"), errno.ENOSPC, 50),
        (("sync",), errno.EIO, 0),
        (("sync", "truncate"), errno.EIO, 0),
        (("write", "sync", "create", "truncate"), errno.EIO, 7),
        (("sync_folder", "sync"), errno.EIO, 0),
    ],
)
async def test_nothing_is_acknowledged_and_it_heals(
    tmp_path: Path,
    broken: tuple[str, ...],
    code: int,
    short: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = BadDisk()
    async with open_journal(FAST, tmp_path, disk=disk, retry_s=RETRY_S) as journal:
        await put(journal, entries(10))
        acknowledged: list[int] = []
        disk.short = short
        disk.broken = dict.fromkeys(broken, code)
        for n in range(10, 20):
            journal.append(entries(1, n), RTS, lambda n=n: acknowledged.append(n))  # type: ignore[misc]
        await until(lambda: disk.failures > 3 * len(broken))
        assert journal.stats().failing == os.strerror(code)
        assert acknowledged == []
        assert journal.stats().committed_offset == 10
        assert journal.stats().next_offset == 20
        disk.broken = {}
        async with asyncio.timeout(10):
            await journal.flush()
        assert acknowledged == list(range(10, 20))
        assert journal.stats().failing == ""
        records, lost = await drain(journal, journal.reader("all"))
        assert (len(records), lost) == (20, 0)
    assert caplog.text.count("nothing is acknowledged") == 1
    assert caplog.text.count("writes again") == 1
    await reopened(tmp_path, 20)


async def test_after_a_failed_sync_the_group_is_written_to_another_file(tmp_path: Path) -> None:
    """The pages of a failed fdatasync may be gone although the next one succeeds."""
    disk = BadDisk()
    async with open_journal(FAST, tmp_path, disk=disk, retry_s=RETRY_S) as journal:
        await put(journal, entries(10))
        size = segments(tmp_path)[0].stat().st_size
        disk.broken = {"sync": errno.EIO}
        journal.append(entries(10, 10), RTS, lambda: None)
        await until(lambda: disk.failures >= 3)
        disk.broken = {}
        await journal.flush()
        assert [int(path.stem) for path in segments(tmp_path)] == [0, 10]
        assert segments(tmp_path)[0].stat().st_size == size
    await reopened(tmp_path, 20)


async def test_what_could_not_be_cut_back_does_not_count_twice(tmp_path: Path) -> None:
    """The old file keeps records that were never acknowledged; the next file's base overrules."""
    disk = BadDisk()
    async with open_journal(FAST, tmp_path, disk=disk, retry_s=RETRY_S) as journal:
        await put(journal, entries(10))
        size = segments(tmp_path)[0].stat().st_size
        disk.broken = {"sync": errno.EIO, "truncate": errno.EIO}
        journal.append(entries(10, 10), RTS, lambda: None)
        await until(lambda: disk.failures >= 4)
        disk.broken = {}
        await journal.flush()
        assert segments(tmp_path)[0].stat().st_size > size
    await reopened(tmp_path, 20)


async def test_rotation_on_a_full_disk(tmp_path: Path) -> None:
    """No new file can be made: the records wait, in order, and nothing is dropped to make room."""
    disk = BadDisk()
    async with open_journal(TINY, tmp_path, disk=disk, retry_s=RETRY_S) as journal:
        await put_each(journal, entries(60))
        disk.broken = {"create": errno.ENOSPC}
        for n in range(60, 300):
            journal.append(entries(1, n), RTS, lambda: None)
        await until(lambda: disk.failures >= 3)
        assert journal.stats().dropped["size"] == 0
        disk.broken = {}
        await journal.flush()
    await reopened(tmp_path, 300)


async def test_a_start_on_a_full_disk(tmp_path: Path) -> None:
    """Nothing can be written at all: the journal opens, waits and heals."""
    disk = BadDisk()
    disk.broken = {"create": errno.ENOSPC}
    async with open_journal(FAST, tmp_path, disk=disk, retry_s=RETRY_S) as journal:
        journal.append(entries(5), RTS, lambda: None)
        await until(lambda: journal.stats().failing)
        assert journal.stats().failing == "No space left on device"
        disk.broken = {}
        await journal.flush()
    await reopened(tmp_path, 5)


async def test_a_close_while_failing_gives_up_and_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = BadDisk()
    acknowledged: list[int] = []
    async with open_journal(FAST, tmp_path, disk=disk, retry_s=RETRY_S) as journal:
        await put(journal, entries(3))
        disk.broken = {"write": errno.ENOSPC}
        journal.append(entries(4, 3), RTS, lambda: acknowledged.append(1))
        await until(lambda: journal.stats().failing)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert acknowledged == []
    assert "closed without 4 messages durable" in caplog.text
    await reopened(tmp_path, 3)


class HungDisk(Disk):
    """fdatasync does not return until ``answer`` is set."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.answer.set()
        self.asked = threading.Event()

    def sync(self, fd: int) -> None:
        if not self.answer.is_set():
            self.asked.set()
            self.answer.wait()
        super().sync(fd)


async def test_a_disk_that_hangs_does_not_hang_the_close(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = HungDisk()
    async with open_journal(FAST, tmp_path, disk=disk) as journal:
        await put(journal, entries(3))
        disk.answer.clear()
        journal.append(entries(4, 3), RTS, lambda: None)
        await until(disk.asked.is_set)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert "closed without 4 messages durable" in caplog.text
    disk.answer.set()


async def test_appends_meanwhile_share_one_sync(tmp_path: Path) -> None:
    """While the disk is busy the next group gathers: a slow disk costs delay, not throughput."""
    disk = HungDisk()
    async with open_journal(FAST, tmp_path, disk=disk) as journal:
        await put(journal, entries(1))
        disk.answer.clear()
        journal.append(entries(1, 1), RTS, lambda: None)
        await until(disk.asked.is_set)
        before = journal.stats().syncs
        for n in range(2, 502):
            journal.append(entries(1, n), RTS, lambda: None)
        disk.answer.set()
        await journal.flush()
        assert journal.stats().syncs == before + 2


async def test_a_flush_does_not_wait_for_commit_ms(tmp_path: Path) -> None:
    disk = HungDisk()
    async with open_journal(JournalConfig(commit_ms=10_000), tmp_path, disk=disk) as journal:
        disk.answer.clear()
        journal.append(entries(1), RTS, lambda: None)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            group.create_task(journal.flush())
            await until(disk.asked.is_set)
            journal.append(entries(1, 1), RTS, lambda: None)
            group.create_task(journal.flush())
            await asyncio.sleep(0)
            disk.answer.set()
        assert journal.stats().committed_offset == 2


class NotingDisk(Disk):
    """Notes what was asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def create(self, path: Path) -> int:
        self.calls.append(f"create {path.name}")
        return super().create(path)

    def sync(self, fd: int) -> None:
        self.calls.append("sync")
        super().sync(fd)

    def sync_folder(self, folder: Path) -> None:
        self.calls.append("sync_folder")
        super().sync_folder(folder)


async def test_a_new_file_is_in_its_folder_before_the_acknowledgement(tmp_path: Path) -> None:
    disk = NotingDisk()
    async with open_journal(FAST, tmp_path, disk=disk) as journal:
        disk.calls.clear()
        journal.append(entries(1), RTS, lambda: disk.calls.append("acknowledged"))
        await journal.flush()
        assert disk.calls == [f"create {0:020d}.log", "sync_folder", "sync", "acknowledged"]


class BlindDisk(Disk):
    """Some bytes of some file cannot be read."""

    def __init__(self, begin: int, end: int) -> None:
        self.bad = range(begin, end)

    def pread(self, fd: int, size: int, at: int) -> bytes:
        if at < self.bad.stop and at + size > self.bad.start:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().pread(fd, size, at)


async def test_unreadable_sectors_cost_the_records_in_them(tmp_path: Path) -> None:
    async with open_journal(FAST, tmp_path) as journal:
        await put_each(journal, entries(1000))
    async with open_journal(FAST, tmp_path, disk=BlindDisk(20_000, 20_100)) as journal:
        records, lost = await drain(journal, journal.reader("all"))
        assert len(records) + lost == 1000
        assert 0 < lost <= 2 * 4096 / 50
        assert records[-1].offset == 999


async def test_too_many_open_files_is_waited_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """EMFILE while a reader is behind is no reason to lose records."""
    disk = BadDisk()
    async with open_journal(TINY, tmp_path, disk=disk) as journal:
        await put_each(journal, entries(50))
        disk.broken = {"open": errno.EMFILE}
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            reading = group.create_task(journal.reader("all").read())
            await until(lambda: "cannot read: Too many open files" in caplog.text)
            disk.broken = {}
        assert reading.result().lost == 0
        assert reading.result().records[0] == expected(0, entries(1)[0])
