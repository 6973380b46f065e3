"""The dsn of PostgreSQL: taken apart, and what is wrong with it, said without showing a secret.

Source of the form: PostgreSQL's documentation of connection URIs (libpq, section 34.1.1.2).
"""

from collections.abc import Iterator
from typing import Final, Literal, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct

from gateway.config.model import PostgresRecords
from gateway.config.wording import choice, nearest, show

EXPECTED: Final = 'expected "postgresql://user@host:5432/database"'
SslMode = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]
SSL_MODES: Final = ("disable", "prefer", "require", "verify-ca", "verify-full")
VERIFYING: Final = ("verify-ca", "verify-full")
_PORT: Final = 5432


class Target(Struct, frozen=True):
    """Where to go. A host that begins with "/" is the folder of a Unix socket."""

    hosts: tuple[tuple[str, int], ...]
    user: str
    database: str
    sslmode: SslMode | Literal[""]  # "": not said

    def __str__(self) -> str:
        """Return hosts and database, which is safe to log."""
        return ",".join(f"{host}:{port}" for host, port in self.hosts) + f"/{self.database}"


def parse(dsn: str) -> Target:
    """Return what ``dsn`` says; several hosts with commas are tried in order.

    Raises:
        ValueError: it cannot be used; the message names what is wrong and never shows a password.
    """
    scheme, separator, _ = dsn.partition("://")
    if not separator or scheme not in ("postgresql", "postgres"):
        raise ValueError(f"{EXPECTED}, found another scheme")
    try:
        url = urlsplit(dsn)
    except ValueError as exc:
        raise ValueError(f"{EXPECTED}: the host cannot be read") from exc
    login, _, places = url.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    if colon:
        raise ValueError("holds a password: put it into the file of records.password_file")
    if not user:
        raise ValueError(f"{EXPECTED}: the user is missing")
    if not places:
        raise ValueError(f"{EXPECTED}: the host is missing")
    database = unquote(url.path.removeprefix("/"))
    if not database or "/" in url.path.removeprefix("/"):
        raise ValueError(f"{EXPECTED}: the database is missing")
    if url.fragment:
        raise ValueError(f"{EXPECTED}: nothing may follow a #")
    hosts = tuple(_host(place) for place in places.split(","))
    return Target(hosts, unquote(user), database, _sslmode(url.query))


def _host(place: str) -> tuple[str, int]:
    if place.startswith("["):  # IPv6
        host, bracket, rest = place[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        if not bracket or colon not in ("", ":"):
            raise ValueError(f"{EXPECTED}: the host cannot be read")
    else:
        host, colon, port = place.partition(":")
    if not host:
        raise ValueError(f"{EXPECTED}: the host is missing")
    if not colon:
        return unquote(host), _PORT
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError(f"{EXPECTED}: the port must be a number from 1 to 65535")
    return unquote(host), int(port)


def _sslmode(query: str) -> SslMode | Literal[""]:
    mode = ""
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in ("password", "passfile"):
            raise ValueError("holds a password: put it into the file of records.password_file")
        if name == "sslrootcert":
            raise ValueError("holds sslrootcert: name the file in records.ca_file")
        if name != "sslmode":
            raise ValueError(f"only sslmode may follow the ?, found {show(name)}")
        if value not in SSL_MODES:
            hint = nearest(value, SSL_MODES)
            raise ValueError(
                f"expected sslmode to be {choice(SSL_MODES)}, found {show(value)}{hint}"
            )
        mode = value
    return cast(SslMode | Literal[""], mode)


def problems(config: PostgresRecords) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong with it)."""
    try:
        target = parse(config.dsn)
    except ValueError as exc:
        yield "records.dsn", str(exc)
        return
    if config.ca_file and target.sslmode not in ("", *VERIFYING):
        yield (
            "records.ca_file",
            f"does nothing with sslmode={target.sslmode}: write sslmode=verify-full in records.dsn",
        )
    if config.ca_file and any(host.startswith("/") for host, _ in target.hosts):
        yield "records.ca_file", "does nothing on a Unix socket: leave it out"
