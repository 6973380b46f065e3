"""The stream and the gatherer together: what a store did not take comes again."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.aio.supervisor import Supervisor
from gateway.config.model import KafkaStream
from gateway.core.shared import decode
from gateway.services.gather import Gather
from gateway.state.memory import MemoryStateStore
from tests.services.kafka import Kafka
from tests.stream.consumer_rig import (
    Put,
    committed,
    config,
    put,
    reading,
    topics,
    until,
)


@asynccontextmanager
async def gathering(
    made: KafkaStream, store: MemoryStateStore, buried: list[str]
) -> AsyncIterator[Gather]:
    """Copy the stream into ``store`` while the block lasts."""
    async with reading(made) as reader, Supervisor() as tasks:
        gather = Gather(
            reader.consumer,
            store,
            bury=lambda topic, robot, code, detail, payload: buried.append(code),
            now_ms=lambda: time.time_ns() // 1_000_000,
            heard=lambda records: None,
        )
        tasks.spawn("gather", gather.run)
        yield gather


async def test_what_was_not_written_is_not_committed_and_comes_again(kafka: Kafka) -> None:
    made = config(kafka.servers)
    await topics(kafka, made)
    store, buried = MemoryStateStore(), list[str]()
    now = time.time_ns() // 1_000_000
    robots, each = 20, 50
    records = [
        Put("pose", f"r{robot}", json.dumps({"x": n, "y": 0, "ts": now + n, "seq": n}).encode())
        for n in range(each)
        for robot in range(robots)
    ]
    store.sever(True)
    async with gathering(made, store, buried) as gather:
        await put(kafka, made, records)
        await until(lambda: bool(gather.failing))
        assert all(line.unaccounted == 0 for _, _, line in gather.lines())
        assert gather.figures()["pending"] > 0
    assert await committed(kafka, made) == 0
    store.sever(False)
    async with gathering(made, store, buried) as gather:
        await until(lambda: gather.figures()["records"] == robots * each)
        await put(kafka, made, [Put("event", None, b"poison"), Put("state", "r1", None)])
        await until(lambda: len(buried) == 2)
        async with asyncio.timeout(60):
            while (at := await committed(kafka, made)) < robots * each + 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert at == robots * each + 2
        assert sorted(buried) == ["BAD_ROBOT_ID", "NOT_JSON"]
        assert all(line.unaccounted == 0 for _, _, line in gather.lines())
        assert gather.figures()["pending"] == 0
    poses = {robot: decode(value) for robot, value in (await store.newest("pose")).items()}
    assert {robot: json.loads(value.payload)["x"] for robot, value in poses.items()} == {
        f"r{robot}": each - 1 for robot in range(robots)
    }
