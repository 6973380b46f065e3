"""A process that appends until it is killed and says which offsets it was told are durable.

Arguments: data directory, seed. Each line on stdout: ``start <next offset>`` once, then
``ack <offset after the last durable record>``, ``failing <why>`` and ``healed``. The payload of a
record is made from its offset, so that whoever reads it can tell whether it is the right one.
"""

import asyncio
import os
import sys
from pathlib import Path
from random import Random

from gateway.config.model import JournalConfig
from gateway.journal.open import open_journal
from gateway.journal.port import Entry

RTS = 1_763_900_000_500
CONFIG = JournalConfig(
    commit_ms=1, segment_bytes="256KiB", pending_bytes="256KiB", max_bytes="1GiB"
)


def entry(offset: int) -> Entry:
    """Return the entry that stands at ``offset``; sizes vary from nothing to 3 kB."""
    pattern = b"%d|" % offset
    size = offset * 7919 % 97 if offset % 50 else offset * 31 % 3001
    payload = pattern + bytes([offset % 256]) * size
    return (1 + offset % 6, f"r{offset % 11}", offset * 1000, payload)


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


async def run(directory: Path, rng: Random) -> None:
    room = asyncio.Event()
    room.set()
    failing = ""
    async with open_journal(CONFIG, directory, retry_s=0.02) as journal:
        journal.on_pressure(room.clear, room.set)
        say(f"start {journal.stats().next_offset}")
        while True:
            if failing != (failing := journal.stats().failing):
                say(f"failing {failing}" if failing else "healed")
            if room.is_set():
                first = journal.stats().next_offset
                count = rng.choice((1, 1, 2, 10, 100))
                end = first + count
                batch = [entry(offset) for offset in range(first, end)]
                journal.append(batch, RTS, lambda end=end: say(f"ack {end}"))  # type: ignore[misc]
            await asyncio.sleep(rng.choice((0, 0, 0.001)))


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), Random(int(sys.argv[2]))))
