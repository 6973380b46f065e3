import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from gateway.config.model import Http
from gateway.core.errors import Unavailable, Unprocessable
from gateway.web.access import Access
from gateway.web.app import CannotListen, build_app, listening

LOCAL = Access.on_loopback("127.0.0.1")


async def _ok(_: web.Request) -> web.Response:
    return web.Response(text="ok")


async def _down(_: web.Request) -> web.Response:
    raise Unavailable("history does not answer", retry_after_s=2.5, dependency="records")


async def _cannot_be(_: web.Request) -> web.Response:
    raise Unprocessable("too hot", reason="OUT_OF_RANGE", path="$.temp")


async def _bug(_: web.Request) -> web.Response:
    raise ZeroDivisionError("secret 42")


async def _body(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.read())))


async def _page(_: web.Request) -> web.Response:
    return web.Response(text="x", headers={"Content-Security-Policy": "default-src 'self'"})


async def _breaks_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"first")
    raise ZeroDivisionError


async def _socket(request: web.Request) -> web.StreamResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    await ws.close()
    return ws


ROUTES = [
    web.get("/", _ok),
    web.get("/api/thing", _ok),
    web.post("/api/thing", _ok),
    web.get("/api/slash/", _ok),
    web.get("/api/named/{name}", _ok, name="named"),
    web.get("/down", _down),
    web.get("/cannot", _cannot_be),
    web.get("/bug", _bug),
    web.post("/body", _body),
    web.get("/page", _page),
    web.get("/breaks", _breaks_off),
    web.get("/ws", _socket),
]


def _drained() -> None:
    return None


@asynccontextmanager
async def serving(
    http: Http | None = None,
    routes: list[web.RouteDef] = ROUTES,
    on_drain: Callable[[], None] = _drained,
) -> AsyncIterator[aiohttp.ClientSession]:
    http = http or Http(port=0, drain_s=0.2)
    app = build_app(routes, http=http, on_drain=on_drain, access=LOCAL)
    async with (
        listening(app, http) as (host, port),
        aiohttp.ClientSession(base_url=f"http://{host}:{port}") as client,
    ):
        yield client


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with serving() as session:
        yield session


@pytest.mark.parametrize(
    "path", ["/", "/api/thing", "/api/thing/", "/api/slash", "/api/slash/", "/api/named/a/"]
)
async def test_a_last_slash_changes_nothing(client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(path, allow_redirects=False) as answer:
        assert (answer.status, await answer.text()) == (200, "ok")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("GET", "/nothing", 404, "NOT_FOUND", id="unknown path"),
        pytest.param("DELETE", "/api/thing", 405, "METHOD_NOT_ALLOWED", id="method"),
        pytest.param("GET", "/down", 503, "UNAVAILABLE", id="dependency"),
        pytest.param("GET", "/cannot", 422, "OUT_OF_RANGE", id="reason is the code"),
        pytest.param("GET", "/bug", 500, "INTERNAL", id="bug"),
    ],
)
async def test_failures_are_problem_documents(
    client: aiohttp.ClientSession, method: str, path: str, status: int, code: str
) -> None:
    async with client.request(method, path) as answer:
        assert answer.content_type == "application/problem+json"
        body = await answer.json()
        assert (answer.status, body["status"], body["code"]) == (status, status, code)
        assert {"type", "title", "detail", "traceId"} <= body.keys()
        assert "42" not in body["detail"]  # a bug's text stays inside


async def test_405_names_the_methods(client: aiohttp.ClientSession) -> None:
    async with client.delete("/api/thing/") as answer:
        assert answer.headers["Allow"] == "GET,HEAD,POST"


async def test_503_names_the_dependency_and_when_to_come_back(
    client: aiohttp.ClientSession,
) -> None:
    async with client.get("/down") as answer:
        assert answer.headers["Retry-After"] == "3"
        assert (await answer.json())["dependency"] == "records"


