"""What a gateway is called."""

import pytest

from gateway.core.box import box_id
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
