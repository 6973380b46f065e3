"""Requests that clients rarely send, and scanners often: byte by byte over a real socket."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from gateway.config.model import Http
from gateway.web.access import Access
from gateway.web.app import build_app, listening

Ask = Callable[[bytes], Awaitable[tuple[int, dict[str, str], bytes]]]

HOST = b"Host: localhost\r\nConnection: close\r\n"


async def _ok(_: web.Request) -> web.Response:
    return web.Response(text="ok")


async def _size(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.read())))


@pytest.fixture
async def ask() -> AsyncIterator[Ask]:
    http = Http(port=0, drain_s=0.2, max_body_bytes=10_000)
    routes = [web.get("/thing", _ok), web.post("/body", _size), web.delete("/{id:[0-9]+}", _ok)]
    access = Access.on_loopback("127.0.0.1")
    app = build_app(routes, http=http, on_drain=lambda: None, access=access)
    async with listening(app, http) as (host, port):

        async def send(request: bytes) -> tuple[int, dict[str, str], bytes]:
            reader, writer = await asyncio.open_connection(host, port)
            async with asyncio.timeout(5):
                writer.write(request)
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                writer.close()
                await writer.wait_closed()
            first, *rest = head.decode().split("\r\n")
            return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body

        yield send


async def test_options_of_the_whole_server(ask: Ask) -> None:
    status, headers, body = await ask(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (status, headers["Allow"], body) == (204, "DELETE,GET,HEAD,OPTIONS,POST", b"")


async def test_this_is_no_proxy(ask: Ask) -> None:
    status, headers, _ = await ask(b"CONNECT localhost:443 HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (status, headers["Allow"]) == (405, "DELETE,GET,HEAD,OPTIONS,POST")
    assert (await ask(b"CONNECT /thing HTTP/1.1\r\n" + HOST + b"\r\n"))[0] == 400


@pytest.mark.parametrize("method", [b"POST", b"OPTIONS", b"TRACE", b"PROPFIND", b"QUERY"])
@pytest.mark.parametrize(
    ("path", "allow"), [(b"/thing/", "GET,HEAD"), (b"/7", "DELETE"), (b"/body", "POST")]
)
async def test_a_wrong_method_names_the_right_ones(
    ask: Ask, method: bytes, path: bytes, allow: str
) -> None:
    status, headers, body = await ask(method + b" " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    if method.decode() in allow:
        assert (status, body) == (200, b"0")
    else:
        assert (status, headers["Allow"]) == (405, allow)


async def test_head_is_get_without_the_body(ask: Ask) -> None:
    got = await ask(b"GET /thing HTTP/1.1\r\n" + HOST + b"\r\n")
    told = await ask(b"HEAD /thing HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (got[0], got[2]) == (200, b"ok")
    assert (told[0], told[2]) == (200, b"")
    assert got[1].keys() == told[1].keys()
    assert told[1]["Content-Length"] == "2"


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://localhost/thing", 200),
        (b"http://LOCALHOST:80/thing", 200),
        (b"http://evil.example/thing", 400),
        (b"http://127.0.0.1/thing", 400),
    ],
)
async def test_an_absolute_target_and_host_name_one_host(
    ask: Ask, target: bytes, status: int
) -> None:
    assert (await ask(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n"))[0] == status


PACKED = gzip.compress(b"x" * 100, mtime=0)


@pytest.mark.parametrize(
    ("encoding", "body", "status", "code"),
    [
        pytest.param(b"gzip", PACKED, 200, b"100", id="packed"),
        pytest.param(b"gzip", b"not gzip", 400, "INVALID", id="not gzip"),
        pytest.param(b"deflate", b"xx", 400, "INVALID", id="not deflate"),
        pytest.param(b"gzip", gzip.compress(b"0" * 9_000_000), 413, "TOO_LARGE", id="bomb"),
    ],
)
async def test_packed_bodies(
    ask: Ask,
    caplog: pytest.LogCaptureFixture,
    encoding: bytes,
    body: bytes,
    status: int,
    code: str | bytes,
) -> None:
    head = b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (encoding, len(body))
    got = await ask(b"POST /body HTTP/1.1\r\n" + HOST + head + body)
    assert (got[0], got[2] if status == 200 else json.loads(got[2])["code"]) == (status, code)
    await ask(b"GET /thing HTTP/1.1\r\n" + HOST + head + body)  # nobody reads it there
    assert caplog.text == ""
