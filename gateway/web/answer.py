"""Answers in JSON."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from aiohttp import web

_encode: Final = msgspec.json.Encoder().encode


def json_answer(value: Any, *, status: int = 200) -> web.Response:
    """Return ``value`` (structs, lists, dicts of them) as application/json."""
    return web.Response(body=_encode(value), status=status, content_type="application/json")


async def large_object(members: Iterable[tuple[str, Any]]) -> web.Response:
    """Return one JSON object, encoded member by member with the event loop let go in between.

    For answers whose encoding takes longer than other clients should wait.
    """
    pieces = []
    for name, value in members:
        pieces.append(_encode(name) + b":" + _encode(value))
        await asyncio.sleep(0)
    return _whole(b"{" + b",".join(pieces) + b"}")


async def large_array(name: str, chunks: Iterable[list[Any]], **more: Any) -> web.Response:
    """Return ``{name: [..], **more}``, the array encoded chunk by chunk as ``large_object``."""
    pieces = []
    for chunk in chunks:
        if chunk:
            pieces.append(_encode(chunk)[1:-1])
        await asyncio.sleep(0)
    rest = b"".join(b"," + _encode(key) + b":" + _encode(value) for key, value in more.items())
    return _whole(b"{" + _encode(name) + b":[" + b",".join(pieces) + b"]" + rest + b"}")


def _whole(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
