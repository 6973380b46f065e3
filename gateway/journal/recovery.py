"""What a start finds in the folder: cut the torn tail, set damage aside, go on after the rest."""

import errno
import fcntl
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.core.record import FIXED_BYTES, HEADER_BYTES, Header, decode_header
from gateway.journal.catalog import IDENTITY, NO_SPACE, Catalog, Clock, Limits
from gateway.journal.cursor import FOLDER, load_cursors
from gateway.journal.disk import Disk
from gateway.journal.segment import (
    CHUNK,
    Segment,
    base_of,
    quarantined_base,
    read_header,
    survey,
)

log = logging.getLogger(__name__)

_SANE_MS: Final = 1_577_836_800_000  # 2020-01-01: a clock that says less was not set yet


@dataclass(slots=True)
class Recovered:
    """What there is to go on with. ``resume``: the segment to append to."""

    catalog: Catalog
    next_offset: int
    cursors: dict[str, int]
    resume: Segment | None
    lock_fd: int


@dataclass(slots=True)
class _Found:
    base: int
    path: Path
    header: Header | None
    size: int
    modified_ms: int


def recover(folder: Path, disk: Disk, clock: Clock, limits: Limits) -> Recovered:
    """Open the journal in ``folder``, made if need be. Blocks.

    One segment is read in full, of the others the header; more only if there is damage.

    Raises:
        OSError: the folder cannot be used, or another process has the journal open.
    """
    lock_fd = -1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock_fd = _lock(folder)
    except OSError as exc:
        if exc.errno not in NO_SPACE:
            raise
        log.warning("no room for %s: starting without", folder.name)
    try:
        return _recover(folder, disk, clock, limits, lock_fd)
    except BaseException:
        if lock_fd >= 0:
            os.close(lock_fd)
        raise


def _lock(folder: Path) -> int:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(fd)
        if exc.errno in (errno.EAGAIN, errno.EACCES):
            raise OSError(
                errno.EBUSY, "the journal is open in another process", str(folder)
            ) from exc
        raise
    return fd


