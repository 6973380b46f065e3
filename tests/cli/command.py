"""Runs ``edge-gateway`` as its users do."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "gateway")


def environment(**extra: str) -> dict[str, str]:
    """Return the environment without what steers a gateway, plus ``extra``."""
    mine = ("EDGE__", "NOTIFY_SOCKET", "WATCHDOG_", "JOURNAL_STREAM")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    return kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "PYTHONUNBUFFERED": "1"} | extra


def run(
    *words: str | Path, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        cwd=cwd,
        env=environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Running:
    """A command that goes on, and the lines that it writes."""

    def __init__(self, *words: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self.errors = cwd / "stderr.txt"
        with self.errors.open("w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                [*COMMAND, *map(str, words)],
                cwd=cwd,
                env=environment(**(env or {})),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=10)
        self._reader.join(timeout=10)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def line(self, wanted: Callable[[str], bool] = bool, timeout_s: float = 20.0) -> str:
        """Return the next line of stdout for which ``wanted`` holds."""
        end_s = time.monotonic() + timeout_s
        seen: list[str] = []
        while (left_s := end_s - time.monotonic()) > 0:
            try:
                seen.append(self._lines.get(timeout=left_s))
            except queue.Empty:
                break
            if wanted(seen[-1]):
                return seen[-1]
        raise AssertionError(f"no such line in {seen}; stderr: {self.errors.read_text()}")

    def rest(self) -> list[str]:
        """Return what is left on stdout of a process that has ended."""
        self._reader.join(timeout=10)
        return [self._lines.get_nowait() for _ in range(self._lines.qsize())]

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 10.0) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=timeout_s)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))


@contextmanager
def gateway(
    folder: Path, *sets: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[Running, str, int]]:
    """Yield a gateway on free ports: the process, its URL, and its MQTT port."""
    words = [part for item in ("http.port=0", "bus.port=0", *sets) for part in ("--set", item)]
    with Running("run", *words, cwd=folder, env=env) as running:
        said = dict(item.split("=", 1) for item in running.line().split()[1:])
        yield running, said["http"], int(said["mqtt"].rpartition(":")[2])
