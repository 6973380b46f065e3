"""Where settings come from: the file, the environment, ``--set``; and which of them wins."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.config.model import ConfigError
from gateway.core.tomllines import key_lines

DEFAULT_FILES: Final = (Path("edge.toml"), Path("/etc/edge-gateway/edge.toml"))
PREFIX: Final = "EDGE__"
_MAX_BYTES: Final = 1_048_576  # an edge.toml is a few kB; more is the wrong file


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written. ``rank`` orders the sources: the higher one wins."""

    where: str  # "edge.toml:12", "--set", "environment EDGE__HTTP__PORT"
    base: Path  # relative paths are relative to it
    rank: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value as TOML has it (never a table of the configuration itself)."""

    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class Table:
    """A table, merged from all sources. ``origin`` is the first that named it."""

    origin: Origin
    entries: dict[str, "Leaf | Table"] = field(default_factory=dict)

    def put(self, path: Sequence[str], value: Any, origin: Origin) -> None:
        """Set ``path`` to ``value`` in place of what an earlier source said.

        Tables are merged key by key; arrays and values are replaced whole.
        """
        here = self
        for key in path[:-1]:
            below = here.entries.get(key)
            if not isinstance(below, Table):
                below = here.entries[key] = Table(origin)
            here = below
        if not isinstance(value, dict):
            here.entries[path[-1]] = Leaf(value, origin)
            return
        if not isinstance(here.entries.get(path[-1]), Table):
            here.entries[path[-1]] = Table(origin)
        for key, inner in value.items():
            self.put((*path, key), inner, origin)


def find_file(path: Path | None) -> Path | None:
    """Return the file to read: ``path``, else the first default that exists, else None."""
    if path is not None:
        return path
    return next((candidate for candidate in DEFAULT_FILES if candidate.is_file()), None)


def gather(file: Path | None, environ: Mapping[str, str], sets: Sequence[str]) -> Table:
    """Return everything that was said, the later source over the earlier one.

    Raises:
        ConfigError: the file cannot be read or is not TOML, or a --set or variable has no key.
    """
    root = Table(Origin("defaults", Path(), 0))
    if file is not None:
        _read_file(root, file)
    _read_environment(root, environ)
    _read_sets(root, sets)
    return root


def _read_file(root: Table, file: Path) -> None:
    try:
        with file.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{file}: cannot be read: {exc.strerror}") from exc
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"{file}: larger than {_MAX_BYTES} bytes: is this an edge.toml?")
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{file}:{line}: expected UTF-8 text, found other bytes") from exc
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(_syntax(file, text, str(exc))) from exc
    lines = key_lines(text)

    def origin(path: tuple[str, ...]) -> Origin:
        known = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
        return Origin(f"{file}:{known}" if known else str(file), file.parent, 1)

    def copy(table: dict[str, Any], into: Table, path: tuple[str, ...]) -> None:
        for key, value in table.items():
            here = (*path, key)
            if isinstance(value, dict):
                below = into.entries[key] = Table(origin(here))
                copy(value, below, here)
            else:
                into.entries[key] = Leaf(value, origin(here))

    copy(tree, root, ())


def _syntax(file: Path, text: str, message: str) -> str:
    """Return the error as ``file:line: what``; tomllib puts the place at the end of its message."""
    what, _, place = message.rpartition(" (at ")
    if place.startswith("line "):
        line = place.removeprefix("line ").partition(",")[0]
    else:  # "at end of document"
        line = str(text.count("\n") + 1)
    return f"{file}:{line}: not valid TOML: {what or message}"


def _read_environment(root: Table, environ: Mapping[str, str]) -> None:
    for name in sorted(environ):
        if not name.startswith(PREFIX):
            continue
        path = name.removeprefix(PREFIX).lower().split("__")
        origin = Origin(f"environment {name}", Path(), 2)
        if len(path) < 2 or not all(path):
            raise ConfigError(f"{origin.where}: expected {PREFIX}SECTION__KEY")
        root.put(path, _value(environ[name]), origin)


def _read_sets(root: Table, sets: Sequence[str]) -> None:
    origin = Origin("--set", Path(), 3)
    for text in sets:
        key, equals, value = text.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise ConfigError(f"--set: expected section.key=value, found {text!r}")
        root.put(path, _value(value.strip()), origin)


def _value(text: str) -> Any:
    """Return ``text`` as a TOML value, or as it is when it is none (``home``, ``0.0.0.0``)."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text
