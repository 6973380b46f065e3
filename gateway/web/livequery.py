"""Query parameters of the live view."""

from typing import Annotated, Final

from aiohttp import hdrs, web
from msgspec import Meta, Struct

from gateway.core.errors import InvalidInput
from gateway.core.topics import ID
from gateway.services.live_happening import TYPES, Choice

MAX_ROBOTS: Final = 1_000
MAX_OFFSET_DIGITS: Final = 18

_ONE: Final = "[A-Za-z0-9_.:-]{1,64}"
_Robots = Annotated[
    str,
    Meta(pattern=f"^,*({_ONE}(,+{_ONE})*)?,*$", description="ids with commas; all by default"),
]
_TYPE: Final = f"({'|'.join(sorted(TYPES))})"
_Types = Annotated[
    str,
    Meta(pattern=f"^,*({_TYPE}(,+{_TYPE})*)?,*$", description="with commas; all by default"),
]


class PoseQuery(Struct, frozen=True, rename="camel"):
    """What ``robots_query`` and ``resume_query`` read."""

    robot_id: _Robots | None = None
    epoch: Annotated[str, Meta(description="with offset: resume there")] | None = None
    offset: Annotated[int, Meta(ge=0, le=10**MAX_OFFSET_DIGITS - 1)] | None = None


class EventQuery(Struct, frozen=True, rename="camel"):
    """What ``choice_query`` reads."""

    types: _Types | None = None
    robot_id: _Robots | None = None
    last_event_id: Annotated[str, Meta(description="resume after that event")] | None = None


class EventHeaders(Struct, frozen=True, rename={"last_event_id": "Last-Event-ID"}):
    """The header that browsers send by themselves when they come back."""

    last_event_id: Annotated[str, Meta(description="resume after that event")] | None = None


def robots_query(request: web.Request) -> frozenset[str] | None:
    """Return ``?robotId=a,b``; None: all."""
    names = _names(request, "robotId")
    if len(names) > MAX_ROBOTS or not all(map(ID.fullmatch, names)):
        raise InvalidInput("robot ids, separated by commas, at most 1000", path="?robotId")
    return frozenset(names) or None


def resume_query(request: web.Request) -> tuple[str, int] | None:
    """Return ``?epoch=&offset=``, None if not both are there."""
    epoch, offset = request.query.get("epoch"), request.query.get("offset")
    if epoch is None or offset is None:
        return None
    if not (offset.isascii() and offset.isdecimal() and len(offset) <= MAX_OFFSET_DIGITS):
        raise InvalidInput("offset is a whole number", path="?offset")
    return epoch, int(offset)


def choice_query(request: web.Request) -> tuple[Choice, str | None]:
    """Return ``?types=&robotId=`` and the id to resume after.

    That is the header ``Last-Event-ID``, which browsers send by themselves, else ``?lastEventId=``.
    """
    last_id = request.headers.get(hdrs.LAST_EVENT_ID) or request.query.get("lastEventId")
    choice = Choice.of(_names(request, "types"), robots_query(request))
    return choice, last_id or None


def _names(request: web.Request, key: str) -> list[str]:
    return [name for value in request.query.getall(key, ()) for name in value.split(",") if name]
