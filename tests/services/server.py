"""What every real server of the tests can do: start, be killed, stand still, come back."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

from tests.services.process import Process, free_port

START_S: Final = 60.0
"""Longest that one of them may take to start, on a machine that does much else."""

_TRIES: Final = 5  # another process may take the free port first


class Server(ABC):
    """A server on 127.0.0.1 that keeps its data in ``folder``.

    The port is free when it starts first, and stays the same over ``kill``, ``stop`` and ``start``.
    The methods block; only ``start`` may take longer than milliseconds (``asyncio.to_thread``).
    """

    title: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """The process id of the server that runs now."""
        return self._running().pid

    @property
    def output(self) -> list[str]:
        """The log of the server that runs now."""
        return self._running().output

    @property
    def running(self) -> bool:
        """Whether it has been started, and not been ended by us."""
        return self._process is not None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start it (again) and return when it serves."""
        assert self._process is None, f"{self.title} runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        output: Sequence[str] = ()
        for _ in range(_TRIES if self.port == 0 else 1):
            port = self.port or free_port()
            process = self._launch(port)
            try:
                serves = process.wait_for(self._serves, timeout_s=START_S)
            except BaseException:
                process.end(signal.SIGKILL)
                raise
            if serves:
                self.port, self._process = port, process
                return
            process.end()
            output = process.output
        raise RuntimeError("\n".join([f"{self.title} did not start:", *output[-50:]]))

    def kill(self) -> None:
        """End it and its children with SIGKILL; what it had not yet written is gone."""
        self._running().end(signal.SIGKILL)
        self._process = None

    def stop(self) -> None:
        """End it in order; it saves what it has to."""
        self._running().end(self.stop_signal)
        self._process = None

    def restart(self) -> None:
        """End it in order and start it on the same port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop it in its tracks (SIGSTOP): its sockets stay open and nobody answers."""
        self._running().freeze()

    def thaw(self) -> None:
        """Let it go on after ``freeze``."""
        self._running().thaw()

    def close(self) -> None:
        """End it at once if it runs: for the end of a test, nothing of it is used again."""
        if self._process is not None:
            self.kill()

    async def seen(self, text: str, *, after: int = 0, timeout_s: float = 10.0) -> None:
        """Return once a line of its log (from number ``after`` on) contains ``text``."""
        await self._running().said(text, after=after, timeout_s=timeout_s)

    @abstractmethod
    def _launch(self, port: int) -> Process:
        """Start the program on ``port``."""

    @abstractmethod
    def _serves(self, line: str) -> bool:
        """Tell whether this line of the log says that it serves from now on."""

    def _running(self) -> Process:
        assert self._process is not None, f"{self.title} does not run"
        return self._process
