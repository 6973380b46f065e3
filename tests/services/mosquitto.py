"""A real Mosquitto for one test, which can be killed, stopped in its tracks and brought back."""

import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.services.process import Process, free_port
from tests.services.programs import need

START_S: Final = 10.0
_TRIES: Final = 5  # another process may take the free port first


class Mosquitto:
    """A broker on 127.0.0.1 with a persistent store in ``folder``.

    ``options`` are lines of mosquitto.conf after the listener's (``allow_anonymous false``,
    ``cafile …``); ``allow_anonymous true`` unless they say otherwise. The port stays the same over
    ``kill`` and ``start``. Every method but ``seen`` returns within milliseconds.
    """

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self.folder = folder
        self.port = 0
        self._options = list(options)
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Where it listens, without TLS."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the broker that runs now."""
        return self._running().pid

    @property
    def output(self) -> list[str]:
        """The log of the broker that runs now."""
        return self._running().output

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None

    def start(self) -> None:
        """Start it (again) and return when it listens."""
        assert self._process is None, "mosquitto runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        output: list[str] = []
        for _ in range(_TRIES if self.port == 0 else 1):
            port = self.port or free_port()
            process = Process([str(need("mosquitto")), "-v", "-c", str(self._configure(port))])
            if process.wait_for(_listens, timeout_s=START_S):
                self.port, self._process = port, process
                return
            process.end()
            output = process.output
        raise RuntimeError("\n".join(["mosquitto did not start:", *output]))

    def kill(self) -> None:
        """End it with SIGKILL; what it had not yet saved is gone."""
        self._running().end(signal.SIGKILL)
        self._process = None

    def stop(self) -> None:
        """End it with SIGTERM; it saves its sessions and messages."""
        self._running().end()
        self._process = None

    def freeze(self) -> None:
        """Stop it in its tracks (SIGSTOP): its sockets stay open and nobody answers."""
        self._running().signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after ``freeze``."""
        self._running().signal(signal.SIGCONT)

    async def seen(self, text: str, *, after: int = 0, timeout_s: float = 10.0) -> None:
        """Return once a line of its log (from number ``after`` on) contains ``text``."""
        await self._running().said(text, after=after, timeout_s=timeout_s)

    async def save(self) -> None:
        """Write sessions and messages to disk now, so that a ``kill`` does not lose them."""
        process = self._running()
        before = len(process.output)
        process.signal(signal.SIGUSR1)
        await process.said("Saving in-memory database", after=before)
        with socket.create_connection(("127.0.0.1", self.port)):  # answered after it has saved
            await process.said("New connection", after=before)

    def _running(self) -> Process:
        assert self._process is not None, "mosquitto does not run"
        return self._process

    def _configure(self, port: int) -> Path:
        lines = [
            "per_listener_settings false",
            "persistence true",
            f"persistence_location {self.folder}/",
            "autosave_interval 1800",
            "set_tcp_nodelay true",
            "max_queued_messages 0",
            f"listener {port} 127.0.0.1",
            *self._options,
        ]
        if not any(option.startswith("allow_anonymous") for option in self._options):
            lines.append("allow_anonymous true")
        if os.geteuid() == 0:
            lines.append("user root")  # else it changes to a user that cannot write the folder
        path = self.folder / "mosquitto.conf"
        path.write_text("\n".join(lines) + "\n")
        return path


def _listens(line: str) -> bool:
    return line.endswith(" running")
