"""The API's document and the page that shows it."""

import base64
import hashlib
import re
from typing import Annotated, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from msgspec import Meta, Struct
from pytest_aiohttp import AiohttpClient

from gateway.core.errors import BadRange, Unavailable
from gateway.web.describe import Link, Media, Operation, Undescribed
from handlers.openapi import OpenApiRoutes

Client = TestClient[web.Request, web.Application]


class Thing(Struct, rename="camel"):
    """What it is.

    Said in ``two`` paragraphs.
    """

    thing_id: str
    weight: Annotated[float, Meta(ge=0, description="kg")] | None = None


class Filter(Struct, rename={"from_": "from"}):
    from_: Annotated[str, Meta(description="where it begins")]
    limit: Annotated[int, Meta(ge=1, le=9)] = 5
    name: str | None = None


class Things:
    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/things/{id:[0-9]+}", self.show),
            web.post("/api/things", self.make),
            web.get("/ws/things", self.socket),
        ]

    @Operation(
        "One thing",
        "하나",
        path={"id": Annotated[int, Meta(ge=0)]},
        query=Filter,
        answers={200: (Thing, list[Thing]), 202: Media("text/plain")},
        errors=[BadRange, Unavailable],
        cached=True,
    )
    async def show(self, _: web.Request) -> web.Response:
        return web.Response()

    @Operation(
        "Make one",
        "만들기",
        body=Thing,
        body_needed=False,
        example={"thingId": "a"},
        answers={201: Thing, 204: None},
        errors=["TOO_HEAVY"],
        links={"it": Link("test_openapi.show", {"id": "$response.body#/thingId"})},
    )
    async def make(self, _: web.Request) -> web.Response:
        return web.Response()

    @Operation("Things as they come", "실시간", answers={101: None}, hears=Thing)
    async def socket(self, _: web.Request) -> web.Response:
        return web.Response()


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> Client:
    app = web.Application()
    app.add_routes(OpenApiRoutes(Things().routes()).routes())
    return await aiohttp_client(app)


@pytest.fixture
async def document(client: Client) -> Any:
    async with client.get("/api/openapi.json") as answer:
        assert answer.content_type == "application/json"
        return await answer.json()


def test_a_route_without_a_description_does_not_start() -> None:
    async def silent(_: web.Request) -> web.Response:
        return web.Response()

    with pytest.raises(Undescribed, match=r"GET /api/silent: put an Operation.*silent"):
        OpenApiRoutes([web.get("/api/silent", silent)])


def test_parameters_have_the_types_that_are_read(document: Any) -> None:
    show = document["paths"]["/api/things/{id}"]["get"]
    assert show["parameters"] == [
        {
            "name": "id",
            "in": "path",
            "required": True,
            "schema": {"type": "integer", "minimum": 0},
        },
        {
            "name": "from",
            "in": "query",
            "required": True,
            "schema": {"type": "string"},
            "description": "where it begins",
        },
        {
            "name": "limit",
            "in": "query",
            "required": False,
            "schema": {"type": "integer", "minimum": 1, "maximum": 9, "default": 5},
        },
        {"name": "name", "in": "query", "required": False, "schema": {"type": "string"}},
        {"name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"}},
    ]


def test_answers_have_the_types_that_are_written(document: Any) -> None:
    reference = {"$ref": "#/components/schemas/Thing"}
    answers = document["paths"]["/api/things/{id}"]["get"]["responses"]
    assert answers["200"]["content"] == {
        "application/json": {
            "schema": {"anyOf": [reference, {"type": "array", "items": reference}]}
        }
    }
    assert answers["202"]["content"] == {"text/plain": {"schema": {"type": "string"}}}
    assert {status for status, each in answers.items() if "ETag" in each.get("headers", {})} == {
        "200",
        "202",
        "304",
    }
    thing = document["components"]["schemas"]["Thing"]
    assert thing["description"] == "What it is.\n\nSaid in `two` paragraphs."
    assert thing["properties"]["thingId"] == {"type": "string"}
    assert thing["required"] == ["thingId"]


def codes(operation: Any) -> dict[str, list[str]]:
    found = {}
    for status, answer in operation["responses"].items():
        problem = answer.get("content", {}).get("application/problem+json")
        if problem is not None:
            reference, code = problem["schema"]["allOf"]
            assert reference == {"$ref": "#/components/schemas/Problem"}
            found[status] = code["properties"]["code"]["enum"]
    return found


def test_errors_are_named_with_those_of_every_route(document: Any) -> None:
    paths = document["paths"]
    assert codes(paths["/api/things/{id}"]["get"]) == {
        "400": ["BAD_RANGE", "INVALID"],
        "403": ["FORBIDDEN"],
        "404": ["NOT_FOUND"],
        "503": ["UNAVAILABLE"],
    }
    assert codes(paths["/api/things"]["post"]) == {
        "400": ["INVALID"],
        "403": ["CROSS_SITE", "FORBIDDEN"],
        "413": ["TOO_LARGE"],
        "422": ["TOO_HEAVY"],
    }
    assert codes(paths["/ws/things"]["get"])["403"] == ["CROSS_SITE", "FORBIDDEN"]


def test_bodies_links_and_messages(document: Any) -> None:
    make = document["paths"]["/api/things"]["post"]
    schema = {"$ref": "#/components/schemas/Thing"}
    assert make["requestBody"] == {
        "required": False,
        "content": {"application/json": {"schema": schema, "example": {"thingId": "a"}}},
    }
    assert make["responses"]["201"]["links"] == {
        "it": {
            "operationId": "test_openapi.show",
            "parameters": {"id": "$response.body#/thingId"},
        }
    }
    assert document["paths"]["/ws/things"]["get"]["x-websocket"] == {"hears": schema}


def test_it_describes_itself_in_two_languages(document: Any) -> None:
    for path in ("/api/openapi.json", "/api/docs"):
        operation = document["paths"][path]["get"]
        assert operation["tags"] == ["openapi"]
        assert re.search("[가-힣]", operation["x-summary-ko"])
    assert [tag["name"] for tag in document["tags"]] == ["test_openapi", "openapi"]


@pytest.mark.parametrize("path", ["/api/openapi.json", "/api/docs"])
async def test_a_second_visit_is_a_304(client: Client, path: str) -> None:
    async with client.get(path) as first:
        assert (first.status, first.headers["Cache-Control"]) == (200, "no-cache")
        tag = first.headers["ETag"]
    async with client.get(path, headers={"If-None-Match": tag}) as second:
        assert (second.status, await second.read()) == (304, b"")
        assert second.headers["ETag"] == tag


async def test_the_page_runs_its_own_script_and_no_other(client: Client) -> None:
    async with client.get("/api/docs") as answer:
        page, policy = await answer.text(), answer.headers["Content-Security-Policy"]
    for tag in ("script", "style"):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)
    assert not re.search(r"\sstyle=|\son\w+=|innerHTML|outerHTML|\beval\(", page)


async def test_both_languages_have_every_text(client: Client) -> None:
    async with client.get("/api/docs") as answer:
        page = await answer.text()
    english, korean = page[page.index("const WORDS") : page.index("const METHODS")].split("  ko: {")
    keys = re.compile(r'(?:^|[,{]\s)\s*"?([a-zA-Z_:]+)"?: (?=")', re.MULTILINE)
    assert len(keys.findall(english)) > 30
    assert keys.findall(english) == keys.findall(korean)
