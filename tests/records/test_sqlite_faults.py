"""What SQLite history does when the machine, the disk or the file fails."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from gateway.config.model import ConfigError, SqliteRecords
from gateway.core.errors import Unavailable
from gateway.records.open import open_records
from gateway.records.port import ReadingRow, RecordStore, Writes
from gateway.records.rows import Bounds
from gateway.records.sqlite.database import migrations
from gateway.records.sqlite.store import open_store

CONFIG = SqliteRecords()
FILE = "records.db"


def rows(count: int, first: int = 0) -> Writes:
    return Writes(
        readings=[
            ReadingRow(robot="r1", ts=n, rts=n, seq=n, pm25=n / 7, room="x" * 40)
            for n in range(first, first + count)
        ]
    )


async def times(store: RecordStore, robot: str = "r1") -> list[int]:
    page = await store.readings(robot, 0, 2**62, limit=1_000_000, cursor=None)
    return [row.ts for row in page.rows]


@pytest.mark.may_block(reason="reads the pipe of a process")
async def test_kill_9_keeps_every_write_that_returned(tmp_path: Path) -> None:
    said, rng = 0, Random(7)
    for _ in range(10):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.records.killed_writer", str(tmp_path), str(said)],
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout is not None
            for _ in range(rng.randint(1, 40)):  # the kill falls somewhere in a later write
                said = int(writer.stdout.readline())
            writer.kill()
            said = max([said, *map(int, writer.stdout.read().split())])
        async with open_records(CONFIG, tmp_path) as store:
            kept = sorted([*await times(store, "r0"), *await times(store, "r1")])
            assert kept[:said] == list(range(said))
            assert len(kept) % 3 == 0  # whole transactions only
            totals = await store.totals()
            assert sum(each.readings for each in totals) == len(kept)
        said = len(kept)


async def test_the_settings_that_make_a_commit_durable(tmp_path: Path) -> None:
    async with open_records(CONFIG, tmp_path) as store:
        await store.write(rows(1))
        asked = "PRAGMA journal_mode", "PRAGMA synchronous"
        found = [
            await store._writer.call(  # type: ignore[attr-defined]
                lambda session, sql=sql: session.run(lambda c: c.execute(sql).fetchone()[0])
            )
            for sql in asked
        ]
    assert found == ["wal", 2]  # 2: FULL


async def test_readers_cannot_write(tmp_path: Path) -> None:
    async with open_records(CONFIG, tmp_path) as store:
        await store.write(rows(1))
        with pytest.raises(Unavailable):
            await store._ask(lambda c: c.execute("DELETE FROM readings"))  # type: ignore[attr-defined]
        assert await times(store) == [0]


def ruin(path: Path, how: str) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        match how:
            case "no database":
                file.write(b"x" * size)
            case "header":
                file.seek(16)
                file.write(b"\xff" * 84)
            case "pages":
                file.seek(4096)
                file.write(b"\xa5" * (size - 4096))
            case _:  # cut
                file.truncate(size // 2 // 4096 * 4096)


@pytest.mark.may_block(reason="the test spoils the file itself")
@pytest.mark.parametrize("how", ["no database", "header", "pages", "cut"])
async def test_a_corrupt_file_is_moved_aside_and_history_begins_again(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_records(CONFIG, tmp_path) as store:
        await store.write(rows(2_000))
        before = await store.identity()
    ruin(tmp_path / FILE, how)
    async with open_records(CONFIG, tmp_path) as store:
        assert await store.identity() != before
        await store.write(rows(3))
        assert await times(store) == [0, 1, 2]
    assert len(list(tmp_path.glob(f"{FILE}.corrupt-*Z"))) == 1
    assert "moved the corrupt history" in caplog.text


@pytest.mark.may_block(reason="the test spoils the file itself")
async def test_corruption_met_while_running_heals(tmp_path: Path) -> None:
    async with open_records(CONFIG, tmp_path) as store:
        await store.write(rows(20_000))
        with sqlite3.connect(tmp_path / FILE) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        other.close()
        ruin(tmp_path / FILE, "pages")
        # Pages that are still in a cache may answer; a question for all of them meets the damage.
        with pytest.raises(Unavailable):
            await times(store)
        async with asyncio.timeout(10):
            while True:
                try:
                    await store.write(rows(3))
                except Unavailable:
                    continue
                break
        assert await times(store) == [0, 1, 2]
    assert list(tmp_path.glob(f"{FILE}.corrupt-*"))


@pytest.mark.may_block(reason="the test makes the file itself")
async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    async with open_records(CONFIG, tmp_path) as store:
        await store.write(rows(1))
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("PRAGMA user_version=99")
    other.close()
    with pytest.raises(ConfigError, match="schema 99"):
        async with open_records(CONFIG, tmp_path):
            pytest.fail("opened a file that it does not understand")
    assert not list(tmp_path.glob("*.corrupt-*"))


@pytest.mark.may_block(reason="the test holds the lock itself")
async def test_a_lock_of_another_process_is_unavailable_and_passes(tmp_path: Path) -> None:
    async with open_records(CONFIG, tmp_path) as store:
        await store.write(rows(1))
        other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked") as caught:
            await store.write(rows(2))
        assert caught.value.dependency == "records"
        assert await times(store) == [0]  # reading goes on
        other.execute("ROLLBACK")
        other.close()
        await store.write(rows(2))
        assert await times(store) == [0, 1]


async def test_a_question_that_takes_too_long_ends(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    async with open_store(tmp_path / FILE, Bounds(1, 1), read_s=0.1) as store:
        with pytest.raises(Unavailable):
            await store._ask(lambda c: c.execute(endless).fetchone())
        assert await times(store) == []  # the thread is free again


@pytest.mark.may_block(reason="the test looks at the folder itself")
async def test_a_folder_that_cannot_be_written_does_not_stop_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    async with open_records(CONFIG, folder) as store:
        with pytest.raises(Unavailable):
            await store.ping()
        folder.mkdir()
        await store.ping()
        await store.write(rows(1))
        assert await times(store) == [0]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or os.geteuid() != 0:
        pytest.skip("a small disk needs root")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"no tmpfs here: {made.stderr.decode()}")
    yield tmp_path
    # Lazily: a failed test may still hold a file there, and must not leave the mount behind.
    subprocess.run([umount, "--lazy", str(tmp_path)], check=True)


@pytest.mark.may_block(reason="the test fills the disk itself")
async def test_a_full_disk_loses_nothing_that_returned_and_heals(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 2**20)
    done = 0
    async with open_records(CONFIG, small_disk) as store:
        with pytest.raises(Unavailable, match="no space"):
            while True:
                await store.write(rows(200, done))
                done += 200
        assert done > 0
        assert await times(store) == list(range(done))
        ballast.unlink()
        await store.write(rows(200, done))
        assert await times(store) == list(range(done + 200))


@pytest.mark.may_block(reason="the test fills the disk itself")
async def test_a_start_on_a_full_disk_heals(small_disk: Path) -> None:
    async with open_records(CONFIG, small_disk) as store:
        await store.write(rows(100))
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    async with open_records(CONFIG, small_disk) as store:
        with pytest.raises(Unavailable):
            await store.write(rows(200, 100))
        ballast.unlink()
        await store.write(rows(200, 100))
        assert await times(store) == list(range(300))


def test_migrations_have_no_gap_and_are_in_the_package() -> None:
    assert [sql for sql in migrations() if "CREATE TABLE readings" in sql] == migrations()[:1]
