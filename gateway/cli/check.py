"""``edge-gateway check``: what is in force."""

from typing import Any

import msgspec
import typer

from gateway.cli.options import write_json
from gateway.config.load import Loaded


def report(loaded: Loaded, *, as_json: bool) -> None:
    """Print every value that differs from its default, and where it was written.

    Secrets never show: the configuration holds only the names of the files that they are in.
    """
    changed = [s for s in loaded.settings if s.value != s.default]
    file = str(loaded.file) if loaded.file else None
    if as_json:
        changes = [
            {
                "key": s.key,
                "value": _plain(s.value),
                "default": _plain(s.default),
                "where": s.origin.where,
            }
            for s in changed
        ]
        write_json({"ok": True, "file": file, "changed": changes, "config": _plain(loaded.config)})
        return
    if changed:
        from rich.box import SIMPLE
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table("key", "value", "default", "written in", box=SIMPLE, pad_edge=False)
        for setting in changed:
            cells = (setting.key, setting.value, setting.default, setting.origin.where)
            table.add_row(*(Text("" if cell is None else str(cell)) for cell in cells))
        Console().print(table)
    else:
        typer.echo("every value is the default")
    typer.echo(f"ok: {file or 'no file, defaults only'}")


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value, enc_hook=str)
