"""``edge-gateway version``."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import typer

from gateway.cli.options import write_json

PARTS: Final = ("aiohttp", "aiomqtt", "google-crc32c", "mqtt5", "msgspec", "uvloop")


def report(*, as_json: bool) -> None:
    """Print the versions that a bug report needs."""
    versions = {"edge-gateway": installed("edge-gateway"), "python": platform.python_version()}
    versions |= {part: installed(part) for part in PARTS}
    if as_json:
        write_json(versions)
        return
    for name, number in versions.items():
        typer.echo(f"{name} {number or 'not installed'}")


def installed(package: str) -> str:
    """Return the version of ``package``, or an empty string."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
