"""The URLs of ``state.url``: which Redis servers, and how they are arranged."""

import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote

Arrangement = Literal["standalone", "sentinel", "cluster"]
Address = tuple[str, int]
"""(host, port); an IPv6 host is without brackets."""

EXPECTED: Final = (
    'expected "redis://host:6379/0", "redis+sentinel://host:26379,host:26379/service/0" or '
    '"redis+cluster://host:6379,host:6379" (rediss… for TLS)'
)
REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
_SCHEMES: Final[dict[str, tuple[Arrangement, bool]]] = {
    "redis": ("standalone", False),
    "rediss": ("standalone", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+))(?::([0-9]{1,5}))?")
_DATABASE: Final = re.compile(r"[0-9]{1,5}")
_SERVICE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """What such a URL says. ``service`` is the name of the master at the Sentinels, else ""."""

    arrangement: Arrangement
    tls: bool
    hosts: tuple[Address, ...]
    service: str
    db: int


def parse_redis_url(url: str) -> RedisUrl:
    """Return the parts of ``url``.

    Raises:
        ValueError: it cannot be used; the text says what was expected, for the key ``state.url``,
            and never repeats a login that stands in the URL.
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme not in _SCHEMES:
        raise ValueError(f"{EXPECTED}, found the scheme {_shown(scheme)}" if found else EXPECTED)
    arrangement, tls = _SCHEMES[scheme]
    if "@" in rest:
        raise ValueError(
            "holds a login: put the name in state.user, the password in state.password_file"
        )
    if "?" in rest or "#" in rest:
        raise ValueError(f"{EXPECTED}, with nothing behind a ? or #")
    places, *path = rest.split("/")
    default = SENTINEL_PORT if arrangement == "sentinel" else REDIS_PORT
    hosts = tuple(_host(place, default) for place in places.split(","))
    if arrangement == "standalone" and len(hosts) > 1:
        raise ValueError(
            "names several servers: write redis+sentinel:// or redis+cluster://, "
            "or leave all but one out"
        )
    service = ""
    if arrangement == "sentinel":
        if not path or not path[0]:
            raise ValueError(
                "does not name the Sentinels' service: "
                'expected "redis+sentinel://host:26379/service/0"'
            )
        service = unquote(path.pop(0))
        if not _SERVICE.fullmatch(service):
            raise ValueError(f"expected a Sentinel service name, found {_shown(service)}")
    return RedisUrl(arrangement, tls, hosts, service, _database(path, arrangement))


def _host(place: str, default: int) -> Address:
    match = _HOST.fullmatch(place)
    if match is None:
        raise ValueError(f"expected host:port, found {_shown(place)}")
    port = int(match[3]) if match[3] else default
    if not 0 < port < 65536:
        raise ValueError(f"expected a port from 1 to 65535, found {port}")
    return match[1] or match[2], port


def _database(path: list[str], arrangement: Arrangement) -> int:
    if len(path) > 1 or (path and path[0] and not _DATABASE.fullmatch(path[0])):
        raise ValueError(f"expected a database number, found {_shown('/'.join(path))}")
    number = int(path[0]) if path and path[0] else 0
    if number and arrangement == "cluster":
        raise ValueError(f"a cluster has no databases: leave /{number} out")
    return number


def _shown(text: str) -> str:
    return f'"{text[:60]}"'