def _recover(folder: Path, disk: Disk, clock: Clock, limits: Limits, lock_fd: int) -> Recovered:
    found, aside = _list(folder, disk)
    identity = _identity(folder, disk, found)
    catalog = Catalog(folder, disk, clock, limits, identity)
    for path in aside:
        catalog.hold(path)
    next_offset = max((quarantined_base(path.name) or 0 for path in aside), default=0)
    try:
        if folder.is_dir():
            catalog.save_identity()
    except OSError as exc:  # the writer tries again before its first segment
        log.warning("cannot write %s: %s", IDENTITY, exc.strerror)
    for number, entry in enumerate(found):
        following = found[number + 1] if number + 1 < len(found) else None
        try:
            next_offset = max(next_offset, _take(catalog, entry, following))
        except OSError as exc:
            log.error("%s is left out: %s", entry.path.name, exc.strerror)  # noqa: TRY400
            next_offset = max(next_offset, entry.base + entry.size // FIXED_BYTES)
    cursors = load_cursors(folder / FOLDER, identity.epoch)
    for name in [name for name, offset in cursors.items() if offset > next_offset]:
        log.warning(
            "cursor %s is at %d, behind the end of the journal: its reader starts at the oldest",
            name,
            cursors[name],
        )
    # Offsets that somebody has seen stay taken, even if their records are gone.
    end, next_offset = next_offset, max(next_offset, *cursors.values(), 0)
    cursors = {name: offset for name, offset in cursors.items() if offset <= end}
    resume = _last_good(catalog, found)
    catalog.enforce()
    return Recovered(
        catalog, next_offset, cursors, resume if resume and not resume.gone else None, lock_fd
    )


def _last_good(catalog: Catalog, found: list[_Found]) -> Segment | None:
    """Return the segment that was read in full, if new records may follow in it."""
    last = catalog.segments[-1] if catalog.segments else None
    if last is None or last.damaged or last.base != found[-1].base:
        return None
    return last


def _list(folder: Path, disk: Disk) -> tuple[list[_Found], list[Path]]:
    """Return segment files by base, and quarantined files; remove what a crash left half-made."""
    found: list[_Found] = []
    aside: list[Path] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        base = base_of(path.name)
        if base is not None:
            header, size = read_header(disk, path)
            found.append(_Found(base, path, header, size, int(path.stat().st_mtime * 1000)))
        elif quarantined_base(path.name) is not None:
            aside.append(path)
        elif path.name.endswith(".part"):
            disk.unlink(path)
    return found, aside


def _identity(folder: Path, disk: Disk, found: list[_Found]) -> Header:
    """Return epoch and salt: from their file, else from the newest segment, else new ones."""
    path = folder / IDENTITY
    stored = decode_header(path.read_bytes()) if path.is_file() else None
    if stored is not None:
        return stored
    for entry in reversed(found):
        if entry.header is not None:
            if path.exists():
                disk.unlink(path)  # damaged: it is written again
            return entry.header
    if path.exists():
        disk.unlink(path)
    return Header(0, secrets.randbits(64), secrets.token_bytes(8), 0)


def _take(catalog: Catalog, entry: _Found, following: _Found | None) -> int:
    """Put one file into the catalog; return the offset that new records may have at least."""
    now_ms, now_s = catalog.clock.unix_ms(), catalog.clock.steady_s()
    written_ms = following.header.created_ms if following and following.header else 0
    written_ms = written_ms or entry.modified_ms
    created_ms = entry.header.created_ms if entry.header else entry.modified_ms
    if entry.size <= HEADER_BYTES:  # a crash right after its creation, or nothing since
        catalog.disk.unlink(entry.path)
        return entry.base
    if entry.header is not None and entry.header.epoch != catalog.epoch:
        catalog.set_aside(entry.path)
        return entry.base
    segment = Segment(
        entry.base,
        entry.path,
        entry.size,
        following.base if following else entry.base,
        now_s - _age_s(written_ms, now_ms),
        now_s - _age_s(created_ms, now_ms),
    )
    if following is None:
        return _take_last(catalog, segment, intact=entry.header is not None)
    catalog.add(segment)
    if entry.header is None:
        catalog.mend(segment)
    return segment.end


def _take_last(catalog: Catalog, segment: Segment, *, intact: bool) -> int:
    """Read the last segment in full, cut its torn end, and mend it if there is other damage."""
    found = survey(catalog.disk, segment.path, segment.base, catalog.seed)
    if not found.records:
        if intact and found.torn <= CHUNK:
            log.warning("%s holds only a torn record", segment.path.name)
            catalog.count("torn", 1)
            catalog.disk.unlink(segment.path)
            return segment.base
        catalog.set_aside(segment.path)
        catalog.count("corrupt", 1)  # at least
        return segment.base + segment.size // FIXED_BYTES
    segment.end, segment.size = found.end, found.size
    for offset, position in found.index:
        segment.note(offset, position)
    if found.torn:
        log.warning("torn tail cut: %s bytes=%d", segment.path.name, found.torn)
        catalog.count("torn", 1)
        try:
            fd = catalog.disk.open_at(segment.path, found.size)
            try:
                catalog.disk.sync(fd)
            finally:
                catalog.disk.close(fd)
        except OSError as exc:
            log.warning("cannot cut %s: %s", segment.path.name, exc.strerror)
            segment.damaged = True  # nothing is appended to it
    catalog.add(segment)
    if found.damage or not intact:
        catalog.mend(segment)
    elif found.missing:
        segment.missing = found.missing  # counted when it was mended, in an earlier run
    return found.end


def _age_s(stamp_ms: int, now_ms: int) -> float:
    """Return how old something is; 0 if either time was taken by a clock that was not set.

    A clock that jumps from 1970 to today must not make the journal look 50 years old.
    """
    return max(0.0, (now_ms - stamp_ms) / 1000) if stamp_ms >= _SANE_MS else 0.0
