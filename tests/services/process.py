"""A server as a child process whose output can be waited for."""

import asyncio
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from signal import SIGCONT, SIGKILL, SIGTERM, Signals
from typing import Final

STOP_S: Final = 10.0


def free_port() -> int:
    """Return a TCP port that was free on 127.0.0.1 a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """A running child; its output is collected line by line."""

    def __init__(self, command: Sequence[str]) -> None:
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._ended = False
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def output(self) -> list[str]:
        """What it wrote so far."""
        with self._changed:
            return list(self._lines)

    def wait_for(self, said: Callable[[str], bool], *, after: int = 0, timeout_s: float) -> bool:
        """Wait for a line (from number ``after`` on) that fits; False: it ended without."""

        def done() -> bool:
            return self._ended or any(said(line) for line in self._lines[after:])

        with self._changed:
            if not self._changed.wait_for(done, timeout_s):
                raise TimeoutError("\n".join(["not said in time:", *self._lines[-30:]]))
            return any(said(line) for line in self._lines[after:])

    async def said(self, text: str, *, after: int = 0, timeout_s: float = 10.0) -> None:
        """Return once a line (from number ``after`` on) contains ``text``; without blocking."""
        heard = await asyncio.to_thread(
            self.wait_for, lambda line: text in line, after=after, timeout_s=timeout_s
        )
        assert heard, "\n".join([f"ended without saying {text!r}:", *self.output[-30:]])

    def signal(self, number: Signals) -> None:
        """Send ``number`` to it."""
        self._child.send_signal(number)

    def end(self, number: Signals = SIGTERM) -> None:
        """End it with ``number`` and wait until it is gone (killed after a while)."""
        if self._child.poll() is None:
            self._child.send_signal(number)
            if number is not SIGKILL:
                self._child.send_signal(SIGCONT)  # a stopped process handles no SIGTERM
            try:
                self._child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
        self._child.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._child.stdout is not None
        with self._child.stdout as stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
