"""Where each named reader is: small files that survive a restart."""

import asyncio
import logging
import re
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import google_crc32c

from gateway.journal.disk import Disk

log = logging.getLogger(__name__)

FOLDER: Final = "cursors"
SAVE_S: Final = 0.5  # wear of the disk against how much is read again after a crash
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_TEXT: Final = re.compile(rb"(edge-cursor 1 ([0-9a-f]{16}) ([0-9]{1,20})) ([0-9a-f]{8})\n")


@dataclass(slots=True)
class Cursor:
    """A reader's last commit; ``saved`` is what the file says."""

    name: str
    committed: int
    saved: int


def encode_cursor(epoch: int, next_offset: int) -> bytes:
    """Return the content of a cursor file."""
    text = f"edge-cursor 1 {epoch:016x} {next_offset}".encode()
    return text + b" %08x\n" % google_crc32c.value(text)


def decode_cursor(data: bytes) -> tuple[int, int] | None:
    """Return (epoch, next offset), or None if the file is damaged."""
    match = _TEXT.fullmatch(data)
    if match is None or int(match[4], 16) != google_crc32c.value(match[1]):
        return None
    return int(match[2], 16), int(match[3])


def load_cursors(folder: Path, epoch: int) -> dict[str, int]:
    """Return next offset by name; cursors that are damaged or of another journal are left out."""
    found: dict[str, int] = {}
    if not folder.is_dir():
        return found
    for path in sorted(folder.iterdir()):
        if not _NAME.fullmatch(path.name) or path.name.endswith(".part"):
            continue
        cursor = decode_cursor(path.read_bytes())
        if cursor is None or cursor[0] != epoch:
            why = "damaged" if cursor is None else "of another journal"
            log.warning("cursor %s is %s: its reader starts at the oldest record", path.name, why)
        else:
            found[path.name] = cursor[1]
    return found


class Cursors:
    """Reads and commits on the loop; the files are written on a thread, at most every SAVE_S."""

    def __init__(
        self, folder: Path, disk: Disk, epoch: int, offsets: dict[str, int], executor: Executor
    ) -> None:
        self._folder = folder
        self._disk = disk
        self._epoch = epoch
        self._executor = executor
        self._cursors = {name: Cursor(name, at, at) for name, at in offsets.items()}
        self._timer: asyncio.TimerHandle | None = None
        self._saving: asyncio.Future[None] | None = None
        self.failing = ""

    def get(self, name: str, oldest: int) -> Cursor:
        """Return the cursor ``name``; a new one is at ``oldest``. Raises ValueError for a name."""
        if not _NAME.fullmatch(name) or name.endswith(".part"):
            raise ValueError(f"not a name for a reader: {name!r}")
        return self._cursors.setdefault(name, Cursor(name, oldest, -1))

    def moved(self) -> None:
        """Write the files soon."""
        if self._timer is None and self._saving is None:
            self._timer = asyncio.get_running_loop().call_later(SAVE_S, self._begin)

    async def close(self) -> None:
        """Write what is not written yet."""
        if self._timer is not None:
            self._timer.cancel()
        if self._saving is not None:
            await asyncio.wait([self._saving])
        self._begin()
        if self._saving is not None:
            await asyncio.wait([self._saving])
        if self._timer is not None:  # the attempt failed
            self._timer.cancel()

    def _begin(self) -> None:
        self._timer = None
        offsets = {c.name: c.committed for c in self._cursors.values() if c.committed != c.saved}
        if offsets:
            self._saving = asyncio.get_running_loop().run_in_executor(
                self._executor, self._save, offsets
            )
            self._saving.add_done_callback(lambda done: self._end(done, offsets))

    def _save(self, offsets: dict[str, int]) -> None:
        if not self._folder.is_dir():
            self._folder.mkdir(parents=True)
            self._disk.sync_folder(self._folder.parent)
        for name, next_offset in offsets.items():
            self._disk.store(self._folder / name, encode_cursor(self._epoch, next_offset))

    def _end(self, done: asyncio.Future[None], offsets: dict[str, int]) -> None:
        self._saving = None
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            for name, next_offset in offsets.items():
                self._cursors[name].saved = next_offset
            if self.failing:
                log.warning("cursors are written again")
            self.failing = ""
        else:  # a stale cursor only makes its reader read again what it has
            if not self.failing:
                log.error("cursors cannot be written: %s", error)
            self.failing = str(error)
        if any(cursor.committed != cursor.saved for cursor in self._cursors.values()):
            self.moved()
