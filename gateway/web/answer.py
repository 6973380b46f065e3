"""Answers in JSON."""

from typing import Any

import msgspec
from aiohttp import web

_encoder = msgspec.json.Encoder()


def json_answer(value: Any, *, status: int = 200) -> web.Response:
    """Return ``value`` (structs, lists, dicts of them) as application/json."""
    return web.Response(body=_encoder.encode(value), status=status, content_type="application/json")
