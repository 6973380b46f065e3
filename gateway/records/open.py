"""Choosing the backend of history."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from gateway.config.model import ConfigError, PostgresRecords, SqliteRecords
from gateway.core.errors import Unavailable
from gateway.core.units import size_bytes
from gateway.records.port import RecordStore
from gateway.records.rows import Bounds
from gateway.records.sqlite.store import open_store as open_sqlite

log = logging.getLogger(__name__)

START_S: Final = 2.0  # the start goes on without history after that


@asynccontextmanager
async def open_records(
    config: SqliteRecords | PostgresRecords, directory: Path, *, box: str = ""
) -> AsyncIterator[RecordStore]:
    """Open history: a file in ``directory``, which must exist, or a database.

    A disk that is full or failing, or a server that is away, does not stop the start: the store
    then answers Unavailable until it is well again.

    Args:
        box: this box's name, which must stay the same over restarts. Boxes that share a database
            keep their events and dead letters apart by it.
    Raises:
        ConfigError: history was made by a newer version of this program, or the driver is missing.
    """
    async with _open(config, directory, box) as store:
        try:
            async with asyncio.timeout(START_S):
                await store.ping()
        except Unavailable as exc:
            log.warning("history is not there yet: %s", exc.detail)
        except TimeoutError:
            log.warning("history is not there yet: it did not open in %g s", START_S)
        yield store


def _open(
    config: SqliteRecords | PostgresRecords, directory: Path, box: str
) -> AbstractAsyncContextManager[RecordStore]:
    match config:
        case SqliteRecords():
            bounds = Bounds(config.dead_letters, size_bytes(config.dead_letter_bytes))
            return open_sqlite(directory / "records.db", bounds)
        case PostgresRecords():
            try:  # an optional driver: imported when chosen
                from gateway.records.postgres.store import open_store as open_postgres
            except ModuleNotFoundError as exc:
                if exc.name != "asyncpg":
                    raise
                raise ConfigError(
                    'records.backend: "postgres" needs a driver: '
                    "pip install 'edge-gateway[postgres]'"
                ) from exc
            return open_postgres(config, box)
