"""Times as the API writes them: RFC 3339 text outside, Unix milliseconds inside."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import takewhile
from typing import Annotated, Final

from msgspec import Meta

Instant = Annotated[
    str, Meta(description="RFC 3339 in UTC", extra_json_schema={"format": "date-time"})
]

MAX_MS: Final = 253_402_300_799_999  # the last millisecond of year 9999, where RFC 3339 ends

# "+" of an offset arrives as a blank from a query string that was not encoded.
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)([Zz]|[+ -]\d\d:\d\d)?)?"
)
_EPOCH: Final = timedelta(milliseconds=1)
_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_ms(text: str, zone: tzinfo) -> int:
    """Return an RFC 3339 time as Unix milliseconds, cut to the millisecond.

    Without an offset it is wall time in ``zone``; without a time of day it is that day's midnight
    there. A wall time that a clock change skips counts as if the clock had not changed; one that
    comes twice is the first.

    Raises:
        ValueError: it is none, or before 1970.
    """
    match = _TIME.fullmatch(text)
    if match is None or not text.isascii():
        raise ValueError("expected an RFC 3339 time as 2025-01-31T12:00:00Z")
    day, clock, offset = match[1], match[2] or "00:00", match[3] or ""
    offset = offset.upper().replace(" ", "+")
    moment = datetime.fromisoformat(f"{day}T{clock}{offset}")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    try:
        ms = (moment.astimezone(UTC) - _ZERO) // _EPOCH
    except OverflowError as exc:
        raise ValueError("expected a time before year 10000") from exc
    if ms < 0:
        raise ValueError("expected a time after 1970")
    return ms


def rfc3339(ms: int) -> str:
    """Return Unix milliseconds as RFC 3339 in UTC: ``2025-01-31T12:00:00.000Z``."""
    moment = _ZERO + timedelta(milliseconds=min(ms, MAX_MS))
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def days_of(from_ms: int, to_ms: int, zone: tzinfo) -> list[int]:
    """Return the midnights of ``zone`` around [from, to): the last one at or after ``to_ms``.

    A day has 23 or 25 hours where the clock changes. Where it skips midnight the day begins at
    the first instant after.
    """
    first = (_ZERO + timedelta(milliseconds=from_ms)).astimezone(zone).date()
    edges = list(takewhile(lambda edge: edge < to_ms, _midnights(first.toordinal(), zone)))
    return [*edges, next(_midnights(first.toordinal() + len(edges), zone))]


def _midnights(ordinal: int, zone: tzinfo) -> Iterator[int]:
    while True:
        midnight = datetime.fromordinal(ordinal).replace(tzinfo=zone)
        yield (midnight.astimezone(UTC) - _ZERO) // _EPOCH
        ordinal += 1
