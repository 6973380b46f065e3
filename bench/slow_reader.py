"""Does a reader that hardly reads disturb the others? 500 readers at 20 Hz, with and without it."""

import statistics
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any, Final

from bench.context import Context
from bench.machine import resident_bytes
from bench.report import CheckFailed, Row, beside, figure, say
from bench.servers import Server, gateway, load

READERS: Final = 500
HZ: Final = 20
SLOW_BYTES_S: Final = 1_024
NEWEST_MS: Final = 1_000.0  # the slow reader's newest pose is no older
FLAT_KB: Final = 2_000.0  # growth of the process that is still called flat
LONG_S: Final = 600


def measure(ctx: Context) -> Iterator[Row]:
    """Yield the p99 of the others, the age of what the slow one has, and growth of memory."""
    seconds = LONG_S if ctx.long else 4 if ctx.quick else 20
    others: dict[bool, list[float]] = {True: [], False: []}
    cpu: dict[bool, list[float]] = {True: [], False: []}
    ages: list[float] = []
    growth: list[float] = []
    runs = 1 if ctx.long else min(ctx.runs, 2)
    with gateway(ctx.fresh()) as server:
        for number in range(runs):
            for slow in (False, True):
                before = server.cpu()
                with_memory = _Memory(server)
                result = _run(server, seconds, slow=slow)
                grew = with_memory.growth_kb()
                cpu[slow].append(server.cpu() - before)
                others[slow].append(result["latency"]["p99"])
                if slow:
                    ages.append(result["slow_age"]["max"])
                    growth.append(grew)
                say(
                    f"slow reader {number + 1}/{runs}: {'with' if slow else 'without'}, "
                    f"p99 of the others {others[slow][-1]:.2f} ms"
                )
        server.settled()
    text = f"{READERS} readers at {HZ} Hz for {seconds} s"
    row = figure(
        "slow-reader-p99",
        f"{text} beside one at 1 KB/s: latency p99 of the others",
        "ms",
        others[True],
        cpu=cpu[True],
    )
    without = figure(
        "slow-reader-p99:without",
        f"{text} without a slow one: latency p99",
        "ms",
        others[False],
        cpu=cpu[False],
    )
    yield beside(row, "the same without the slow reader", without)
    yield without
    yield figure(
        "slow-reader-age",
        "age of the newest pose that the slow reader has, worst",
        "ms",
        ages,
        goal=NEWEST_MS,
        better="less",
    )
    yield figure(
        "slow-reader-memory",
        f"growth of the process in {seconds} s with the slow reader, first to last quarter",
        "kB",
        growth,
        goal=FLAT_KB,
        better="less",
    )


def _run(server: Server, seconds: int, *, slow: bool) -> dict[str, Any]:
    result = load(
        "bench.open_loop",
        *("--mqtt", server.mqtt, "--http", server.http, "--rate", HZ, "--robots", 1),
        *("--seconds", seconds, "--warm-s", 3, "--readers", READERS),
        *("--slow-bytes-s", SLOW_BYTES_S if slow else 0),
        timeout_s=seconds + 60.0,
    )
    if result["missing"] or result["disordered"]:
        raise CheckFailed(f"slow reader: missing or out of order for the others: {result}")
    return result


class _Memory:
    """Resident memory, once a second until ``growth_kb``."""

    def __init__(self, server: Server) -> None:
        self._pid = server.pids[0]
        self._samples: list[int] = []
        self._stop = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            self._samples.append(resident_bytes(self._pid))

    def growth_kb(self) -> float:
        """Return median of the last quarter minus median of the first; connecting is left out."""
        self._stop.set()
        self._thread.join()
        samples = self._samples[2:-1]
        quarter = max(1, len(samples) // 4)
        if len(samples) < 2:
            return 0.0
        return (statistics.median(samples[-quarter:]) - statistics.median(samples[:quarter])) / 1e3
