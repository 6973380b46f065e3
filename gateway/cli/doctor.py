"""``edge-gateway doctor``: one line per thing that can be wrong, and what to do about it."""

import os
from collections.abc import Callable, Iterator
from typing import Final

import typer

from gateway.cli.machine import clock, data_directory, file_limit, time_zone
from gateway.cli.network import broker, ports
from gateway.cli.options import FAILED, UNREACHABLE, write_json
from gateway.cli.services import kafka, postgres, redis
from gateway.cli.software import interpreter, packages
from gateway.config.load import Loaded
from gateway.config.model import Config
from gateway.core.findings import Finding, Level

CHECKS: Final[tuple[Callable[[Config], Iterator[Finding]], ...]] = (
    interpreter,
    packages,
    data_directory,
    clock,
    time_zone,
    file_limit,
    ports,
    broker,
    kafka,
    redis,
    postgres,
)

_STYLES: Final = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def examine(loaded: Loaded, *, as_json: bool) -> int:
    """Print the findings. 0: no FAIL; 69: only a needed service is unreachable; 1: otherwise."""
    file = str(loaded.file) if loaded.file else "no file, defaults only"
    findings = [Finding(Level.OK, "configuration", file)]
    for check in CHECKS:
        findings += check(loaded.config)
    failed = [finding for finding in findings if finding.level is Level.FAIL]
    if as_json:
        rows = [
            {"level": f.level.value, "what": f.what, "found": f.found, "advice": f.advice}
            for f in findings
        ]
        write_json({"ok": not failed, "findings": rows})
    else:
        _print(findings)
    if not failed:
        return os.EX_OK
    return UNREACHABLE if all(finding.service for finding in failed) else FAILED


def _print(findings: list[Finding]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "what", "found", "what to do", box=SIMPLE, pad_edge=False)
    for f in findings:
        level = Text(f.level.value, style=_STYLES[f.level])
        table.add_row(level, Text(f.what), Text(f.found), Text(f.advice))
    Console().print(table)
    bad = sum(finding.level is not Level.OK for finding in findings)
    typer.echo(f"{len(findings)} looked at, {bad} to look after")
