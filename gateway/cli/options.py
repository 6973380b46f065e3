"""What every command takes, and how commands end."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from gateway.config.bind import InvalidConfig
from gateway.config.load import Loaded, load_with_sources
from gateway.config.model import ConfigError

FAILED: Final = 1
UNREACHABLE: Final = os.EX_UNAVAILABLE  # 69: a service that is needed does not answer
BAD_CONFIG: Final = os.EX_CONFIG  # 78

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The configuration; otherwise edge.toml here, then /etc/edge-gateway/edge.toml.",
        show_default=False,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Over the file and the environment; may be repeated. The value is TOML or a string.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def configured(file: Path | None, sets: list[str] | None, *, as_json: bool = False) -> Loaded:
    """Return the configuration in force; end the command with 78 when it cannot be used."""
    try:
        return load_with_sources(file, sets=sets or [], environ=os.environ)
    except ConfigError as exc:
        if as_json:
            write_json({"ok": False, "errors": _errors(exc)})
        fail(str(exc), BAD_CONFIG)


def _errors(exc: ConfigError) -> list[dict[str, str]]:
    if isinstance(exc, InvalidConfig):
        return [{"where": p.where, "key": p.key, "message": p.message} for p in exc.problems]
    return [{"where": "", "key": "", "message": str(exc)}]


def complain(message: str) -> None:
    """Write ``message`` to stderr, each line marked as ours."""
    for line in message.splitlines():
        typer.echo(f"edge-gateway: {line}", err=True)


def fail(message: str, code: int) -> NoReturn:
    """End the command with one clear line (or one per problem) and ``code``."""
    complain(message)
    raise typer.Exit(code)


def write_json(value: Any) -> None:
    """Write ``value`` to stdout as one line of JSON."""
    say(json.dumps(value, ensure_ascii=False, default=str))


def say(line: str) -> None:
    """Write ``line`` to stdout; end the process when nobody reads it any more (``| head``)."""
    try:
        typer.echo(line)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit fails too
        raise SystemExit(FAILED) from None
