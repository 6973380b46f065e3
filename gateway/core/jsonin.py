"""JSON from a client into types, with the path of what is wrong."""

import re
from typing import Final, TypeVar

import msgspec

from gateway.core.errors import GatewayError, InvalidInput, Unprocessable

T = TypeVar("T")

_AT: Final = re.compile(r" - at `([^`]*)`$")
_NAMED: Final = re.compile(r"(?:unknown|missing required) field `([^`]*)`", re.DOTALL)


def read_json(data: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """Return ``data`` as the decoder's type.

    Raises:
        InvalidInput: not JSON, a wrong type, an unknown or missing field.
        Unprocessable: OUT_OF_RANGE, a number that no float holds.
    """
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as exc:
        raise refused(exc) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidInput(f"the body is not JSON: {exc}") from exc


def refused(exc: msgspec.ValidationError) -> GatewayError:
    """Return msgspec's complaint as ours. Its text is the only place where it keeps the path."""
    text = str(exc)
    at = _AT.search(text)
    path = at[1] if at else "$"
    what = text[: at.start()] if at else text
    if named := _NAMED.search(what):
        path = f"{path}.{named[1]}"
    if what.startswith("Number out of range"):
        return Unprocessable(what, reason="OUT_OF_RANGE", path=path)
    return InvalidInput(what, path=path)
