"""A TCP proxy of ours that delays, throttles, holds, swallows, refuses, cuts and resets.

It has a loop of its own, in a thread or (``process=True``) in a process: a test's busy loop does
not disturb it. ``python -m tests.faults.proxy`` is that process.
"""

import asyncio
import concurrent.futures
import json
import subprocess
import sys
import threading
from dataclasses import asdict
from types import TracebackType
from typing import Any, Final, Self

from tests.faults.link import Counts, Link

ANSWER_S: Final = 20.0
"""Longest that it may take to do what it is told, on a machine that does much else."""


class Proxy:
    """Listens on 127.0.0.1 and connects every client on to ``target_host``:``target_port``.

    Used as a context manager. Every method returns when what it says is the case, within
    milliseconds. A client whose target cannot be reached is accepted and then reset.
    ``target_port`` may be given later (``aim``), ``port`` may be chosen.
    """

    def __init__(
        self,
        target_host: str = "127.0.0.1",
        target_port: int = 0,
        *,
        port: int = 0,
        process: bool = False,
    ) -> None:
        self.port = port
        self._start = (target_host, target_port, port)
        self._runner: _Thread | _Child | None = None
        self._kind = _Child if process else _Thread

    def __enter__(self) -> Self:
        self._runner = self._kind(*self._start)
        self.port = self._runner.port
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    @property
    def address(self) -> str:
        """Where clients connect to, as "127.0.0.1:port"."""
        return f"127.0.0.1:{self.port}"

    @property
    def counts(self) -> Counts:
        """What went through so far."""
        return Counts(**self._call("counted"))

    def aim(self, host: str, port: int) -> None:
        """Connect new clients to there from now on."""
        self._call("aim", host, port)

    def pass_(self) -> None:
        """Let everything through at once; accept again.

        What lost bytes in a black hole is reset: going on would garble it.
        """
        self._call("flow", 0.0, None)
        self._call("listen")

    def delay(self, seconds: float) -> None:
        """Let everything through so much later in each direction; no limit to the rate."""
        self._call("flow", seconds, None)
        self._call("listen")

    def throttle(self, bytes_per_second: float) -> None:
        """Let each connection have so many bytes per second in each direction."""
        self._call("flow", 0.0, bytes_per_second)
        self._call("listen")

    def black_hole(self) -> None:
        """Swallow every byte: connections stay open, new ones are accepted, nobody answers.

        Not even the end of a connection gets through to the other side.
        """
        self._call("swallow")
        self._call("listen")

    def hold(self) -> None:
        """Let no byte move in either direction; all of them arrive after ``pass_``."""
        self._call("hold")
        self._call("listen")

    def refuse(self) -> None:
        """Refuse new connections; those that are open go on (end them with ``cut``, ``reset``)."""
        self._call("refuse")

    def cut(self) -> None:
        """End the open connections in order (FIN); new ones are treated as before."""
        self._call("end", abort=False)

    def reset(self) -> None:
        """End the open connections by force (RST); new ones are treated as before."""
        self._call("end", abort=True)

    def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        assert self._runner is not None, "the proxy does not run"
        return self._runner.call(name, arguments, options)


async def _do(link: Link, name: str, arguments: Any, options: Any) -> Any:
    result = await getattr(link, name)(*arguments, **options)
    return asdict(result) if isinstance(result, Counts) else result


class _Thread:
    """A link on a loop in a thread."""

    def __init__(self, host: str, target_port: int, port: int) -> None:
        started: concurrent.futures.Future[tuple[Link, asyncio.Event]] = concurrent.futures.Future()
        self._loop = asyncio.SelectorEventLoop()

        async def run() -> None:
            ready, stop = asyncio.Event(), asyncio.Event()
            try:
                link = Link(host, target_port, listen=port)
            except OSError as error:
                started.set_exception(error)
                return
            async with asyncio.TaskGroup() as group:
                group.create_task(link.run(ready, stop))
                await ready.wait()
                started.set_result((link, stop))

        def live() -> None:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(run())

        self._thread = threading.Thread(target=live, name="tcp-proxy", daemon=True)
        self._thread.start()
        self._link, self._stop = started.result(ANSWER_S)
        self.port = self._link.port

    def call(self, name: str, arguments: Any, options: Any) -> Any:
        doing = _do(self._link, name, arguments, options)
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(ANSWER_S)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(ANSWER_S)
        assert not self._thread.is_alive(), "the proxy does not end"


class _Child:
    """A link in a process: a line of JSON in is a call, a line of JSON out its result."""

    def __init__(self, host: str, target_port: int, port: int) -> None:
        command = [sys.executable, "-m", __name__, host, str(target_port), str(port)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lock = threading.Lock()
        self.port = int(self._answer())

    def call(self, name: str, arguments: Any, options: Any) -> Any:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps([name, arguments, options]) + "\n")
            self._process.stdin.flush()
            return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # which ends it
        try:
            self._process.wait(ANSWER_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the proxy's process ended with {self._process.wait(ANSWER_S)}"
        return json.loads(line)


def _main(host: str, target_port: str, port: str) -> None:
    inside = _Thread(host, int(target_port), int(port))
    sys.stdout.write(f"{inside.port}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        result = inside.call(*json.loads(line))
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
    inside.close()


if __name__ == "__main__":
    _main(*sys.argv[1:])
