"""The document of the running gateway: whole, sound, and the same as docs/api.md."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from tests.conformance.rig import furnished
from tests.e2e.process import GatewayProcess
from tests.e2e.test_page import Browser, browsing

DOCS = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with furnished(tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.fixture
def document(gateway: GatewayProcess) -> Any:
    return gateway.get("/api/openapi.json")


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def inside(value: Any, key: str) -> Iterator[Any]:
    """Yield what stands under ``key``, however deep."""
    if isinstance(value, dict):
        for name, member in value.items():
            if name == key:
                yield member
            yield from inside(member, key)
    elif isinstance(value, list):
        for member in value:
            yield from inside(member, key)


def test_every_schema_is_json_schema_and_every_reference_leads_somewhere(document: Any) -> None:
    schemas = document["components"]["schemas"]
    for schema in (*schemas.values(), *inside(document["paths"], "schema")):
        jsonschema_rs.meta.validate(
            {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
        )
    for reference in inside(document, "$ref"):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference


def test_ids_are_unique_and_links_lead_to_them(document: Any) -> None:
    found = list(operations(document))
    by_id = {operation["operationId"]: operation for _, _, operation in found}
    assert len(by_id) == len(found) > 20
    linked = [
        link
        for links in inside(document, "links")
        for link in links.values()
        if isinstance(link, dict) and "operationId" in link  # not a field of that name
    ]
    assert linked
    for link in linked:
        known = {each["name"] for each in by_id[link["operationId"]]["parameters"]}
        assert link["parameters"].keys() <= known, link


def test_examples_are_taken(document: Any, gateway: GatewayProcess) -> None:
    tried = 0
    for method, path, operation in operations(document):
        for body in inside(operation.get("requestBody", {}), "example"):
            answer = gateway.send(method.upper(), path, body)
            assert "code" not in answer, (path, answer)
            tried += 1
    assert tried >= 4


def test_the_table_for_people_lists_the_same_paths(document: Any) -> None:
    def plain(path: str) -> str:
        return re.sub(r"\{\w+\}", "{}", path)

    rows = re.findall(r"^\| ((?:GET|POST|DELETE|WS|PUT)\b[^|]*)\|", DOCS.read_text(), re.MULTILINE)
    listed = {plain(path) for row in rows for path in re.findall(r"/[\w./{}-]*", row)}
    assert listed == {plain(path) for path in document["paths"]}


def test_the_page_shows_every_operation(
    gateway: GatewayProcess, document: Any, tmp_path: Path
) -> None:
    with browsing(tmp_path / "profile", "en-GB,en") as browser:
        browser.driver.get(f"http://127.0.0.1:{gateway.http}/api/docs#sensor_data.post")
        browser.shows("#sensor_data\\.post pre", '"robotId":"r1"')
        shown = browser.run("return [...document.querySelectorAll('main details')].map(e => e.id)")
        wanted = {operation["operationId"] for _, _, operation in operations(document)}
        wanted |= {f"type-{name}" for name in document["components"]["schemas"]}
        assert set(shown) == wanted
        for family in document["tags"]:
            assert heading(browser, family["name"]) != family["name"]
        browser.run("document.querySelector('.lang [value=ko]').click()")
        browser.shows("#robots\\.list_all summary", "알려진 모든 로봇")
        assert re.search("[가-힣]", heading(browser, "sensor_data"))
        assert browser.complaints() == []


def heading(browser: Browser, family: str) -> str:
    text = browser.text(f"#family-{family} h2")
    assert text, family
    return text