async def test_a_bug_is_logged_with_the_trace_id_of_the_answer(
    client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    async with client.get("/bug") as answer:
        assert (await answer.json())["traceId"] in caplog.text


@pytest.mark.parametrize(("size", "status"), [(100, 200), (101, 413)])
async def test_a_body_over_the_limit_is_413(size: int, status: int) -> None:
    async with (
        serving(Http(port=0, drain_s=0.2, max_body_bytes=100)) as client,
        client.post("/body", data=b"x" * size) as answer,
    ):
        assert answer.status == status
        if status == 413:
            assert (await answer.json())["code"] == "TOO_LARGE"


async def test_an_answer_that_breaks_after_its_first_byte_does_not_look_complete(
    client: aiohttp.ClientSession,
) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        async with client.get("/breaks") as answer:
            await answer.read()


@pytest.mark.parametrize("path", ["/api/thing", "/nothing", "/bug", "/ws"])
async def test_every_answer_is_hardened(client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(path) as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "Server" not in answer.headers
        assert (answer.headers.get("Cache-Control") == "no-store") == path.startswith("/api")


async def test_a_page_keeps_its_own_policy(client: aiohttp.ClientSession) -> None:
    async with client.get("/page") as answer:
        assert answer.headers.getall("Content-Security-Policy") == ["default-src 'self'"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:1234", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:80", 200),
        ("[::1]:8080", 200),
        ("evil.example", 403),
        ("evil.example:8080", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.2", 403),
        ("user@localhost", 400),
        ("localhost, evil.example", 400),
        ("localhost/x", 400),
        ("", 400),
    ],
)
async def test_only_our_own_host_names_are_answered(
    client: aiohttp.ClientSession, host: str, status: int
) -> None:
    async with client.get("/api/thing", headers={"Host": host}) as answer:
        assert answer.status == status
        if status == 403:
            assert (await answer.json())["code"] == "FORBIDDEN"


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.mark.parametrize("what", ["GET", "POST", "socket"])
@pytest.mark.parametrize(
    ("origin", "ours"),
    [
        (None, True),
        ("http://localhost:8080", True),
        ("http://LOCALHOST:8080", True),
        ("http://localhost", False),
        ("http://127.0.0.1:8080", False),
        ("https://evil.example", False),
        ("http://localhost:8080.evil.example", False),
        ("http://a@localhost:8080", False),
        ("null", False),
        ("", False),
    ],
)
async def test_other_origins_only_read(
    client: aiohttp.ClientSession, what: str, origin: str | None, *, ours: bool
) -> None:
    headers = {"Host": "localhost:8080"} | ({} if origin is None else {"Origin": origin})
    method, path, fine = {
        "GET": ("GET", "/api/thing", 200),
        "POST": ("POST", "/api/thing", 200),
        "socket": ("GET", "/ws", 101),
    }[what]
    headers |= UPGRADE if what == "socket" else {}
    async with client.request(method, path, headers=headers) as answer:
        if ours or what == "GET":
            assert answer.status == fine
        else:
            assert (answer.status, (await answer.json())["code"]) == (403, "CROSS_SITE")


async def test_the_default_port_may_be_left_out(client: aiohttp.ClientSession) -> None:
    headers = {"Host": "localhost", "Origin": "http://localhost:80"}
    async with client.post("/api/thing", headers=headers) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"BOGUS\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS on the plain port
    ],
)
async def test_what_is_not_http_is_answered_and_closed(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    http = Http(port=0, drain_s=0.2)
    app = build_app(ROUTES, http=http, on_drain=_drained, access=LOCAL)
    async with listening(app, http) as (host, port), asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(sent)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    assert head.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert b"\r\nServer:" not in head
    assert json.loads(body)["code"] == "INVALID"
    assert caplog.text == ""  # whoever scans the port does not fill the log


async def test_http_1_1_needs_a_host() -> None:
    http = Http(port=0, drain_s=0.2)
    app = build_app(ROUTES, http=http, on_drain=_drained, access=LOCAL)
    async with listening(app, http) as (host, port), asyncio.timeout(5):
        for sent, status in [
            (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\nConnection: close\r\nHost: a\r\nHost: localhost\r\n\r\n", b"400"),
            (b"GET / HTTP/1.0\r\n\r\n", b"200"),
        ]:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(sent)
            assert (await reader.read()).split()[1] == status
            writer.close()
            await writer.wait_closed()


async def test_a_taken_port_is_named_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        http = Http(port=port)
        app = build_app([], http=http, on_drain=_drained, access=LOCAL)
        with pytest.raises(CannotListen) as caught:
            async with listening(app, http):
                pytest.fail("listened on a port that was taken")
        assert str(caught.value) == (
            f"cannot listen on 127.0.0.1:{port}: address already in use; "
            "choose another with --set http.port=..."
        )


async def test_drain_ends_streams_before_handlers_are_waited_for() -> None:
    entered, drained = asyncio.Event(), asyncio.Event()

    async def stream(_: web.Request) -> web.Response:
        entered.set()
        await drained.wait()
        return web.Response(text="ended")

    http = Http(port=0, drain_s=30.0)
    app = build_app([web.get("/stream", stream)], http=http, on_drain=drained.set, access=LOCAL)
    async with asyncio.timeout(5), aiohttp.ClientSession() as client, asyncio.TaskGroup() as group:
        async with listening(app, http) as (host, port):
            waiting = group.create_task(_text(client, f"http://{host}:{port}/stream"))
            await entered.wait()
        assert await waiting == "ended"


async def _text(client: aiohttp.ClientSession, url: str) -> str:
    async with client.get(url) as answer:
        return await answer.text()
