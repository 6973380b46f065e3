"""A server as a child process whose output can be waited for, and signalled with its children."""

import asyncio
import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import Final

STOP_S: Final = 10.0


def free_port() -> int:
    """Return a TCP port that was free on 127.0.0.1 a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def descendants(pid: int) -> list[int]:
    """Return the processes below ``pid``, parents before their children (from /proc)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # ended meanwhile
            _, _, after_name = (entry / "stat").read_text().rpartition(")")
            children.setdefault(int(after_name.split()[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


class Process:
    """A running child; its output is collected line by line.

    It is the leader of a session of its own: a Ctrl-C on the terminal is not sent to it. ``user``
    is whom it runs as (only root may say so), ``environment`` is added to ours.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        user: str | None = None,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._ended = False
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=folder,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            user=user,
            extra_groups=None if user is None else [],
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
        """Send ``number`` to it, not to its children."""
        self._child.send_signal(number)

    def freeze(self) -> None:
        """Stop it and its children in their tracks."""
        self._child.send_signal(SIGSTOP)  # first, so that no child is born meanwhile
        self._signal_below(SIGSTOP)

    def thaw(self) -> None:
        """Let it and its children go on."""
        self._signal_below(SIGCONT)
        self._child.send_signal(SIGCONT)

    def end(self, number: Signals = SIGTERM) -> None:
        """End it with ``number`` and wait until it and its children are gone.

        What handles the signal too slowly is killed.
        """
        if self._child.poll() is None:
            if number is SIGKILL:
                self._kill()
            else:
                self._child.send_signal(number)
                self.thaw()  # a stopped process handles no SIGTERM
                try:
                    self._child.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    self._kill()
        self._child.wait()
        self._reader.join()  # at the end of the output: no child holds it open any more

    def _kill(self) -> None:
        self.freeze()
        self._signal_below(SIGKILL)
        self._child.kill()

    def _signal_below(self, number: Signals) -> None:
        for pid in descendants(self._child.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

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
