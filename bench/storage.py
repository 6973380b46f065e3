"""The journal by itself, and how fast the history follows it."""

import time
from collections.abc import Iterator

from bench.context import Context
from bench.machine import SERVER_CORE, probe_disk
from bench.report import CheckFailed, Row, beside, figure, say
from bench.servers import gateway, load


def journal(ctx: Context) -> Iterator[Row]:
    """Yield entries a second into the journal beside SQLite, and what the disk does at all."""
    rates: dict[str, list[float]] = {"journal": [], "sqlite": []}
    cpu: dict[str, list[float]] = {"journal": [], "sqlite": []}
    disk: list[float] = []
    for number in range(ctx.runs):
        disk.append(probe_disk(ctx.folder).sync_ms)
        for into in ("journal", "sqlite"):
            count = ctx.scaled(400_000 if into == "journal" else 200_000)
            result = load(
                "bench.journal_load",
                *("--folder", ctx.fresh(), "--count", count, "--into", into),
                core=SERVER_CORE,
            )
            rates[into].append(result["entries"] / result["seconds"])
            cpu[into].append(result["cpuS"])
            say(
                f"journal {number + 1}/{ctx.runs}: {into} {rates[into][-1]:,.0f} entries/s, "
                f"{result['syncs']:.0f} syncs"
            )
    row = figure(
        "journal",
        "journal alone: poses appended and fdatasync'ed",
        "entries/s",
        rates["journal"],
        cpu=cpu["journal"],
    )
    peer = figure(
        "journal:sqlite",
        "SQLite, WAL, synchronous=FULL, 5,000 rows a transaction",
        "entries/s",
        rates["sqlite"],
        cpu=cpu["sqlite"],
    )
    yield beside(row, "SQLite, synchronous=FULL", peer)
    yield peer
    yield figure("disk", "append of 4 KiB and fdatasync on this disk", "ms", disk)


def history(ctx: Context) -> Iterator[Row]:
    """Yield air readings a second from MQTT QoS 1 to rows that are on disk in the history."""
    rates: list[float] = []
    cpu: list[float] = []
    count = ctx.scaled(40_000)
    for number in range(ctx.runs):
        with gateway(ctx.fresh()) as server:
            before = server.cpu()
            sent = load(
                "bench.publisher", "--port", server.mqtt, "--count", count, "--kind", "sensor"
            )
            hops = server.settled()["hops"]
            took = time.monotonic() - sent["firstAt"]
            written = sum(
                h["delivered"] for h in hops if h["hop"] == "records" and h["kind"] == "sensor"
            )
            if written != count:
                raise CheckFailed(f"history: {written} of {count} readings were written")
            rates.append(count / took)
            cpu.append(server.cpu() - before)
        say(f"history {number + 1}/{ctx.runs}: {rates[-1]:,.0f} readings/s")
    yield figure(
        "history",
        "air readings, MQTT QoS 1 to rows on disk in SQLite",
        "readings/s",
        rates,
        cpu=cpu,
    )
