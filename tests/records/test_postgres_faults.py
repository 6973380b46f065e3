"""What PostgreSQL history does when the server or the way to it fails. The faults are real."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from gateway.config.model import PostgresRecords
from gateway.core.errors import Unavailable
from gateway.records.open import START_S, open_records
from gateway.records.port import RecordStore
from tests.faults.proxy import Proxy
from tests.records.insisting import (
    BATCH,
    TIMEOUT_S,
    kept,
    rows,
    through,
    until,
    until_it_fails,
    until_it_works,
)
from tests.services.postgres import Postgres


class Writer:
    """Write batch after batch, as the archive does: one until it is acknowledged."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self.acknowledged = 0
        self.failures = 0

    async def run(self) -> None:
        while True:
            try:
                await self._store.write(rows(self.acknowledged))
            except Unavailable:
                self.failures += 1
                await asyncio.sleep(0.02)
            else:
                self.acknowledged += BATCH

    async def passes(self, more: int) -> None:
        goal = self.acknowledged + more

        async def reached() -> bool:
            return self.acknowledged >= goal

        await until(reached)


@asynccontextmanager
async def writing(store: RecordStore) -> AsyncIterator[Writer]:
    writer = Writer(store)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(writer.run())
        yield writer
        task.cancel()


async def test_kill_9_keeps_every_write_that_returned(
    own_postgres: Postgres, tmp_path: Path
) -> None:
    async with open_records(through(own_postgres.port), tmp_path) as store:
        async with writing(store) as writer:
            for _ in range(3):
                await writer.passes(20 * BATCH)
                await asyncio.to_thread(own_postgres.kill)
                said, failures = writer.acknowledged, writer.failures
                await until_it_fails(store.ping)
                await asyncio.to_thread(own_postgres.start)
                assert (await until_it_works(lambda: kept(store)))[:said] == list(range(said))
                assert writer.failures > failures
        found = await kept(store)
        assert found[: writer.acknowledged] == list(range(writer.acknowledged))
        assert len(found) % BATCH == 0  # whole transactions only
        totals = await store.totals()
        assert sum(each.readings for each in totals) == len(found)


async def test_a_frozen_server_is_given_up_and_taken_again(
    own_postgres: Postgres, tmp_path: Path
) -> None:
    async with (
        open_records(through(own_postgres.port), tmp_path) as store,
        writing(store) as writer,
    ):
        await writer.passes(BATCH)
        own_postgres.freeze()
        await until_it_fails(store.ping)
        before = time.monotonic()
        for _ in range(50):  # nobody waits for a timeout any more
            with pytest.raises(Unavailable):
                await store.robots()
        assert time.monotonic() - before < 50 * TIMEOUT_S / 2
        own_postgres.thaw()
        await writer.passes(BATCH)
        assert (await until_it_works(lambda: kept(store)))[:BATCH] == list(range(BATCH))


@pytest.mark.parametrize("how", ["black hole", "hold", "reset", "refuse"])
async def test_a_broken_way_heals(postgres_database: str, tmp_path: Path, how: str) -> None:
    place, _, database = postgres_database.partition("@")[2].partition("/")
    with Proxy("127.0.0.1", int(place.rpartition(":")[2])) as proxy:
        async with (
            open_records(through(proxy.port, database), tmp_path) as store,
            writing(store) as writer,
        ):
            await writer.passes(BATCH)
            match how:
                case "black hole":
                    proxy.black_hole()
                case "hold":
                    proxy.hold()
                case "reset":
                    proxy.refuse()
                    proxy.reset()
                case _:
                    proxy.refuse()
                    proxy.cut()
            await until_it_fails(store.ping)
            said = writer.acknowledged
            proxy.pass_()
            await writer.passes(3 * BATCH)
            assert (await until_it_works(lambda: kept(store)))[:said] == list(range(said))


async def test_a_start_without_the_server_heals(own_postgres: Postgres, tmp_path: Path) -> None:
    await asyncio.to_thread(own_postgres.stop)
    async with open_records(through(own_postgres.port), tmp_path) as store:
        with pytest.raises(Unavailable):
            await store.write(rows(0))
        await asyncio.to_thread(own_postgres.start)
        await until_it_works(lambda: store.write(rows(0)))
        assert await kept(store) == list(range(BATCH))


async def test_a_start_in_a_black_hole_does_not_wait_longer_than_promised(tmp_path: Path) -> None:
    with Proxy() as proxy:  # leads nowhere
        proxy.black_hole()
        before = time.monotonic()
        async with open_records(through(proxy.port, timeout_s=30.0), tmp_path) as store:
            assert time.monotonic() - before < START_S + 10.0
            assert (await until_it_fails(store.ping)).dependency == "records"


async def test_a_server_that_only_reads_is_unavailable_for_writing(
    postgres_database: str, postgres: Postgres, tmp_path: Path
) -> None:
    name = postgres_database.rpartition("/")[2]

    async def set_read_only(value: str) -> None:
        for sql in (
            f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}',
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ="
            f" '{name}' AND pid <> pg_backend_pid()",
        ):
            await asyncio.to_thread(postgres.psql, sql)

    async with open_records(through(postgres.port, name), tmp_path) as store:
        await store.write(rows(0))
        await set_read_only("on")

        async def said_so() -> bool:
            return "read-only" in (await until_it_fails(lambda: store.write(rows(50)))).detail

        await until(said_so)
        assert await until_it_works(lambda: kept(store)) == list(range(BATCH))  # still answers
        await set_read_only("off")
        await until_it_works(lambda: store.write(rows(BATCH)))
        assert await until_it_works(lambda: kept(store)) == list(range(2 * BATCH))


async def test_of_several_hosts_the_one_that_answers_is_taken(
    postgres_database: str, tmp_path: Path
) -> None:
    place = postgres_database.partition("@")[2]
    with Proxy() as nowhere:
        dsn = f"postgresql://edge@127.0.0.1:{nowhere.port},{place}"
        config = PostgresRecords(dsn=dsn, timeout_s=TIMEOUT_S)
        async with open_records(config, tmp_path) as store:
            await until_it_works(lambda: store.write(rows(0)))
            assert await kept(store) == list(range(BATCH))


async def test_a_lock_that_is_held_is_unavailable_and_passes(
    postgres_database: str, postgres: Postgres, tmp_path: Path
) -> None:
    name = postgres_database.rpartition("/")[2]
    async with open_records(through(postgres.port, name), tmp_path) as store:
        await store.write(rows(0))
        other = await asyncpg.connect(postgres_database)
        await other.execute("BEGIN; LOCK TABLE edge_gateway.robots IN EXCLUSIVE MODE")
        with pytest.raises(Unavailable, match="locked"):
            await store.write(rows(BATCH))
        assert await kept(store) == list(range(BATCH))  # reading goes on
        await other.close()
        await store.write(rows(BATCH))
        assert await kept(store) == list(range(2 * BATCH))


async def test_a_drill_closes_every_connection_and_heals(
    postgres_database: str, postgres: Postgres, tmp_path: Path
) -> None:
    name = postgres_database.rpartition("/")[2]
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"
    async with open_records(through(postgres.port, name), tmp_path) as store:
        async with writing(store) as writer:
            await writer.passes(BATCH)
            store.sever(True)
            with pytest.raises(Unavailable, match="drill"):
                await store.ping()

            async def all_gone() -> bool:
                return await asyncio.to_thread(postgres.psql, sql) == "0"

            await until(all_gone)
            store.sever(False)
            await writer.passes(BATCH)
        store.sever(True)  # leaving the block while cut is fine
