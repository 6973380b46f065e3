"""What the API's document says of these parameters is what their readers do."""

import re

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.core.errors import InvalidInput
from gateway.web.livequery import EventQuery, PoseQuery, choice_query, resume_query, robots_query


def request(**query: str) -> web.Request:
    names = "&".join(f"{name}={value}" for name, value in query.items())
    return make_mocked_request("GET", f"/?{names}")


def documented(kind: type[msgspec.Struct], **query: str) -> bool:
    try:
        msgspec.convert(query, kind, strict=False)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "robots"),
    [
        ("", None),
        ("r1", {"r1"}),
        ("r1,r2", {"r1", "r2"}),
        (",r1,,r2,", {"r1", "r2"}),
        (",", None),
        ("x" * 64, {"x" * 64}),
    ],
)
def test_robots(text: str, robots: set[str] | None) -> None:
    assert robots_query(request(robotId=text)) == robots
    assert documented(PoseQuery, robotId=text)
    assert documented(EventQuery, robotId=text)


@pytest.mark.parametrize("text", ["r 1", "r1;r2", "é", "x" * 65, "r1, r2"])
def test_robots_that_can_be_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="robot ids"):
        robots_query(request(robotId=text))
    assert not documented(PoseQuery, robotId=text)


@pytest.mark.parametrize("text", ["sensor", "sensor,state", "alert,,map,", ""])
def test_types(text: str) -> None:
    choice, _ = choice_query(request(types=text))
    assert choice.types == (frozenset(re.findall(r"\w+", text)) or None)
    assert documented(EventQuery, types=text)


@pytest.mark.parametrize("text", ["pose", "sensor,pose", "sensor state"])
def test_types_that_do_not_exist(text: str) -> None:
    with pytest.raises(InvalidInput, match="no such type"):
        choice_query(request(types=text))
    assert not documented(EventQuery, types=text)


@pytest.mark.parametrize("text", ["0", "17", "9" * 18])
def test_offsets(text: str) -> None:
    assert resume_query(request(epoch="e", offset=text)) == ("e", int(text))
    assert documented(PoseQuery, epoch="e", offset=text)


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "", "9" * 19])
def test_offsets_that_can_be_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="whole number"):
        resume_query(request(epoch="e", offset=text))
    assert not documented(PoseQuery, epoch="e", offset=text)
