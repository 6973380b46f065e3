"""Typed reading of what a client sent."""

from typing import Annotated, Final, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from gateway.core.errors import BadRange, NotFound
from gateway.core.jsonin import read_json, refused
from gateway.core.topics import ID

T = TypeVar("T")

_MAX_NUMBER: Final = 2**63 - 1
_MAX_DIGITS: Final = 19  # looked at first: int() of a very long text raises


Number = Annotated[int, Meta(ge=0, le=_MAX_NUMBER)]
"""What ``path_number`` takes."""


class Ids(Struct, forbid_unknown_fields=True):
    """Which ones; null or left out: all."""

    ids: list[Annotated[str, Meta(pattern=r"^[0-9]{1,18}$")]] | None = None


_ids: Final = msgspec.json.Decoder(Ids)


def path_id(request: web.Request, key: str) -> str:
    """Return an id of the path. Raises NotFound for what can be no id: nothing has that name."""
    value = request.match_info[key]
    if ID.fullmatch(value) is None:
        raise NotFound("nothing has that id")
    return value


def path_number(request: web.Request, key: str) -> int:
    """Return a number of the path. Raises NotFound for anything else."""
    value = request.match_info[key]
    if not _whole(value) or int(value) > _MAX_NUMBER:
        raise NotFound("nothing has that number")
    return int(value)


def query(request: web.Request, kind: type[T]) -> T:
    """Return the query parameters as the struct ``kind``; those it does not know are ignored.

    Raises:
        BadRange: a value does not fit; the sentence names its parameter.
    """
    try:
        return msgspec.convert(dict(request.query), kind, strict=False)
    except msgspec.ValidationError as exc:
        complaint = refused(exc)
        name = getattr(complaint, "path", "$").removeprefix("$.")
        raise BadRange(f"?{name}: {complaint.detail}") from exc


async def json_body(request: web.Request, decoder: msgspec.json.Decoder[T]) -> T:
    """Return the body as the decoder's type. Raises InvalidInput with the path of what is wrong."""
    return read_json(await request.read(), decoder)


async def ids_from_body(request: web.Request) -> list[int] | None:
    """Return the numbers of ``{"ids": ["17", ..]}``; None without a body or ``ids``: all.

    Raises:
        InvalidInput: the body is something else.
    """
    data = await request.read()
    if not data:
        return None
    ids = read_json(data, _ids).ids
    return None if ids is None else [int(one) for one in ids]


def _whole(text: str) -> bool:
    return len(text) <= _MAX_DIGITS and text.isascii() and text.isdecimal()
