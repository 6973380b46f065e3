"""What a topic means to a site."""

import pytest

from gateway.core.kinds import Kind
from gateway.core.topics import Route, canary_topic, filters, parse


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


@pytest.mark.parametrize(
    ("topic", "box", "route"),
    [
        pytest.param("p/s/b1/canary", "b1", Route(Kind.CANARY, "b1"), id="ours"),
        pytest.param("p/s/b2/canary", "b1", Route(None, "b2", "UNKNOWN_TOPIC"), id="another box"),
        pytest.param("p/s/r1/canary", "", Route(None, "r1", "UNKNOWN_TOPIC"), id="no canaries"),
        pytest.param("p/t/b1/canary", "b1", Route(None, "b1", "WRONG_SITE"), id="another site"),
        pytest.param("p/s/b1/canary/x", "b1", Route(None, "b1", "UNKNOWN_TOPIC"), id="long"),
        pytest.param("p/s/b1/pose", "b1", Route(Kind.POSE, "b1"), id="a robot of that name"),
    ],
)
def test_a_canary_is_taken_from_its_own_box_only(topic: str, box: str, route: Route) -> None:
    assert parse(topic, prefix="p", site="s", box=box) == route


def test_a_box_hears_its_own_canaries() -> None:
    topic = canary_topic(prefix="p", site="s", box="b1")
    assert filters(prefix="p", site="s", box="b1") == [*filters(prefix="p", site="s"), topic]
    assert parse(topic, prefix="p", site="s", box="b1").kind is Kind.CANARY


def test_filters_cover_every_kind_and_not_the_commands() -> None:
    assert filters(prefix="p", site="s") == [
        "p/s/+/pose",
        "p/s/+/sensor",
        "p/s/+/state",
        "p/s/+/event",
        "p/s/+/connection",
        "p/s/+/cmd/ack",
    ]
