"""How configuration errors say what was expected and what was found."""

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

_WORDS: Final = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def mismatch(hint: Any, value: Any, exc: Exception, *, shell: bool) -> str:
    """Return what ``hint`` allows and what was found; ``shell``: it was not written in a file."""
    expected = _expected(hint)
    if not expected:  # arrays and free tables: msgspec knows the place inside
        return str(exc).replace("`", "")
    message = f"expected {expected}, found {show(value)}"
    if get_origin(hint) is Literal and isinstance(value, str):
        message += nearest(value, map(str, get_args(hint)))
    elif _base(hint) is str and not isinstance(value, (str, list, dict)):
        quoted = f"'{json.dumps(str(value))}'" if shell else json.dumps(str(value))
        message += f" (write {quoted} for a string)"
    return message


def _base(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _expected(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return choice(map(str, get_args(hint)))
    if hint is Path:
        return "a path, as a string"
    if get_origin(hint) is not Annotated:
        return _WORDS.get(hint, "")
    base, meta = get_args(hint)[:2]
    if meta.description:
        return str(meta.description)
    low = meta.ge if meta.ge is not None else meta.gt
    low_text = f"above {low}" if meta.gt is not None and base is float else f"of at least {low}"
    if meta.gt is not None and base is int:
        low_text = f"of at least {meta.gt + 1}"
    if meta.le is not None and low is not None:
        return f"{_WORDS[base]} from {low} to {meta.le}"
    return f"{_WORDS[base]} {low_text}"


def choice(names: Iterable[str]) -> str:
    """Return the names quoted, with "or" before the last."""
    quoted = [show(name) for name in names]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " or " + quoted[-1]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question that names the known word most like ``name``, or nothing."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f': did you mean "{close[0]}"?' if close else ""


def show(value: Any) -> str:
    """Return ``value`` as it would stand in TOML, shortened."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, (str, bool)):
        value = json.dumps(value, ensure_ascii=False)
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "…"
