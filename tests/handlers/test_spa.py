"""The page over HTTP: its policy fits the file, and a second visit costs nothing."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp import AiohttpClient

from handlers.spa import SpaRoutes

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> Client:
    app = web.Application()
    app.add_routes(SpaRoutes(mqtt="mqtt://10.0.0.5:1884", topics='a/"b"/c').routes())
    return await aiohttp_client(app, auto_decompress=False)


class Page(HTMLParser):
    """What the policy is about: inline code, and everything a page could load or run besides."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inline: dict[str, list[str]] = {"script": [], "style": []}
        self.attributes: list[tuple[str, str, str]] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open in self.inline and data.strip():
            self.inline[self._open].append(data)
        self._open = ""


def policy(header: str) -> dict[str, list[str]]:
    return {words[0]: words[1:] for words in (part.split() for part in header.split(";"))}


async def page_of(client: Client) -> tuple[Page, dict[str, list[str]], str]:
    async with client.get("/", headers={"Accept-Encoding": "identity"}) as answer:
        text = await answer.text()
        return Page(text), policy(answer.headers["Content-Security-Policy"]), text


async def test_the_policy_names_exactly_the_inline_code(client: Client) -> None:
    page, rules, _ = await page_of(client)
    for tag in ("script", "style"):
        digests = [hashlib.sha256(text.encode()).digest() for text in page.inline[tag]]
        assert len(digests) == 1
        expected = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
        assert rules[f"{tag}-src"] == expected
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == ["'none'"]
    assert rules["frame-ancestors"] == ["'none'"]
    assert rules["connect-src"] == ["'self'"]
    assert rules["require-trusted-types-for"] == ["'script'"]
    assert not any("unsafe" in word for words in rules.values() for word in words)


async def test_nothing_is_loaded_from_elsewhere_and_no_attribute_is_code(client: Client) -> None:
    page, _, text = await page_of(client)
    for tag, name, value in page.attributes:
        assert name != "style", tag
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "href"):
            assert value.startswith(("data:", "#")), (tag, value)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)


async def test_both_languages_have_every_text(client: Client) -> None:
    _, _, text = await page_of(client)
    words = text[text.index("const WORDS") : text.index("const METRICS")]
    english, korean = words.split("\n  ko: {")
    keys = re.compile(r'(?:^|[,{]\s)\s*"?([a-zA-Z_*]+[\w*-]*)"?: (?=["\[])', re.MULTILINE)
    assert len(keys.findall(english)) > 80
    assert sorted(keys.findall(english)) == sorted(keys.findall(korean))
    for used in re.findall(r'data-[ta]="(\w+)"', text):
        assert used in keys.findall(english), used


async def test_the_gateway_fills_in_where_robots_publish(client: Client) -> None:
    page, _, text = await page_of(client)
    assert ("meta", "data-mqtt", "mqtt://10.0.0.5:1884") in page.attributes
    assert ("meta", "data-topics", 'a/"b"/c') in page.attributes
    assert "@MQTT@" not in text
    assert "@TOPICS@" not in text


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_a_second_visit_is_a_304(client: Client, encoding: str) -> None:
    asked = {"Accept-Encoding": encoding}
    async with client.get("/", headers=asked) as first:
        assert first.status == 200
        assert first.content_type == "text/html"
        assert first.headers.get("Content-Encoding", "identity") == encoding
        assert first.headers["Cache-Control"] == "no-cache"
        tag = first.headers["ETag"]
    async with client.get("/", headers={**asked, "If-None-Match": tag}) as second:
        assert (second.status, await second.read()) == (304, b"")
        assert second.headers["ETag"] == tag
        assert second.headers["Content-Security-Policy"]
    async with client.get("/", headers={**asked, "If-None-Match": '"other"'}) as third:
        assert third.status == 200


async def test_the_encodings_have_different_tags_and_the_packed_one_is_small(
    client: Client,
) -> None:
    async with client.get("/", headers={"Accept-Encoding": "identity"}) as answer:
        plain, tag = await answer.read(), answer.headers["ETag"]
    async with client.get("/", headers={"Accept-Encoding": "br, gzip"}) as answer:
        packed = await answer.read()
        assert answer.headers["ETag"] != tag
    assert len(packed) < len(plain) / 2
    assert len(packed) < 32_768  # one round trip's worth on any network


async def test_the_icon_is_a_picture(client: Client) -> None:
    async with client.get("/favicon.ico") as answer:
        assert answer.content_type == "image/svg+xml"
        assert (await answer.read()).startswith(b"<svg")
