"""Cuts on purpose, and that they end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from gateway.config.model import Http
from gateway.services.drill import Drill
from gateway.web.access import Access
from gateway.web.app import build_app
from handlers.drill import DrillRoutes

Client = TestClient[web.Request, web.Application]

NOW = 1_732_320_000_000  # 2024-11-23T00:00:00Z


class Links:
    """What is cut, as the ports were told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []
        self.drill = Drill(
            {name: self.sever(name) for name in ("records", "broker")}, now_ms=lambda: NOW
        )

    def sever(self, name: str) -> Callable[[bool], None]:
        return lambda cut: self.told.append((name, cut))


@pytest.fixture
def links() -> Links:
    return Links()


@pytest.fixture
async def client(
    links: Links, aiohttp_client: Callable[[web.Application], Awaitable[Client]]
) -> Client:
    routes = DrillRoutes(links.drill).routes()
    access = Access.on_loopback("127.0.0.1")
    return await aiohttp_client(
        build_app(routes, http=Http(), on_drain=lambda: None, access=access)
    )


async def ask(client: Client, method: str, body: Any = None, status: int = 200) -> Any:
    async with client.request(method, "/api/admin/drill", json=body) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def test_a_cut_heals_by_itself(client: Client, links: Links) -> None:
    said = await ask(client, "POST", {"link": "records", "seconds": 0.05})
    assert said == {
        "link": "records",
        "since": "2024-11-23T00:00:00.000Z",
        "until": "2024-11-23T00:00:00.050Z",
        "available": ["broker", "records"],
    }
    await client.close()  # whoever asked is gone
    async with asyncio.timeout(20):
        while links.drill.link:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
    assert links.told == [("records", True), ("records", False)]
    assert links.drill.figures() == {"cuts": 1, "cut": 0}


async def test_one_at_a_time_and_an_end_on_demand(client: Client, links: Links) -> None:
    await ask(client, "POST", {"link": "broker", "seconds": 600})
    refused = await ask(client, "POST", {"link": "records", "seconds": 1}, status=409)
    assert (refused["code"], "broker" in refused["detail"]) == ("CONFLICT", True)
    assert (await ask(client, "GET"))["link"] == "broker"
    idle = {"link": None, "since": None, "until": None, "available": ["broker", "records"]}
    assert await ask(client, "DELETE") == idle
    assert await ask(client, "DELETE") == idle
    assert await ask(client, "GET") == idle
    assert links.told == [("broker", True), ("broker", False)]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"link": "disk", "seconds": 1}, "$.link"),
        ({"link": "records"}, "$.seconds"),
        ({"link": "records", "seconds": 0}, "$.seconds"),
        ({"link": "records", "seconds": 601}, "$.seconds"),
        ({"link": "records", "seconds": "60s"}, "$.seconds"),
        ({"link": "records", "seconds": 1, "hard": True}, "$.hard"),
        ([], "$"),
    ],
)
async def test_what_is_no_order_is_refused(
    client: Client, links: Links, body: Any, path: str
) -> None:
    refused = await ask(client, "POST", body, status=400)
    assert (refused["code"], refused["path"]) == ("INVALID", path)
    assert links.told == []


async def test_a_link_that_is_not_there_is_named(client: Client, links: Links) -> None:
    refused = await ask(client, "POST", {"link": "kafka", "seconds": 1}, status=422)
    assert (refused["code"], refused["path"]) == ("NO_SUCH_LINK", "$.link")
    assert '[stream] backend is "none"' in refused["detail"]
    assert "broker, records" in refused["detail"]
    assert links.told == []


async def test_a_link_that_cannot_be_cut_does_not_stay_half_cut() -> None:
    told: list[bool] = []

    def sever(cut: bool) -> None:
        told.append(cut)
        if cut:
            raise OSError("no")

    drill = Drill({"records": sever}, now_ms=lambda: NOW)
    with pytest.raises(OSError, match="no"):
        drill.cut("records", 1.0)
    assert (told, drill.link) == ([True, False], "")
