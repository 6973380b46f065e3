"""Write readings until killed; say each one only after the store has returned.

Run as ``python -m tests.records.killed_writer DIRECTORY FIRST``.
"""

import asyncio
import sys
from pathlib import Path

from gateway.config.model import SqliteRecords
from gateway.records.open import open_records
from gateway.records.port import ReadingRow, Writes

BATCH = 3


async def main(directory: Path, first: int) -> None:
    async with open_records(SqliteRecords(), directory) as store:
        while True:
            rows = [
                ReadingRow(robot=f"r{n % 2}", ts=n, rts=n, seq=n, pm25=1.0)
                for n in range(first, first + BATCH)
            ]
            await store.write(Writes(readings=rows))
            first += BATCH
            sys.stdout.write(f"{first}\n")
            sys.stdout.flush()


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
