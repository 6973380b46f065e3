"""The system calls of the journal in one class, so that a test can make one of them fail."""

import errno
import os
from pathlib import Path
from typing import Final

BLOCK: Final = 4096  # what is given up around a place that the device cannot read


class Disk:
    """The real thing. Every method blocks and raises OSError; none is called on the event loop."""

    def open(self, path: Path) -> int:
        """Open ``path`` for reading; return the descriptor."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def pread(self, fd: int, size: int, at: int) -> bytes:
        """Return up to ``size`` bytes from position ``at``."""
        return os.pread(fd, size, at)

    def create(self, path: Path) -> int:
        """Open ``path`` for writing, empty; return the descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        return os.open(path, flags, 0o640)

    def open_at(self, path: Path, size: int) -> int:
        """Open ``path`` to append after its first ``size`` bytes; the rest is cut off."""
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size != size:
                self.truncate(fd, size)
            os.lseek(fd, size, os.SEEK_SET)
        except OSError:
            os.close(fd)
            raise
        return fd

    def write(self, fd: int, data: bytes) -> int:
        """Write some of ``data`` at the position; return how much."""
        return os.write(fd, data)

    def sync(self, fd: int) -> None:
        """Return when what was written, and the file's size, would survive a power cut."""
        os.fdatasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file and move the position to its end."""
        os.ftruncate(fd, size)
        os.lseek(fd, size, os.SEEK_SET)

    def close(self, fd: int) -> None:
        os.close(fd)

    def sync_folder(self, folder: Path) -> None:
        """Make new names and renames in ``folder`` survive a power cut."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def replace(self, path: Path, target: Path) -> None:
        path.replace(target)

    def link(self, path: Path, target: Path) -> None:
        """Give the file a second name. File systems without links raise OSError."""
        os.link(path, target)

    def store(self, path: Path, data: bytes) -> None:
        """Replace the file ``path`` by ``data``: after a crash it holds the old or the new."""
        part = path.with_name(f"{path.name}.part")
        fd = self.create(part)
        try:
            self.write_all(fd, data)
            self.sync(fd)
        finally:
            self.close(fd)
        self.replace(part, path)
        self.sync_folder(path.parent)

    def write_all(self, fd: int, data: bytes) -> None:
        """Write all of ``data``, however many calls that takes."""
        view = memoryview(data)
        while view:
            view = view[self.write(fd, bytes(view) if len(view) < len(data) else data) :]

    def read(self, fd: int, size: int, at: int) -> bytes:
        """Return up to ``size`` bytes from position ``at``; fewer only at the end of the file.

        Blocks that the device cannot read come back as zeros: to the reader they are damage, and
        what stands behind them is still found.
        """
        parts: list[bytes] = []
        end = at + size
        while at < end:
            try:
                data = self.pread(fd, end - at, at)
            except OSError as exc:
                if exc.errno != errno.EIO:
                    raise
                data = self._block(fd, min(BLOCK - at % BLOCK, end - at), at)
            if not data:
                break
            parts.append(data)
            at += len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _block(self, fd: int, size: int, at: int) -> bytes:
        try:
            return self.pread(fd, size, at)
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            return bytes(size)
