from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from gateway.config.model import Http, SqliteRecords
from gateway.core.payloads import Connection, State
from gateway.records.open import open_records
from gateway.records.port import RecordStore, RobotRow, Writes
from gateway.services.robots import Robots
from gateway.web.access import Access
from gateway.web.app import build_app
from handlers.robots import RobotRoutes

Client = TestClient[web.Request, web.Application]
ClientMaker = Callable[[web.Application], Awaitable[Client]]


@dataclass
class Seen:
    id: str
    last_seen: int = 2_000
    pose: dict[str, Any] | None = None
    state: State | None = None
    connection: Connection | None = None
    online: bool = True


@dataclass
class LiveView:
    """What the live view would say."""

    seen: dict[str, Seen] = field(default_factory=dict)

    def robot(self, robot: str) -> Seen | None:
        return self.seen.get(robot)

    def robots(self) -> list[Seen]:
        return list(self.seen.values())


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[RecordStore]:
    async with open_records(SqliteRecords(), tmp_path) as opened:
        yield opened


@pytest.fixture
def live() -> LiveView:
    return LiveView()


@pytest.fixture
async def client(store: RecordStore, live: LiveView, aiohttp_client: ClientMaker) -> Client:
    routes = RobotRoutes(Robots(store, live)).routes()
    access = Access.on_loopback("127.0.0.1")
    app = build_app(routes, http=Http(), on_drain=lambda: None, access=access)
    return await aiohttp_client(app)


async def get(client: Client, path: str, status: int = 200) -> Any:
    async with client.get(path) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


STORED = RobotRow(
    id="r1",
    last_seen=1_000,
    connection="online",
    state="docked",
    battery=90.0,
    name="Robi",
    model="A1",
    firmware="1.0",
    map_id="f1",
    pose='{"id":"r1","mapId":"f1","x":1.5}',
)


async def test_a_robot_that_only_history_knows_is_offline(
    client: Client, store: RecordStore
) -> None:
    await store.write(Writes(robots=[STORED]))
    assert await get(client, "/api/robots/r1/") == {
        "id": "r1",
        "name": "Robi",
        "model": "A1",
        "firmware": "1.0",
        "mapId": "f1",
        "online": False,
        "lastSeen": "1970-01-01T00:00:01.000Z",
        "pose": {"id": "r1", "mapId": "f1", "x": 1.5},
        "battery": 90.0,
        "state": "docked",
    }


async def test_the_live_view_wins_where_it_says_something(
    client: Client, store: RecordStore, live: LiveView
) -> None:
    await store.write(Writes(robots=[STORED]))
    pose = {"id": "r1", "mapId": "f2", "x": 2.5}
    live.seen["r1"] = Seen(
        "r1", pose=pose, state=State("cleaning"), connection=Connection("online", fw="1.1")
    )
    assert await get(client, "/api/robots/r1") == {
        "id": "r1",
        "name": "Robi",
        "model": "A1",
        "firmware": "1.1",
        "mapId": "f2",
        "online": True,
        "lastSeen": "1970-01-01T00:00:02.000Z",
        "pose": pose,
        "battery": 90.0,  # the new state says nothing of it
        "state": "cleaning",
    }


async def test_a_robot_that_history_does_not_know_yet(client: Client, live: LiveView) -> None:
    live.seen["r9"] = Seen("r9", state=State("idle", battery=0.0))
    found = await get(client, "/api/robots/r9")
    assert (found["online"], found["state"], found["battery"]) == (True, "idle", 0.0)
    assert (found["pose"], found["name"], found["mapId"]) == (None, None, None)


async def test_the_list_has_both_by_id(client: Client, store: RecordStore, live: LiveView) -> None:
    await store.write(Writes(robots=[RobotRow(id=name, last_seen=1) for name in ("c", "a")]))
    live.seen = {name: Seen(name) for name in ("d", "b", "c")}
    page = await get(client, "/api/robots/")
    assert [(robot["id"], robot["online"]) for robot in page["items"]] == [
        ("a", False),
        ("b", True),
        ("c", True),
        ("d", True),
    ]
    assert page["cursor"] is None


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5])
async def test_pages_give_every_robot_once(client: Client, live: LiveView, limit: int) -> None:
    live.seen = {name: Seen(name) for name in ("d", "b", "c", "a")}
    page = await get(client, f"/api/robots?limit={limit}")
    names = [robot["id"] for robot in page["items"]]
    while page["cursor"] is not None:
        page = await get(client, f"/api/robots?limit={limit}&cursor={page['cursor']}")
        names += [robot["id"] for robot in page["items"]]
    assert names == ["a", "b", "c", "d"]


@pytest.mark.parametrize("question", ["limit=0", "limit=1001", "limit=x", "cursor=%20", "cursor="])
async def test_a_page_that_makes_no_sense(client: Client, question: str) -> None:
    assert (await get(client, f"/api/robots?{question}", 400))["code"] == "BAD_RANGE"


@pytest.mark.parametrize("name", ["nobody", "a%20b", "%2e%2e%2f"])
async def test_an_unknown_robot_is_404(client: Client, name: str) -> None:
    assert (await get(client, f"/api/robots/{name}", 404))["code"] == "NOT_FOUND"
