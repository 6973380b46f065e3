"""Who gets a connection to PostgreSQL, how many there are, and that none keeps an old answer."""

import asyncio
from pathlib import Path

from gateway.core.errors import Unavailable
from gateway.records.open import open_records
from gateway.records.port import METRIC_NAMES, RecordStore
from tests.records.insisting import rows, through, until
from tests.services.postgres import Postgres


async def test_a_question_that_is_given_up_leaves_no_answer_behind(
    postgres_database: str, postgres: Postgres, tmp_path: Path
) -> None:
    name = postgres_database.rpartition("/")[2]
    async with open_records(through(postgres.port, name, timeout_s=20.0), tmp_path) as store:
        await store.write(rows(0, 2_000))

        async def give_up(n: int) -> None:
            task = asyncio.ensure_future(  # noqa: TID251 - the test cancels it
                store.buckets("r0", 0, 10**6, metrics=METRIC_NAMES, edges_ms=1 + n % 7)
            )
            for _ in range(n % 11):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return

        for n in range(60):
            await give_up(n)
            assert [row.id for row in await store.robots()] == ["r0"]
            assert await store.robot("r1") is None
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'edge-gateway%'"

        async def few() -> bool:
            sql = f"{count} AND datname = '{name}'"
            return int(await asyncio.to_thread(postgres.psql, sql)) <= 3

        await until(few)


async def test_many_questions_use_no_more_connections_than_the_pool_and_never_stop_a_write(
    postgres_database: str, postgres: Postgres, tmp_path: Path
) -> None:
    name = postgres_database.rpartition("/")[2]
    async with open_records(through(postgres.port, name, timeout_s=20.0), tmp_path) as store:
        await store.write(rows(0, 2_000))
        async with asyncio.TaskGroup() as tasks:
            for n in range(100):
                tasks.create_task(
                    store.buckets("r0", 0, 10**6, metrics=METRIC_NAMES, edges_ms=1 + n)
                )
            await store.write(rows(5_000))
            sql = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"
            busy = int(await asyncio.to_thread(postgres.psql, sql))
        assert 1 <= busy <= 3


async def test_more_questions_than_may_wait_are_refused(
    postgres_database: str, postgres: Postgres, tmp_path: Path
) -> None:
    name = postgres_database.rpartition("/")[2]
    async with open_records(through(postgres.port, name, timeout_s=20.0), tmp_path) as store:
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(one(store)) for _ in range(300)]
        said = [each.result() for each in asked]
        assert "too many questions to history are waiting" in said
        assert said.count("") >= 100
        await store.ping()


async def one(store: RecordStore) -> str:
    try:
        await store.ping()
    except Unavailable as exc:
        return exc.detail
    return ""
