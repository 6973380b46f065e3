"""What the gateway costs when nothing happens: memory, start, stop."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from bench.context import Context
from bench.machine import LOAD_CORE, end, raise_file_limit, resident_bytes, start
from bench.report import CheckFailed, Row, figure, say
from bench.servers import Server, gateway

STREAMS: Final = 5_000
PER_STREAM_KB: Final = 16.0
PROCESS_MB: Final = 80.0
READY_S: Final = 1.5
STOP_S: Final = 3.0
STOP_STREAMS: Final = 500
_QUIET_S: Final = 1.0
_RESERVE: Final = 200  # descriptors for everything else

Ask = Callable[[str], int]


@contextmanager
def _clients(server: Server) -> Iterator[Ask]:
    """Run bench.idle_clients; the function sends it a line and returns its answer."""
    process = start(
        [sys.executable, "-m", "bench.idle_clients", "--http", str(server.http)],
        core=LOAD_CORE,
        stdin=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    out, answers = process.stdin, process.stdout

    def ask(line: str) -> int:
        out.write(line + "\n")
        out.flush()
        answer = answers.readline()
        if not answer:
            raise CheckFailed(f"idle streams: the client failed at {line!r}")
        return int(answer)

    try:
        yield ask
    finally:
        end(process)


def streams(ctx: Context) -> Iterator[Row]:
    """Yield the memory of the idle process, of a WebSocket and of an SSE stream."""
    wanted = ctx.scaled(STREAMS)
    count = min(wanted, (raise_file_limit() - _RESERVE) // 2)
    note = "" if count >= wanted else f" (no more: the limit of open files is {raise_file_limit()})"
    base: list[float] = []
    sockets: list[float] = []
    events: list[float] = []
    cpu: list[float] = []
    for number in range(min(ctx.runs, 2)):
        with gateway(ctx.fresh()) as server:
            time.sleep(_QUIET_S)  # the start is over
            pid = server.pids[0]
            empty = resident_bytes(pid)
            with _clients(server) as ask:
                ask(f"ws {count}")
                time.sleep(_QUIET_S)
                with_sockets = resident_bytes(pid)
                ask(f"sse {count}")
                time.sleep(_QUIET_S)
                with_all = resident_bytes(pid)
                left = ask("alive")
            if left != 2 * count:
                raise CheckFailed(f"idle: {left} of {2 * count} streams are still open")
            base.append(empty / 1e6)
            sockets.append((with_sockets - empty) / count / 1e3)
            events.append((with_all - with_sockets) / count / 1e3)
            cpu.append(server.cpu())
        say(
            f"idle {number + 1}: process {base[-1]:.1f} MB, WebSocket {sockets[-1]:.1f} kB, "
            f"SSE {events[-1]:.1f} kB"
        )
    yield figure(
        "idle-process",
        "resident memory without clients",
        "MB",
        base,
        goal=PROCESS_MB,
        better="less",
    )
    for name, kind, runs in (("ws", "WebSocket", sockets), ("sse", "SSE stream", events)):
        yield figure(
            f"idle-{name}",
            f"resident memory per idle {kind}, {count:,} open{note}",
            "kB",
            runs,
            goal=PER_STREAM_KB,
            better="less",
            cpu=cpu,
        )


def start_and_stop(ctx: Context) -> Iterator[Row]:
    """Yield seconds from exec to the line "listening", and from SIGTERM to the end."""
    ready: list[float] = []
    stop: list[float] = []
    for number in range(ctx.runs):
        with gateway(ctx.fresh()) as server, _clients(server) as ask:
            ready.append(server.started_s)
            ask(f"ws {STOP_STREAMS // 2}")
            ask(f"sse {STOP_STREAMS // 2}")
            stop.append(server.stop())
        say(f"start and stop {number + 1}/{ctx.runs}: {ready[-1]:.2f} s, {stop[-1]:.2f} s")
    yield figure(
        "start", 'from exec to the line "listening"', "s", ready, goal=READY_S, better="less"
    )
    yield figure(
        "stop",
        f"from SIGTERM to the end, with {STOP_STREAMS} open streams",
        "s",
        stop,
        goal=STOP_S,
        better="less",
    )
