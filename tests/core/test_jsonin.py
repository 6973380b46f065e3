"""What clients send as JSON."""

import msgspec
import pytest
from msgspec import Struct

from gateway.core.errors import InvalidInput
from gateway.core.jsonin import read_json


class Body(Struct):
    x: int


@pytest.mark.parametrize(
    ("data", "path"),
    [
        pytest.param(b'{"x": "1"}', "$.x", id="type"),
        pytest.param(b"{}", "$.x", id="missing"),
        pytest.param(b"{", "$", id="cut"),
        pytest.param(b'{"y":' + b"[" * 60_000, "$", id="nested by the thousand"),
    ],
)
def test_bad_bodies_are_named(data: bytes, path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_json(data, msgspec.json.Decoder(Body))
    assert caught.value.path == path
