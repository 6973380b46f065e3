"""The doctor's look at PostgreSQL: it reads, and leaves tables for the gateway to make."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from gateway.config.model import ConfigError, PostgresRecords
from gateway.core.errors import Unavailable
from gateway.core.findings import Finding, Level, clock_finding
from gateway.records.postgres.failures import passing
from gateway.records.postgres.link import SCHEMA, Connection, Link
from gateway.records.postgres.schema import migrations, schema_of

_OLDEST: Final = 14
_START: Final = "start it, or mend dsn, password_file and ca_file of [records]"

_QUESTION: Final = """
SELECT current_setting('server_version') AS version,
       current_setting('server_version_num')::int / 10000 AS major,
       current_setting('server_encoding') AS encoding,
       pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on' AS reads_only,
       EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS there,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       has_database_privilege(current_database(), 'TEMPORARY') AS may_stage
"""
_RIGHTS: Final = "SELECT has_schema_privilege($1, 'CREATE')"
_CLOCK: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"


async def examine(config: PostgresRecords) -> AsyncIterator[Finding]:
    """Yield whether it lets us in, its version, its tables, and its clock."""
    try:
        connection = (await Link(config, "doctor").open()).connection
    except ConfigError as exc:
        yield Finding(Level.FAIL, "PostgreSQL", str(exc), "mend [records]")
        return
    except Exception as exc:
        detail = exc.detail if isinstance(exc, Unavailable) else passing(exc)
        if not detail:
            raise
        yield Finding(Level.FAIL, "PostgreSQL", detail, _START, service=True)
        return
    try:
        told = await connection.fetchrow(_QUESTION, SCHEMA)
        yield _server(told)
        yield await _tables(connection, told)
        before_s = time.time()
        server_s = await connection.fetchval(_CLOCK)
        yield clock_finding("PostgreSQL clock", server_s - (before_s + time.time()) / 2)
    except Exception as exc:
        if not (detail := passing(exc)):
            raise
        yield Finding(Level.FAIL, "PostgreSQL", detail, _START, service=True)
    finally:
        connection.terminate()


def _server(told: Any) -> Finding:
    found = f"lets us in, version {told['version']}, {told['encoding']}"
    if told["major"] < _OLDEST:
        advice = f"install PostgreSQL {_OLDEST} or newer"
    elif told["encoding"] != "UTF8":
        advice = "create the database with ENCODING 'UTF8' TEMPLATE template0"
    elif told["reads_only"]:
        found += ", but takes no writes"
        advice = "name the server that takes writes in records.dsn: this is a replica or read-only"
    else:
        return Finding(Level.OK, "PostgreSQL", found)
    return Finding(Level.FAIL, "PostgreSQL", found, advice, service=True)


async def _tables(connection: Connection, told: Any) -> Finding:
    if not told["may_stage"]:
        found, advice = (
            "our user may make no temporary tables",
            "GRANT TEMPORARY ON DATABASE … TO our user",
        )
        return Finding(Level.FAIL, "PostgreSQL tables", found, advice, service=True)
    if not told["there"]:
        if told["may_create"]:
            found = f"schema {SCHEMA} is made at the start of the gateway"
            return Finding(Level.OK, "PostgreSQL tables", found)
        found, advice = (
            f"our user may not create the schema {SCHEMA}",
            "GRANT CREATE ON DATABASE … TO our user",
        )
        return Finding(Level.FAIL, "PostgreSQL tables", found, advice, service=True)
    if not await connection.fetchval(_RIGHTS, SCHEMA):
        found = f"the schema {SCHEMA} is not ours"
        advice = f"ALTER SCHEMA {SCHEMA} OWNER TO our user, or choose another database"
        return Finding(Level.FAIL, "PostgreSQL tables", found, advice, service=True)
    have = await schema_of(connection)
    known = len(await asyncio.to_thread(migrations))
    if have > known:
        found = f"of schema {have}, this program knows {known}"
        advice = "install the newer version again, or use another database"
        return Finding(Level.FAIL, "PostgreSQL tables", found, advice)
    found = f"of schema {have}" + (f", brought to {known} at the start" if have < known else "")
    return Finding(Level.OK, "PostgreSQL tables", found)
