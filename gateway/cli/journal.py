"""``edge-gateway journal``: look at the log on disk, also while a gateway writes it."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.options import FAILED, ConfigFile, Json, Sets, configured, fail, write_json
from gateway.core.kinds import LABEL
from gateway.core.record import Row
from gateway.journal.examine import Examination, NotAJournal, Position, Verdict
from gateway.journal.open import FOLDER

_POLL_S = 0.2

app = typer.Typer(no_args_is_help=True, help="Look at the journal; nothing is changed.")

Folder = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="The data directory; else from the configuration."),
]


@app.command()
def verify(
    directory: Folder = None, config: ConfigFile = None, sets: Sets = None, as_json: Json = False
) -> None:
    """Read every byte; exit code 1 if anything is damaged."""
    journal = _open(directory, config, sets)
    verdicts = list(journal.verify())
    bad = any(verdict.problem for verdict in verdicts)
    if as_json:
        totals = {
            "records": sum(v.found.records for v in verdicts),
            "missing": sum(v.found.missing for v in verdicts),
        }
        write_json({"ok": not bad, **_overview(journal), **totals, "segments": _rows(verdicts)})
    else:
        _table(
            ["segment", "records", "missing", "bytes", "torn end", "problem"],
            [
                [v.found.base, v.found.records, v.found.missing, v.bytes, v.torn, v.problem]
                for v in verdicts
            ],
        )
        for path in journal.quarantined():
            typer.echo(f"quarantined earlier: {path.name} ({path.stat().st_size} bytes)")
        typer.echo("damaged" if bad else "ok")
    if bad:
        raise typer.Exit(FAILED)


@app.command()
def stats(
    directory: Folder = None, config: ConfigFile = None, sets: Sets = None, as_json: Json = False
) -> None:
    """What is there, and how far each reader was when its cursor was last saved."""
    journal = _open(directory, config, sets)
    overview = _overview(journal)
    if as_json:
        write_json(overview)
        return
    _table(
        ["figure", "value"],
        [[key.replace("_", " "), overview[key]] for key in overview if key != "cursors"],
    )
    _table(
        ["reader", "next offset", "behind by"],
        [[c["name"], c["next_offset"], c["behind"]] for c in overview["cursors"]],
    )


@app.command()
def tail(
    directory: Folder = None,
    config: ConfigFile = None,
    sets: Sets = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many records.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only this kind, e.g. sensor; may be repeated.")
    ] = None,
    robot: Annotated[str, typer.Option(help="Only this robot.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """The newest records, oldest first."""
    kinds = _kinds(kind or [])
    journal = _open(directory, config, sets)

    def wanted(row: Row) -> bool:
        return (not kinds or row[1] in kinds) and (not robot or row[2] == robot)

    offset = next((row[0] + 1 for row in journal.newest(1, lambda _: True)), 0)
    for row in journal.newest(lines, wanted):
        _show(row, as_json=as_json)
        offset = max(offset, row[0] + 1)
    try:
        for row in _following(journal, offset) if follow else ():
            if wanted(row):
                _show(row, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit from None


def _following(journal: Examination, offset: int) -> Iterator[Row]:
    while True:
        for row in journal.after(offset):
            offset = row[0] + 1
            yield row
        time.sleep(_POLL_S)


def _open(directory: Path | None, config: Path | None, sets: list[str] | None) -> Examination:
    data = directory or configured(config, sets).config.data.dir
    try:
        return Examination(data / FOLDER)
    except (NotAJournal, OSError) as exc:
        fail(str(exc), FAILED)


def _kinds(names: list[str]) -> frozenset[int]:
    numbers = {label: number for number, label in LABEL.items()}
    unknown = [name for name in names if name not in numbers]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(numbers)}")
    return frozenset(numbers[name] for name in names)


def _overview(journal: Examination) -> dict[str, Any]:
    extent, cursors = journal.extent(), journal.cursors()
    end = max([extent.end] + [c.next_offset or 0 for c in cursors])
    return {
        "epoch": f"{journal.epoch:016x}",
        "first_offset": extent.first,
        "next_offset": end,
        "segments_on_disk": extent.segments,
        "bytes": extent.bytes,
        "quarantined": [path.name for path in journal.quarantined()],
        "cursors": [_cursor(cursor, end) for cursor in cursors],
    }


def _cursor(cursor: Position, end: int) -> dict[str, Any]:
    at = cursor.next_offset
    return {"name": cursor.name, "next_offset": at, "behind": None if at is None else end - at}


def _rows(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    return [
        {
            "name": v.name,
            "base": v.found.base,
            "next_offset": v.found.end,
            "records": v.found.records,
            "bytes": v.bytes,
            "missing": v.found.missing,
            "torn_bytes": v.torn,
            "damage": [{"position": at, "bytes": size} for at, size in v.found.damage],
            "problem": v.problem,
        }
        for v in verdicts
    ]


def _show(row: Row, *, as_json: bool) -> None:
    offset, kind, robot, ts, rts, payload = row
    label = LABEL.get(kind, str(kind))
    text = payload.decode(errors="backslashreplace")
    if as_json:
        write_json(
            {
                "offset": offset,
                "kind": label,
                "robot": robot,
                "ts": ts,
                "rts": rts,
                "payload": text,
            }
        )
    else:
        typer.echo(f"{offset} {label} {robot or '-'} ts={ts} rts={rts} {_printable(text)}")


def _printable(text: str) -> str:
    """Return ``text`` without what would move the cursor or colour a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _table(heads: list[str], rows: list[list[Any]]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads, box=SIMPLE, pad_edge=False)
    for row in rows:
        table.add_row(*(Text("-" if cell is None else str(cell)) for cell in row))
    Console().print(table)
