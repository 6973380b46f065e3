"""``python -m bench``: measure the gateway and its peers side by side. See docs/bench.md."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from bench import consumer, idle, ingest, latency, slow_reader, storage, stream
from bench.context import Context
from bench.machine import LOAD_CORE, ROOT, SHARED, describe, probe_disk, raise_file_limit
from bench.report import RESULTS, CheckFailed, Row, say, show, write

BUSY: Final = 0.7  # load average of the last minute above which somebody else is at work

Measure = Callable[[Context], Iterator[Row]]

FIGURES: Final[dict[str, Measure]] = {
    **{shape.name: partial(ingest.measure, shape=shape) for shape in ingest.SHAPES},
    "ingest-aiomqtt": consumer.measure,
    "latency-1000": partial(latency.latency, rate=1_000),
    "latency-5000": partial(latency.latency, rate=5_000),
    "fanout": latency.fanout,
    "idle": idle.streams,
    "start": idle.start_and_stop,
    "journal": storage.journal,
    "history": storage.history,
    "stream": stream.to_kafka,
    "stream-steady": stream.steady,
    "gather": stream.gathered,
    "other-box": stream.other_box,
    "slow-reader": slow_reader.measure,
}


def chosen(only: str) -> dict[str, Measure]:
    """Return the figures whose names start with one of the comma-separated ``only``.

    Raises:
        KeyError: one of them fits nothing.
    """
    if not only:
        return FIGURES
    names: set[str] = set()
    for start in only.split(","):
        fitting = {name for name in FIGURES if name.startswith(start.strip())}
        if not fitting:
            raise KeyError(start)
        names |= fitting
    return {name: FIGURES[name] for name in FIGURES if name in names}


def measure(figures: dict[str, Measure], ctx: Context) -> tuple[list[Row], list[str]]:
    """Return the rows, and the promises that were broken on the way."""
    rows: list[Row] = []
    broken: list[str] = []
    for name, run in figures.items():
        began = time.monotonic()
        say(f"[bold]{name}[/bold]")
        try:
            rows += run(ctx)
        except CheckFailed as exc:
            broken.append(f"{name}: {exc}")
            say(f"[bold red]{name}: check failed[/bold red]: {exc}")
        finally:
            for left in ctx.folder.glob("run-*"):
                shutil.rmtree(left, ignore_errors=True)
        say(f"{name} took {time.monotonic() - began:.0f} s")
    return rows, broken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only", default="", metavar="ID,ID", help=f"beginnings of: {', '.join(FIGURES)}"
    )
    parser.add_argument("--quick", action="store_true", help="one run, small loads")
    parser.add_argument("--long", action="store_true", help="the slow reader for 10 minutes")
    parser.add_argument("--runs", type=int, default=3, help="runs of each figure (median)")
    parser.add_argument("--dir", type=Path, default=ROOT / "data", help="where to write meanwhile")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the JSON file to write")
    args = parser.parse_args()
    try:
        figures = chosen(args.only)
    except KeyError as exc:
        parser.error(f"no figure begins with {exc}; there are: {', '.join(FIGURES)}")
    raise_file_limit()
    os.sched_setaffinity(0, {LOAD_CORE})  # this process only waits; never on the server's core
    args.dir.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir) as folder:
        ctx = Context(Path(folder), 1 if args.quick else args.runs, args.quick, args.long)
        say(describe())
        disk = probe_disk(ctx.folder)
        say(f"writing to {disk.filesystem}, an fdatasync takes {disk.sync_ms:.2f} ms")
        if disk.filesystem in ("tmpfs", "ramfs"):
            say("[bold red]that is memory, not a disk: choose another with --dir[/bold red]")
        if (busy := os.getloadavg()[0]) > BUSY:
            say(f"[bold red]others use this machine (load {busy:.1f}): figures are low[/bold red]")
        rows, broken = measure(figures, ctx)
    write(rows, args.out)
    show(rows)
    if SHARED:
        say("[bold red]one core only: these figures are too low[/bold red]")
    say(f"{len(rows)} rows in {args.out.name}, {time.monotonic() - began:.0f} s in all")
    for text in broken:
        say(f"[bold red]check failed[/bold red]: {text}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
