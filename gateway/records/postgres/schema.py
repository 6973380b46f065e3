"""The tables: numbered migrations, once whoever starts, and a partition of readings per month."""

import logging
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from typing import Final

from gateway.config.model import ConfigError
from gateway.records.postgres.failures import unavailable
from gateway.records.postgres.link import SCHEMA, Connection
from gateway.records.rows import DAY_MS

log = logging.getLogger(__name__)

# Two numbers nobody else is likely to lock in the same database; boxes agree by them.
_MIGRATING: Final = 0x65646765_0001
_PARTITIONING: Final = 0x65646765_0002

FIRST_MONTH: Final = 2020 * 12  # older readings, and those of months to come, share one partition

_MIGRATION: Final = re.compile(r"([0-9]{4})_[a-z0-9_]+\.sql")
_PARTITION: Final = re.compile(r"readings_([0-9]{4})_([0-9]{2})")


class NewerSchema(ConfigError):
    """The tables were made by a newer version of this program; using them could destroy them."""


def migrations() -> list[str]:
    """Return the text of the migrations in order; their numbers have no gap."""
    found = {
        int(match[1]): entry.read_text("utf-8")
        for entry in (files("gateway.records.postgres") / "migrations").iterdir()
        if (match := _MIGRATION.fullmatch(entry.name))
    }
    return [found[number] for number in range(1, len(found) + 1)]


async def migrate(connection: Connection, steps: list[str]) -> None:
    """Bring the tables to the newest schema, in one transaction.

    Raises:
        NewerSchema: they are newer than this program.
        Unavailable: the database cannot hold our texts.
    """
    if (encoding := connection.get_settings().server_encoding) != "UTF8":
        raise unavailable(f"the database of history has the encoding {encoding}, it must be UTF8")
    if await _schema(connection, len(steps)) == len(steps):
        return
    await connection.execute("BEGIN")
    await connection.execute(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
    have = await _schema(connection, len(steps))
    if have == 0 and not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", SCHEMA
    ):
        await connection.execute(f"CREATE SCHEMA {SCHEMA}")
    for number, sql in enumerate(steps[have:], start=have + 1):
        await connection.execute(sql)
        if number == 1:
            insert = "INSERT INTO store VALUES ($1, 0)"
            await connection.execute(insert, secrets.token_hex(8))
        await connection.execute("UPDATE store SET schema = $1", number)
    await connection.execute("COMMIT")
    if have < len(steps):
        log.info("history migrated: schema=%d", len(steps))


async def schema_of(connection: Connection) -> int:
    """Return the number of the last migration that was applied, 0 for none."""
    if not await _exists(connection, "store"):
        return 0
    have: int = await connection.fetchval("SELECT schema FROM store")
    return have


async def _schema(connection: Connection, known: int) -> int:
    have = await schema_of(connection)
    if have > known:
        raise NewerSchema(
            f"history has schema {have}, this program knows {known}: "
            "install the newer version again, or use another database"
        )
    return have


async def _exists(connection: Connection, table: str) -> bool:
    """Return whether there is such a table of ours.

    Asked of the catalogue itself: to_regclass may answer from before we waited for a lock.
    """
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = $1 AND c.relname = $2)",
            *(SCHEMA, table),
        )
    )


@lru_cache(maxsize=4096)
def _month(day: int) -> int:
    """Return the month of ``day`` (since 1970), counted from the year 0; beyond 9999 a last one."""
    try:
        date = datetime.fromtimestamp(day * 86_400, UTC)
    except (ValueError, OverflowError, OSError):
        return 9_999 * 12 + 11
    return date.year * 12 + date.month - 1


def _start_ms(month: int) -> int:
    return int(datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp()) * 1000


class Months:
    """Which partitions there are; one that is missing is made before it is written to.

    Months from FIRST_MONTH to the next one from now have a partition each. Anything else goes to
    the partition ``readings_other``: a thousand robots with broken clocks make no tables.
    """

    def __init__(self) -> None:
        self._there: set[int] = set()

    async def load(self, connection: Connection) -> None:
        """Learn which there are."""
        names = await connection.fetch(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'readings'::regclass"
        )
        self._there = {
            int(match[1]) * 12 + int(match[2]) - 1
            for (name,) in names
            if (match := _PARTITION.fullmatch(name))
        }

    def missing(self, times_ms: Iterable[int], now_ms: int) -> list[int]:
        """Return the months that must be made for readings of ``times_ms``."""
        last = _month(now_ms // DAY_MS) + 1
        months = {_month(day) for day in {time // DAY_MS for time in times_ms}}
        return sorted(m for m in months - self._there if FIRST_MONTH <= m <= last)

    async def make(self, connection: Connection, months: Iterable[int]) -> None:
        """Make the partitions of ``months``, moving what came too early for them."""
        for month in months:
            await self._make(connection, month)
            self._there.add(month)

    async def _make(self, connection: Connection, month: int) -> None:
        name = f"readings_{month // 12:04}_{month % 12 + 1:02}"
        start, end = _start_ms(month), _start_ms(month + 1)
        await connection.execute("BEGIN")
        await connection.execute(f"SELECT pg_advisory_xact_lock({_PARTITIONING})")
        if not await _exists(connection, name):
            # Attached when it is full: that does not wait for those who read other months.
            await connection.execute(
                f"LOCK TABLE readings_other IN ACCESS EXCLUSIVE MODE;"  # noqa: S608 - our numbers
                f"CREATE TABLE {name} (LIKE readings INCLUDING ALL);"
                f"WITH moved AS (DELETE FROM readings_other"
                f" WHERE ts >= {start} AND ts < {end} RETURNING *)"
                f" INSERT INTO {name} SELECT * FROM moved;"
                f"ALTER TABLE readings ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end})"
            )
            log.info("history has a new month: %s", name)
        await connection.execute("COMMIT")
