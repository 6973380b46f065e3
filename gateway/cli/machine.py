"""The doctor on the disk, the clock, the time zone and the limits of this machine."""

import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.config.model import Config
from gateway.core.findings import Finding, Level
from gateway.core.units import size_bytes

_SYNCS: Final = 25
_SLOW_SYNC_MS: Final = 20.0  # SD cards take longer; every PUBACK waits for one
_STEP_MS: Final = 20.0
_BUILT: Final = 2026  # no clock that is right shows an earlier year
_FILES: Final = 16_384  # 10,000 devices, some thousand readers, and the files
_GIB: Final = 2**30


def data_directory(config: Config) -> Iterator[Finding]:
    """Whether the data directory can be used, how full its disk is and how fast it syncs."""
    folder = config.data.dir.absolute()
    place = next(p for p in (folder, *folder.parents) if p.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        advice = f"chown it to this user, or --set data.dir=DIR (now {folder})"
        yield Finding(Level.FAIL, "data directory", f"{place} cannot be written", advice)
        return
    note = "" if place == folder else " (made at the first start)"
    yield Finding(Level.OK, "data directory", f"{folder}{note}")
    yield _space(config, place)
    yield _sync(place)


def _space(config: Config, place: Path) -> Finding:
    free, wanted = shutil.disk_usage(place).free, size_bytes(config.journal.max_bytes)
    found = f"{free / _GIB:.1f} GiB free, journal.max_bytes is {config.journal.max_bytes}"
    used = sum(f.stat().st_size for f in place.glob("journal/*") if f.is_file())
    if free + used > wanted * 1.2:
        return Finding(Level.OK, "disk space", found)
    advice = "free some, or lower journal.max_bytes: a full disk stops acknowledgements"
    return Finding(Level.WARN if free > wanted / 10 else Level.FAIL, "disk space", found, advice)


def _sync(place: Path) -> Finding:
    try:
        times_ms = _sync_times_ms(place)
    except OSError as exc:
        return Finding(
            Level.FAIL, "disk sync", f"{exc.strerror}", "the journal cannot work on this disk"
        )
    middle, worst = statistics.median(times_ms), max(times_ms)
    found = f"fdatasync of 4 KiB: median {middle:.2f} ms, worst of {_SYNCS} {worst:.2f} ms"
    if middle <= _SLOW_SYNC_MS:
        return Finding(Level.OK, "disk sync", found)
    advice = "every PUBACK waits for one: use a faster disk, or raise journal.commit_ms"
    return Finding(Level.WARN, "disk sync", found, advice)


def _sync_times_ms(place: Path) -> list[float]:
    times_ms = []
    with tempfile.TemporaryFile(dir=place) as file:
        for _ in range(_SYNCS):
            file.write(os.urandom(4096))
            file.flush()
            start_s = time.perf_counter()
            os.fdatasync(file.fileno())
            times_ms.append((time.perf_counter() - start_s) * 1000)
    return times_ms


def clock(config: Config) -> Iterator[Finding]:
    """Whether the wall clock can be believed: readings without a time get its time."""
    now = datetime.now(UTC)
    if now.year < _BUILT:
        advice = "set the clock (timedatectl set-time), better: switch on NTP"
        yield Finding(Level.FAIL, "clock", f"{now:%Y-%m-%d %H:%M} UTC", advice)
        return
    wall_s, steady_s = time.time(), time.monotonic()
    time.sleep(0.1)
    step_ms = abs((time.time() - wall_s) - (time.monotonic() - steady_s)) * 1000
    if step_ms > _STEP_MS:
        advice = "something sets the clock by force: let one NTP client do it"
        yield Finding(Level.WARN, "clock", f"jumped {step_ms:.0f} ms in 100 ms", advice)
    else:
        yield Finding(Level.OK, "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")
    yield from _synchronised()


def _synchronised() -> Iterator[Finding]:
    program = shutil.which("timedatectl")
    if program is None:
        return
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed command
            [program, "show", "--property=NTPSynchronized", "--value"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.strip()
    except (subprocess.SubprocessError, OSError):  # no systemd runs here: nothing to tell
        return
    if answer == "yes":
        yield Finding(Level.OK, "time source", "synchronised")
    else:
        yield Finding(Level.WARN, "time source", "not synchronised", "timedatectl set-ntp true")


def time_zone(config: Config) -> Iterator[Finding]:
    """The site's zone, and what time it is there."""
    here = datetime.now(zoneinfo.ZoneInfo(config.site.timezone))
    found = f"{config.site.timezone}, there it is {here:%Y-%m-%d %H:%M %z}"
    yield Finding(Level.OK, "time zone", found)


def file_limit(config: Config) -> Iterator[Finding]:
    """How many sockets may be open; ``run`` raises the soft limit to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= _FILES:
        yield Finding(Level.OK, "open files", f"up to {hard}")
    else:
        advice = f"LimitNOFILE={_FILES} in the unit, or ulimit -Hn {_FILES}: each client needs one"
        yield Finding(Level.WARN, "open files", f"up to {hard}", advice)
