"""What the tests of /api/sensor-data share."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestClient

from gateway.core.errors import Unavailable
from gateway.core.payloads import Sensor
from gateway.records.port import ReadingRow, RecordStore, Writes

NOW = 1_732_320_000_000  # 2024-11-23T00:00:00Z
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

Client = TestClient[web.Request, web.Application]
ClientMaker = Callable[[web.Application], Awaitable[Client]]


@dataclass
class StoreIntake:
    """Straight into the store: the journal between is not what is tested here."""

    store: RecordStore
    down: bool = False
    calls: list[int] = field(default_factory=list)

    async def submit_sensor(self, items: Sequence[tuple[str, Sensor]]) -> None:
        if self.down:
            raise Unavailable("the journal is not writing", dependency="journal")
        self.calls.append(len(items))
        await self.store.write(Writes(readings=[_row(robot, one) for robot, one in items]))


def _row(robot: str, reading: Sensor) -> ReadingRow:
    values = msgspec.structs.asdict(reading)
    return ReadingRow(robot=robot, rts=NOW, **values)


async def get(client: Client, path: str, status: int = 200) -> Any:
    async with client.get(path) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def post(client: Client, path: str, body: Any, status: int = 202) -> Any:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    async with client.post(path, data=data) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()
