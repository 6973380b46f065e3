"""Append poses to a journal, or rows to SQLite, as fast as they become durable. One process.

Prints one JSON object: entries, seconds (first append to last one durable), cpuS, syncs.
"""

import argparse
import asyncio
import json
import sqlite3
import time
from pathlib import Path
from typing import Final

import uvloop

from bench.payloads import FIRST_SEQ, pose, robot
from gateway.config.model import JournalConfig
from gateway.core.kinds import Kind
from gateway.journal.open import open_journal
from gateway.journal.port import Entry

BATCH: Final = 200  # entries in one append: what one read of a busy socket holds
AHEAD: Final = 8 * 1024 * 1024  # bytes not yet durable, at most
ROWS: Final = 5_000  # in one SQLite transaction


def entries(count: int) -> list[Entry]:
    """Return ``count`` poses of 200 robots."""
    now = time.time_ns() // 1_000_000
    names = [robot(number) for number in range(200)]
    return [(int(Kind.POSE), names[i % 200], now, pose(FIRST_SEQ + i, now)) for i in range(count)]


async def journal(folder: Path, made: list[Entry]) -> dict[str, float]:
    """Append in batches, at most AHEAD bytes before the disk."""
    folder.mkdir(parents=True)
    durable = 0
    moved = asyncio.Event()

    def committed() -> None:
        nonlocal durable
        durable += BATCH
        moved.set()

    async with open_journal(JournalConfig(), folder) as log:
        cpu, began = time.process_time(), time.perf_counter()
        for first in range(0, len(made), BATCH):
            log.append(made[first : first + BATCH], made[first][2], committed)
            while log.stats().pending_bytes > AHEAD:
                moved.clear()
                await moved.wait()
            if first % (BATCH * 20) == 0:
                await asyncio.sleep(0)  # as between two reads of sockets
        while durable < len(made):
            moved.clear()
            await moved.wait()
        took, used = time.perf_counter() - began, time.process_time() - cpu
        syncs = log.stats().syncs
    return {"entries": durable, "seconds": took, "cpuS": used, "syncs": syncs}


def sqlite(folder: Path, made: list[Entry]) -> dict[str, float]:
    """Insert the same into a table, WAL and synchronous=FULL."""
    folder.mkdir(parents=True)
    database = sqlite3.connect(folder / "peer.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE log (kind INT, robot TEXT, ts INT, payload BLOB) STRICT")
    cpu, began = time.process_time(), time.perf_counter()
    syncs = 0
    for first in range(0, len(made), ROWS):
        database.execute("BEGIN")
        database.executemany("INSERT INTO log VALUES (?,?,?,?)", made[first : first + ROWS])
        database.execute("COMMIT")
        syncs += 1
    took, used = time.perf_counter() - began, time.process_time() - cpu
    database.close()
    return {"entries": len(made), "seconds": took, "cpuS": used, "syncs": syncs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--count", type=int, default=400_000)
    parser.add_argument("--into", choices=("journal", "sqlite"), default="journal")
    args = parser.parse_args()
    count = args.count // BATCH * BATCH
    if args.into == "journal":
        result = uvloop.run(journal(args.folder, entries(count)))
    else:
        result = sqlite(args.folder, entries(count))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
