"""Cursor files: written when they moved, and only then."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.journal.cursor import Cursors, decode_cursor, encode_cursor, load_cursors
from gateway.journal.disk import Disk

EPOCH = 0x0123456789ABCDEF


class CountingDisk(Disk):
    """Counts the files it stored, and can be full."""

    def __init__(self) -> None:
        self.stored = 0
        self.full = False

    def store(self, path: Path, data: bytes) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().store(path, data)
        self.stored += 1


def test_text_of_a_cursor() -> None:
    data = encode_cursor(EPOCH, 2**63)
    assert data.startswith(b"edge-cursor 1 0123456789abcdef 9223372036854775808 ")
    assert decode_cursor(data) == (EPOCH, 2**63)
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1
        assert decode_cursor(bytes(flipped)) is None


async def test_written_when_moved_and_only_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk, folder = CountingDisk(), tmp_path / "cursors"
    with ThreadPoolExecutor(1) as executor:
        cursors = Cursors(folder, disk, EPOCH, {"old": 5}, executor)
        old, new = cursors.get("old", 3), cursors.get("new", 3)
        assert (old.committed, new.committed) == (5, 3)
        await cursors.close()
        assert await asyncio.to_thread(load_cursors, folder, EPOCH) == {"new": 3}
        old.committed = 9
        disk.full = True
        await cursors.close()
        assert cursors.failing
        assert "cursors cannot be written" in caplog.text
        disk.full = False
        await cursors.close()
        assert not cursors.failing
        assert await asyncio.to_thread(load_cursors, folder, EPOCH) == {"new": 3, "old": 9}
        stored = disk.stored
        await cursors.close()
        assert disk.stored == stored == 2
