"""History behind the real application, on the real store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.model import Http, SqliteRecords
from gateway.records.open import open_records
from gateway.records.port import RecordStore
from gateway.services.history import History
from gateway.web.access import Access
from gateway.web.app import build_app
from handlers.sensor_data import SensorDataRoutes
from tests.handlers.history_rig import NOW, Client, ClientMaker, StoreIntake


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[RecordStore]:
    async with open_records(SqliteRecords(), tmp_path) as opened:
        yield opened


@pytest.fixture
def intake(store: RecordStore) -> StoreIntake:
    return StoreIntake(store)


@pytest.fixture
async def client(store: RecordStore, intake: StoreIntake, aiohttp_client: ClientMaker) -> Client:
    history = History(store, intake, timezone="Asia/Seoul", now_ms=lambda: NOW)
    routes = SensorDataRoutes(history).routes()
    access = Access.on_loopback("127.0.0.1")
    app = build_app(routes, http=Http(), on_drain=lambda: None, access=access)
    return await aiohttp_client(app)
