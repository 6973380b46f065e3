"""The doctor on the interpreter and the packages."""

import platform
import sys
from collections.abc import Iterator
from typing import Final

from gateway.cli.services import DRIVERS
from gateway.cli.version import installed
from gateway.config.model import Config
from gateway.core.findings import Finding, Level

_NEEDED: Final = (
    "aiohttp",
    "aiomqtt",
    "google-crc32c",
    "mqtt5",
    "msgspec",
    "rich",
    "typer",
    "tzdata",
    "uvloop",
)
_EXTRAS: Final = {**DRIVERS, "otel": "opentelemetry-sdk"}


def interpreter(config: Config) -> Iterator[Finding]:
    """Python's version and build."""
    found = f"{platform.python_implementation()} {platform.python_version()}, {sys.platform}"
    yield Finding(Level.OK, "python", found)  # an older one than 3.11 cannot install the package


def packages(config: Config) -> Iterator[Finding]:
    """What is installed, and whether it is the fast build of it."""
    versions = {name: installed(name) for name in _NEEDED}
    if missing := [name for name, version in versions.items() if not version]:
        yield Finding(Level.FAIL, "packages", f"missing: {', '.join(missing)}", "make setup")
    else:
        yield Finding(
            Level.OK, "packages", ", ".join(f"{name} {v}" for name, v in versions.items())
        )
    yield from _compiled()
    extras = {extra: installed(package) for extra, package in _EXTRAS.items()}
    found = ", ".join(f"{extra} {version or '-'}" for extra, version in extras.items())
    yield Finding(Level.OK, "extras", f"{found}")


def _compiled() -> Iterator[Finding]:
    import google_crc32c
    from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

    if HttpRequestParser is HttpRequestParserPy:
        yield Finding(
            Level.FAIL,
            "HTTP parser",
            "aiohttp runs on its Python parser: slow, and laxer than the one in C",
            "install aiohttp from a wheel, and unset AIOHTTP_NO_EXTENSIONS",
        )
    else:
        yield Finding(Level.OK, "HTTP parser", "aiohttp's parser in C")
    if google_crc32c.implementation == "c":
        yield Finding(Level.OK, "CRC-32C", "in C")
    else:
        advice = "install google-crc32c from a wheel: the journal computes one per record"
        yield Finding(Level.WARN, "CRC-32C", f"in {google_crc32c.implementation}", advice)
