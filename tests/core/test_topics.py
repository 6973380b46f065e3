"""What a topic means to a site."""

import pytest

from gateway.core.kinds import Kind
from gateway.core.topics import Route, filters, parse


@pytest.mark.parametrize(
    ("topic", "route"),
    [
        pytest.param("smartair/v1/home/r1/pose", Route(Kind.POSE, "r1"), id="pose"),
        pytest.param("smartair/v1/home/r:1/cmd/ack", Route(Kind.ACK, "r:1"), id="ack"),
        pytest.param("smartair/v1/home/r1/cmd", Route(None, "r1"), id="to the robot"),
        pytest.param("smartair/v1/home/r1/x", Route(None, "r1", "UNKNOWN_TOPIC"), id="kind"),
        pytest.param("smartair/v1/home/r1/pose/x", Route(None, "r1", "UNKNOWN_TOPIC"), id="long"),
        pytest.param("smartair/v1/away/r1/pose", Route(None, "r1", "WRONG_SITE"), id="site"),
        pytest.param("smartair/v1/home//pose", Route(None, "", "BAD_ROBOT_ID"), id="no robot"),
        pytest.param("smartair/v1", Route(None), id="the prefix alone"),
        pytest.param("smartair/v11/home/r1/pose", Route(None), id="another prefix"),
        pytest.param("homeassistant/sensor/x/config", Route(None), id="another tree"),
    ],
)
def test_parse(topic: str, route: Route) -> None:
    assert parse(topic, prefix="smartair/v1", site="home") == route


def test_filters_cover_every_kind_and_not_the_commands() -> None:
    assert filters(prefix="p", site="s") == [
        "p/s/+/pose",
        "p/s/+/sensor",
        "p/s/+/state",
        "p/s/+/event",
        "p/s/+/connection",
        "p/s/+/cmd/ack",
    ]
