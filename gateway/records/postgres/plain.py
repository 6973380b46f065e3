"""Values that PostgreSQL cannot hold, replaced: one bad row must not stop history for ever.

Every column of the port is one of: text (no NUL, no lone surrogate, else U+FFFD stands there),
bigint (else the nearest one), double precision (takes every float), bytea (takes all bytes).
"""

from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from gateway.records.port import Writes

R = TypeVar("R", bound=Struct)

_LOW: Final = -(2**63)
_HIGH: Final = 2**63 - 1


def text(value: str) -> str:
    """Return ``value`` with U+FFFD for what is not a character there."""
    if "\0" not in value and (value.isascii() or _is_unicode(value)):
        return value
    whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", "\ufffd")


def bigint(value: int) -> int:
    """Return the nearest number of 64 bits."""
    return min(max(value, _LOW), _HIGH)


def storable(writes: Writes) -> tuple[Writes, int]:
    """Return ``writes`` with every value replaced that needs it, and in how many rows."""
    kinds = writes.readings, writes.robots, writes.events, writes.dead_letters
    readings, robots, events, letters = ([_row(row) for row in rows] for rows in kinds)
    changed = sum(
        new is not old
        for rows, made in zip(kinds, (readings, robots, events, letters), strict=True)
        for old, new in zip(rows, made, strict=True)
    )
    return (
        Writes(readings=readings, robots=robots, events=events, dead_letters=letters),  # type: ignore[arg-type]
        changed,
    )


def _row(row: R) -> R:
    changed: dict[str, Any] = {}
    for name in row.__struct_fields__:
        value = getattr(row, name)
        match value:
            case str():
                better: Any = text(value)
            case int():
                better = bigint(value)
            case _:
                continue
        if better != value:
            changed[name] = better
    return msgspec.structs.replace(row, **changed) if changed else row


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
