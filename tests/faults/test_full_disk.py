"""A full disk, and kill -9 on top of it: what was acknowledged is there when there is room."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.process import GatewayProcess
from tests.e2e.publisher import Publisher
from tests.services import unavailable

SIZE = 8 * 2**20
ROOM = 400 * 2**10  # what the filler leaves: a few seconds of readings


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 8 MiB of its own, outside of pytest's folders, which other runs clean up."""
    disk = Path(tempfile.mkdtemp(prefix="edge-small-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)]
    try:
        if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
            unavailable("mounting a small tmpfs needs root")
        try:
            yield disk
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)
    finally:
        disk.rmdir()


def fill(disk: Path) -> Path:
    """Leave ROOM bytes."""
    filler = disk / "filler"
    free = os.statvfs(disk)
    with filler.open("wb") as file:
        file.write(b"\0" * max(0, free.f_bavail * free.f_bsize - ROOM))
    return filler


@pytest.mark.parametrize("kill", [False, True], ids=["heals", "killed"])
def test_full_disk(small_disk: Path, kill: bool) -> None:
    with GatewayProcess(small_disk) as gateway:
        publisher = Publisher(gateway.mqtt, robot="r1", rate_hz=1_000)
        with publisher:
            time.sleep(0.3)
            filler = fill(small_disk)

            def journal_fails(answer: dict[str, list[dict[str, object]]]) -> bool:
                journal = next(part for part in answer["parts"] if part["name"] == "journal")
                return not journal["ok"] and "No space left" in str(journal["detail"])

            gateway.until("a full disk", "/readyz", journal_fails)
            time.sleep(0.5)  # what is acknowledged from here on would be a lie: nothing may be
            before = len(publisher.acknowledged)
            time.sleep(0.5)
            assert len(publisher.acknowledged) == before
            if kill:
                gateway.kill()
            filler.unlink()
            if kill:
                gateway.start()
            publisher.pause()
            publisher.drained(timeout_s=60)
        assert gateway.settled()["unaccounted"] == 0
        stored = [row["seq"] for row in gateway.history("r1")]
        assert len(stored) == len(set(stored))
        assert publisher.acknowledged == set(stored)
        assert len(stored) > before
        assert gateway.get("/readyz")["ready"]
