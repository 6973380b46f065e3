"""The PostgreSQL that other tests rely on does what they rely on."""

import asyncio

import asyncpg
import pytest

from tests.services import need
from tests.services.postgres import Postgres


async def test_each_test_has_an_empty_database(postgres_database: str) -> None:
    client = await asyncpg.connect(postgres_database)
    try:
        tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        assert await client.fetchval(tables) == 0
        await client.execute("CREATE TABLE a (b int)")
        assert await client.fetchval(tables) == 1
    finally:
        await client.close()


async def test_what_was_committed_survives_a_kill_and_a_freeze(own_postgres: Postgres) -> None:
    client = await asyncpg.connect(own_postgres.dsn())
    await client.execute("CREATE TABLE a AS SELECT 1 AS b")
    own_postgres.freeze()
    with pytest.raises(TimeoutError):
        await client.fetchval("SELECT b FROM a", timeout=0.3)
    own_postgres.thaw()
    client.terminate()
    port = own_postgres.port
    own_postgres.kill()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", port)
    own_postgres.start()
    client = await asyncpg.connect(own_postgres.dsn())
    try:
        assert own_postgres.port == port
        assert await client.fetchval("SELECT b FROM a") == 1
    finally:
        await client.close()


async def test_a_password_is_asked_for() -> None:
    need("postgres")
    with Postgres(password="secret", durable=False) as server:
        assert server.psql("SELECT 1") == "1"
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.dsn(), password="guessed")
