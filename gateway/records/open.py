"""Choosing the backend of history."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from gateway.config.model import PostgresRecords, SqliteRecords
from gateway.core.errors import Unavailable
from gateway.core.units import size_bytes
from gateway.records.port import RecordStore
from gateway.records.sqlite.store import open_store
from gateway.records.sqlite.writes import Bounds

log = logging.getLogger(__name__)

START_S: Final = 2.0  # the start goes on without history after that


@asynccontextmanager
async def open_records(
    config: SqliteRecords | PostgresRecords, directory: Path
) -> AsyncIterator[RecordStore]:
    """Open history in ``directory``, which must exist.

    A disk that is full or failing does not stop the start: the store then answers Unavailable
    until it is well again.

    Raises:
        ConfigError: the file was made by a newer version of this program.
    """
    assert isinstance(config, SqliteRecords)  # noqa: S101 - config/checks.py refuses the other yet
    bounds = Bounds(config.dead_letters, size_bytes(config.dead_letter_bytes))
    async with open_store(directory / "records.db", bounds) as store:
        try:
            async with asyncio.timeout(START_S):
                await store.ping()
        except Unavailable as exc:
            log.warning("history is not there yet: %s", exc.detail)
        except TimeoutError:
            log.warning("history is not there yet: it did not open in %g s", START_S)
        yield store
