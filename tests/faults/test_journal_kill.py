"""kill -9 of a writing process: what it was told is durable is there, unchanged and in order."""

import asyncio
import os
import random
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.journal.examine import Examination
from gateway.journal.open import open_journal
from tests.faults.journal_child import CONFIG, RTS, entry
from tests.journal.filling import drain, put
from tests.services import unavailable

ROOT = Path(__file__).parents[2]
ACK = re.compile(rb"^ack ([0-9]+)$", re.MULTILINE)
START = re.compile(rb"^start ([0-9]+)$", re.MULTILINE)


class Child:
    """The writing process and what it said."""

    def __init__(self, directory: Path, seed: int) -> None:
        command = [sys.executable, "-m", "tests.faults.journal_child", str(directory), str(seed)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        self.said = b""

    def until(self, check: Callable[[bytes], object]) -> None:
        """Read until what was said so far passes ``check``."""
        deadline = time.monotonic() + 30
        while not check(self.said):
            left = deadline - time.monotonic()
            assert left > 0, f"the child only said {self.said[-200:]!r}"
            self._read(left)

    def for_s(self, seconds: float) -> None:
        """Read for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._read(left)

    def _read(self, timeout_s: float) -> None:
        assert self._process.stdout is not None
        if select.select([self._process.stdout], [], [], timeout_s)[0]:
            data = os.read(self._process.stdout.fileno(), 65_536)
            assert data, f"the child ended by itself: {self.said[-200:]!r}"
            self.said += data

    def kill(self) -> None:
        """kill -9, then take in what it had said before."""
        self._process.kill()
        out, _ = self._process.communicate(timeout=10)
        self.said += out

    @property
    def acknowledged(self) -> int:
        return max((int(number) for number in ACK.findall(self.said)), default=0)

    @property
    def started_at(self) -> int:
        return int(START.findall(self.said)[0])


def check_files(directory: Path, acknowledged: int) -> int:
    """Look at the files as they lie there; return the offset after the last record."""
    examination = Examination(directory / "journal")
    assert [verdict.problem for verdict in examination.verify() if verdict.problem] == []
    expect = 0
    for offset, kind, robot, ts, rts, payload in examination.after(0):
        assert offset == expect
        assert (kind, robot, ts, payload) == entry(offset)
        assert rts == RTS
        expect += 1
    assert expect >= acknowledged
    return expect


def test_killed_again_and_again(tmp_path: Path) -> None:
    rng = random.Random(20)
    acknowledged = 0
    for round_ in range(20):
        child = Child(tmp_path, round_)
        child.until(START.search)
        child.for_s(rng.uniform(0.02, 0.25))
        child.kill()
        assert child.started_at >= acknowledged, "offsets of acknowledged records were given again"
        acknowledged = max(acknowledged, child.acknowledged)
        check_files(tmp_path, acknowledged)
    assert acknowledged > 5000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        unavailable("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_full_disk_heals(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1024 * 1024))
    child = Child(small_disk, 1)
    try:
        child.until(re.compile(rb"^failing No space left on device$", re.MULTILINE).search)
        child.for_s(0.2)
        stuck = child.acknowledged
        child.for_s(0.3)
        assert child.acknowledged == stuck > 0, "acknowledged on a full disk"
        filler.unlink()
        child.until(lambda said: b"healed" in said and child.acknowledged > stuck)
    finally:
        child.kill()
    check_files(small_disk, child.acknowledged)


def test_killed_while_the_disk_is_full(small_disk: Path) -> None:
    """And started while it is still full; then there is room."""
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1024 * 1024))
    acknowledged = 0
    for seed in range(5):
        child = Child(small_disk, seed)
        try:
            child.until(re.compile(rb"^failing ", re.MULTILINE).search)
            child.for_s(0.05 * seed)
        finally:
            child.kill()
        assert child.started_at >= acknowledged
        acknowledged = max(acknowledged, child.acknowledged)
        check_files(small_disk, acknowledged)
    filler.unlink()
    check_files(small_disk, asyncio.run(append_and_read(small_disk, acknowledged)))


async def append_and_read(directory: Path, acknowledged: int) -> int:
    """Go on where the killed process was; return the offset after the last record."""
    async with open_journal(CONFIG, directory) as journal:
        first = journal.stats().next_offset
        assert first >= acknowledged > 0
        assert await put(journal, [entry(first)]) == first
        records, lost = await drain(journal, journal.reader("all"))
    assert (len(records), lost) == (first + 1, 0)
    return first + 1
