from typing import Annotated

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from msgspec import Meta, Struct

from gateway.core.errors import BadRange, InvalidInput, NotFound
from gateway.web.params import ids_from_body, path_id, path_number, query


class Asked(Struct):
    limit: Annotated[int, Meta(ge=1, le=5)] = 3
    name: str | None = None


def request(url: str = "/", **path: str) -> web.Request:
    return make_mocked_request("GET", url, match_info=path)


def test_a_query_as_a_struct() -> None:
    assert query(request("/?limit=5&name=a&other=1"), Asked) == Asked(5, "a")
    assert query(request("/"), Asked) == Asked()


@pytest.mark.parametrize(
    "text", ["0", "6", "-2", "x", "", "-", "1.5", "1_0", "٣", "9" * 5000, " 1", "true"]
)
def test_a_query_that_does_not_fit_names_its_parameter(text: str) -> None:
    with pytest.raises(BadRange, match=r"^\?limit: "):
        query(request(f"/?limit={text}"), Asked)


@pytest.mark.parametrize("text", ["r1", "A_.:-9", "x" * 64])
def test_path_id(text: str) -> None:
    assert path_id(request(id=text), "id") == text


@pytest.mark.parametrize("text", ["", "a b", "a/b", "é", "x" * 65, "a\n"])
def test_path_id_refuses(text: str) -> None:
    with pytest.raises(NotFound):
        path_id(request(id=text), "id")


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("17", 17), (str(2**63 - 1), 2**63 - 1)])
def test_path_number(text: str, value: int) -> None:
    assert path_number(request(id=text), "id") == value


@pytest.mark.parametrize("text", ["", "-1", "x", "1.0", "٣", str(2**63), "9" * 5000])
def test_path_number_refuses(text: str) -> None:
    with pytest.raises(NotFound):
        path_number(request(id=text), "id")


class Body:
    """A request of which only the body is read."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self) -> bytes:
        return self._data


@pytest.mark.parametrize(
    ("data", "ids"),
    [(b"", None), (b"{}", None), (b'{"ids":[]}', []), (b'{"ids":["17","2"]}', [17, 2])],
)
async def test_ids_from_body(data: bytes, ids: list[int] | None) -> None:
    assert await ids_from_body(Body(data)) == ids  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"{", "$"),
        (b"[]", "$"),
        (b'{"id":["1"]}', "$.id"),
        (b'{"ids":"1"}', "$.ids"),
        (b'{"ids":[1]}', "$.ids[0]"),
        (b'{"ids":["-1"]}', "$.ids[0]"),
        (b'{"ids":["9999999999999999999"]}', "$.ids[0]"),
    ],
)
async def test_ids_from_body_refuses(data: bytes, path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await ids_from_body(Body(data))  # type: ignore[arg-type]
    assert caught.value.path == path
