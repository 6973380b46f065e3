"""Answers in JSON."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from aiohttp import web

_SLICE: Final = 5_000  # values of a long array that are encoded at once: about 1 ms
_TURN_S: Final = 0.002  # then others have theirs

_encode: Final = msgspec.json.Encoder().encode


def json_answer(value: Any, *, status: int = 200) -> web.Response:
    """Return ``value`` (structs, lists, dicts of them) as application/json."""
    return web.Response(body=_encode(value), status=status, content_type="application/json")


async def large_answer(value: Any) -> web.Response:
    """Return ``value`` as application/json, encoded in pieces that keep nobody waiting.

    Dicts and lists are taken apart as deep as they are dicts and lists; an iterator yields an
    array in chunks (lists of its items), so that they can be made one chunk at a time.
    """
    pieces = []
    turn = time.monotonic()
    for piece in _pieces(value):
        pieces.append(piece)
        if time.monotonic() - turn > _TURN_S:
            await asyncio.sleep(0)
            turn = time.monotonic()
    return web.Response(body=b"".join(pieces), content_type="application/json")


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, dict):
        between = b"{"
        for key, member in value.items():
            yield between + _encode(key) + b":"
            yield from _pieces(member)
            between = b","
        yield b"}" if value else b"{}"
    elif isinstance(value, list):
        yield from _pieces(value[at : at + _SLICE] for at in range(0, len(value), _SLICE))
    elif isinstance(value, Iterator):
        between = b"["
        for chunk in filter(None, value):
            yield between + _encode(chunk)[1:-1]
            between = b","
        yield b"]" if between == b"," else b"[]"
    else:
        yield _encode(value)
