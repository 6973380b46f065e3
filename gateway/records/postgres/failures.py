"""What PostgreSQL and the way to it can answer, as Unavailable or as a bug."""

import ssl
from typing import Final

import asyncpg

from gateway.core.errors import Unavailable
from gateway.records.rows import DEPENDENCY

REFUSED: Final = "the database of history refuses the login"
TIMED_OUT: Final = "history did not answer in time"

# Classes and codes: PostgreSQL's documentation, appendix A.
_CODES: Final = {
    "25006": "the database of history is read-only",
    "25P03": "history took too long",
    "3D000": "the database of history does not exist",
    "42501": "the user of history may not do that in its database",
    "42P01": "a table of history is missing",
    "3F000": "the tables of history are missing",
    "0A000": "the tables of history changed",
    "53100": "no space is left for history",
    "53300": "the database of history has no connection left",
    "55P03": "history is locked",
    "57014": "the question to history took too long",
}
_CLASSES: Final = {
    "08": "the connection to history broke",
    "28": REFUSED,
    "40": "another box was writing the same, try again",
    "53": "the database of history has too little memory or space",
    "57": "the database of history is starting or stopping",
    "58": "the disk of history fails",
    "XX": "the database of history is damaged",
}
_GONE: Final = frozenset({"08", "57"})  # every other connection is gone as well
# Characters that it cannot hold, and what the driver cannot encode (a class of its own, 22000).
_NOT_STORABLE: Final = frozenset({"22000", "22021", "22P05"})


def unavailable(detail: str) -> Unavailable:
    """Return the error of this port."""
    return Unavailable(detail, dependency=DEPENDENCY)


def passing(exc: BaseException) -> str:
    """Return what to say of a failure that can pass; "" for a bug."""
    if isinstance(exc, TimeoutError):
        return TIMED_OUT
    if isinstance(exc, asyncpg.PostgresError):
        code = exc.sqlstate or ""
        return _CODES.get(code) or _CLASSES.get(code[:2], "")
    if isinstance(exc, ssl.SSLError):
        return "TLS to the database of history failed: its certificate is not trusted"
    if isinstance(exc, OSError | UnicodeError):  # UnicodeError: no host can have that name
        return "the database of history cannot be reached"
    # The driver's own: closed meanwhile, or out of step because the server said good-bye just now.
    if isinstance(exc, asyncpg.InternalClientError):
        return _CLASSES["08"]
    if isinstance(exc, asyncpg.InterfaceError) and not isinstance(exc, ValueError):
        return _CLASSES["08"]
    return ""


def breaks_the_way(exc: BaseException) -> bool:
    """Return whether ``exc`` says that the other connections are of no use either."""
    if isinstance(exc, asyncpg.PostgresError):
        code = exc.sqlstate or ""
        return code != "57014" and code[:2] in _GONE
    return isinstance(exc, OSError | asyncpg.InternalClientError)  # OSError: TimeoutError too


def is_not_storable(exc: BaseException) -> bool:
    """Return whether a text or number was the reason, which ``plain`` can replace."""
    if isinstance(exc, asyncpg.PostgresError):
        return (exc.sqlstate or "") in _NOT_STORABLE
    return isinstance(exc, UnicodeEncodeError) or (
        isinstance(exc, asyncpg.InterfaceError) and isinstance(exc, ValueError)
    )
