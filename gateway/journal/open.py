"""Open the journal."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from gateway.config.model import JournalConfig
from gateway.core.units import age_s, size_bytes
from gateway.journal.catalog import Clock, Limits
from gateway.journal.disk import Disk
from gateway.journal.log import Log
from gateway.journal.port import Journal
from gateway.journal.recovery import recover

FOLDER: Final = "journal"


@asynccontextmanager
async def open_journal(
    config: JournalConfig,
    directory: Path,
    *,
    disk: Disk | None = None,
    clock: Clock | None = None,
    retry_s: float = 0.5,
) -> AsyncIterator[Journal]:
    """Open the journal in ``directory``/journal; leaving the block makes all of it durable.

    Damage is cut or set aside, counted and logged; a full disk delays commits, not the start.

    Args:
        disk, clock: given by tests.
        retry_s: pause between attempts while the disk is full or failing.
    Raises:
        OSError: the folder cannot be used, or another process has the journal open.
    """
    max_bytes = size_bytes(config.max_bytes)
    limits = Limits(
        # at least two segments fit, or there would never be one to drop
        segment_bytes=min(size_bytes(config.segment_bytes), max_bytes // 2),
        max_bytes=max_bytes,
        max_age_s=age_s(config.max_age),
    )
    recovered = await asyncio.to_thread(
        recover, directory / FOLDER, disk or Disk(), clock or Clock(), limits
    )
    try:
        journal = Log(config, recovered, retry_s=retry_s)
        journal.start()
        try:
            yield journal
        finally:
            await journal.close()
    finally:
        if recovered.lock_fd >= 0:
            os.close(recovered.lock_fd)
