"""Cores, limits and the figures of a process, from the kernel. Linux only, as the gateway is."""

import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_CORES: Final = sorted(os.sched_getaffinity(0))

SERVER_CORE: Final = _CORES[0]
LOAD_CORE: Final = _CORES[-1]
SHARED: Final = SERVER_CORE == LOAD_CORE
"""One core only: server and load generator compete, every figure is too low."""

ROOT: Final = Path(__file__).parents[1]


def raise_file_limit() -> int:
    """Allow this process and its children as many open files as the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return user and system time of the processes with all their threads. proc(5), stat."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def resident_bytes(pid: int) -> int:
    """Return the resident memory of ``pid``. proc(5), statm."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE


def start(
    command: Sequence[str],
    *,
    core: int,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] | None = None,
) -> subprocess.Popen[str]:
    """Start ``command`` on one core, in the root of the repository."""

    def pin() -> None:  # between fork and exec: this process has no other threads
        os.sched_setaffinity(0, {core})

    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONASYNCIODEBUG": ""},
        preexec_fn=pin,  # noqa: PLW1509
    )


def end(process: subprocess.Popen[Any], timeout_s: float = 10.0) -> float:
    """Stop ``process`` with SIGTERM, after ``timeout_s`` with SIGKILL; return the seconds taken."""
    began = time.monotonic()
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    return time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Disk:
    """What one small durable append costs where the journal will be."""

    filesystem: str
    sync_ms: float


def probe_disk(folder: Path, *, appends: int = 100) -> Disk:
    """Append 4 KiB and fdatasync, ``appends`` times; return the median."""
    path = folder / "probe"
    took: list[float] = []
    with path.open("wb", buffering=0) as file:
        for _ in range(appends):
            file.write(b"\xa5" * 4096)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    path.unlink()
    return Disk(_filesystem(folder), statistics.median(took) * 1e3)


def _filesystem(folder: Path) -> str:
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, place, name, *_ = line.split()
        if folder.resolve().is_relative_to(place) and len(place) >= len(best):
            best, kind = place, name
    return kind


def describe() -> str:
    """Return the machine on one line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = (
        "ONE core only: server and load generator share it, so figures are too low"
        if SHARED
        else f"server on core {SERVER_CORE}, load generator on core {LOAD_CORE}"
    )
    return f"{model}, Linux {platform.release()}, Python {platform.python_version()}; {cores}"
