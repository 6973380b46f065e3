"""The gateway as its users run it: a process, killed and started again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

LISTENING = re.compile(
    r"^listening http=http://(?P<host>[\d.]+):(?P<http>\d+) https=\S+ mqtt=(?:\w+://[\d.]+:(?P<mqtt>\d+))?"
)


class GatewayProcess:
    """``edge-gateway run`` on free ports over a data directory that survives its deaths."""

    def __init__(self, directory: Path, *sets: str, wrapper: Sequence[str] = ()) -> None:
        self.directory = directory
        self._sets = [*sets]
        self._wrapper = wrapper
        self._process: subprocess.Popen[str] | None = None
        self.http = 0
        self.mqtt = 0
        self.started_s = 0.0
        self.log = directory / "gateway.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and wait for the line that says where it listens; the ports stay the same."""
        sets = [f"data.dir={self.directory / 'data'}", f"http.port={self.http}", *self._sets]
        if not any(item.startswith("bus.backend") for item in sets):
            sets.append(f"bus.port={self.mqtt}")
        command = [*self._wrapper, sys.executable, "-m", "gateway", "run"]
        began = time.monotonic()
        with self.log.open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                command + [part for item in sets for part in ("--set", item)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.directory,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.started_s = time.monotonic() - began
        match = LISTENING.match(line)
        if not match:
            self._process.kill()
            self._reap(timeout_s=10)
        assert match, f"no listening line but {line!r}; log: {self.log.read_text()[-2000:]}"
        self.http, self.mqtt = int(match["http"]), int(match["mqtt"] or 0)

    def kill(self) -> None:
        """kill -9, as a power cut of the process."""
        assert self._process is not None
        self._process.kill()
        self._reap(timeout_s=10)

    def stop(self, timeout_s: float = 10) -> float:
        """SIGTERM; return the seconds it took."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self._reap(timeout_s)
        assert code == 0, f"exit code {code}; log: {self.log.read_text()[-2000:]}"
        return time.monotonic() - began

    def _reap(self, timeout_s: float) -> int:
        assert self._process is not None
        code = self._process.wait(timeout=timeout_s)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def get(self, path: str) -> Any:
        """GET JSON; a problem answer is returned as well."""
        return self.send("GET", path)

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """Send JSON and return the JSON that comes back."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as exc:
            with exc:
                return json.loads(exc.read())

    def until(self, what: str, path: str, check: Any, timeout_s: float = 30) -> Any:
        """Poll ``path`` until ``check(answer)`` holds."""
        deadline = time.monotonic() + timeout_s
        answer = None
        while time.monotonic() < deadline:
            answer = self.get(path)
            if check(answer):
                return answer
            time.sleep(0.05)
        raise AssertionError(f"{what} did not happen in {timeout_s} s; last answer: {answer}")

    def settled(self, timeout_s: float = 30) -> Any:
        """Wait until no hop has anything pending, and return the ledger."""

        def nothing_pending(ledger: Any) -> bool:
            return all(line["pending"] == 0 for line in ledger["hops"])

        return self.until("a settled ledger", "/api/admin/ledger", nothing_pending, timeout_s)

    def history(self, robot: str) -> list[dict[str, Any]]:
        """Return every raw reading of ``robot``."""
        rows: list[dict[str, Any]] = []
        cursor = ""
        while True:
            path = f"/api/sensor-data/{robot}?bucket=raw&from=0&to=4102444800000&limit=5000"
            page = self.get(path + (f"&cursor={cursor}" if cursor else ""))
            rows += page["rows"]
            cursor = page["cursor"]
            if not cursor:
                return rows
