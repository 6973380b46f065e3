"""Choosing the backend of history."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.config.model import SqliteRecords
from gateway.core.errors import Unavailable
from gateway.core.units import size_bytes
from gateway.records.port import RecordStore
from gateway.records.sqlite.store import open_store
from gateway.records.sqlite.writes import Bounds

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_records(config: SqliteRecords, directory: Path) -> AsyncIterator[RecordStore]:
    """Open history in ``directory``, which must exist.

    A disk that is full or failing does not stop the start: the store then answers Unavailable
    until it is well again.

    Raises:
        ConfigError: the file was made by a newer version of this program.
    """
    bounds = Bounds(config.dead_letters, size_bytes(config.dead_letter_bytes))
    async with open_store(directory / "records.db", bounds) as store:
        try:
            await store.ping()
        except Unavailable as exc:
            log.warning("history is not there yet: %s", exc.detail)
        yield store
