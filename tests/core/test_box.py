"""What a gateway is called."""

import pytest

from gateway.core.box import box_id, client_id
from gateway.core.topics import ID


@pytest.mark.parametrize(
    ("configured", "host", "name"),
    [
        pytest.param("kitchen", "edge", "kitchen", id="as configured"),
        pytest.param("", "edge-1.local", "edge-1.local-0123ab", id="host and epoch"),
        pytest.param("", "my box/한글", "my-box----0123ab", id="other characters"),
        pytest.param("", "", "box-0123ab", id="no host name"),
        pytest.param("", "h" * 80, "h" * 57 + "-0123ab", id="long"),
    ],
)
def test_box_id(configured: str, host: str, name: str) -> None:
    found = box_id(configured, host, "0123ab4567cdef89")
    assert found == name
    assert ID.fullmatch(found)


def test_client_ids_differ_and_do_not_depend_on_the_host() -> None:
    assert client_id("home", "kitchen", "0123ab4567cdef89") == "edge-gateway-home-kitchen"
    assert client_id("home", "", "0123ab4567cdef89") == "edge-gateway-home-0123ab"
