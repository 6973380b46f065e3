"""From what was said to the typed sections, with every problem found in one pass."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import NODEFAULT, Struct

from gateway.config.model import Config, ConfigError
from gateway.config.sources import Leaf, Origin, Table
from gateway.config.wording import choice, mismatch, nearest, show


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where it was written, which key, and what to do."""

    where: str
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.key}: {self.message}"


class InvalidConfig(ConfigError):
    """The configuration has ``problems``, one line each in the message."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Setting:
    """A value in force that somebody wrote down."""

    key: str
    value: Any
    default: Any
    origin: Origin


@dataclass(slots=True)
class Binder:
    """Collects the settings and the problems of one configuration."""

    settings: dict[str, Setting] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def config(self, root: Table) -> Config | None:
        """Return the typed configuration, or None when there are problems."""
        bound = self._struct(Config, root, "")
        return bound if isinstance(bound, Config) and not self.problems else None

    def _struct(self, kind: type[Struct], table: Table, key: str) -> Struct | None:
        hints = get_type_hints(kind, include_extras=True)
        tag = kind.__struct_config__.tag_field
        values: dict[str, Any] = {}
        for name, entry in table.entries.items():
            if name == tag:
                continue
            if name in hints:
                values[name] = self._field(kind, name, hints[name], entry, _join(key, name))
            else:
                self._unknown(_join(key, name), entry.origin, hints, table=isinstance(entry, Table))
        for info in msgspec.structs.fields(kind):
            if info.required and info.name not in table.entries:
                reason = f": backend = {show(kind.__struct_config__.tag)} needs it" if tag else ""
                chooser = table.entries.get(tag or "", table)
                self._problem(chooser.origin, _join(key, info.name), f"is missing{reason}")
        return None if self.problems else kind(**values)

    def _field(
        self, kind: type[Struct], name: str, hint: Any, entry: Leaf | Table, key: str
    ) -> Any:
        variants = _structs(hint)
        if variants:
            if not isinstance(entry, Table):
                self._problem(
                    entry.origin, key, f"expected a table [{key}], found {show(entry.value)}"
                )
                return None
            chosen = self._variant(variants, entry, key)
            return None if chosen is None else self._struct(chosen, entry, key)
        value = _plain(entry)
        try:
            bound = msgspec.convert(value, hint, dec_hook=_path)
        except msgspec.ValidationError as exc:
            said = mismatch(hint, value, exc, shell=entry.origin.rank > 1)
            self._problem(entry.origin, key, said)
            return None
        if isinstance(bound, float) and not math.isfinite(bound):
            self._problem(entry.origin, key, f"expected a finite number, found {bound}")
            return None
        bound = _anchored(name, bound, entry.origin.base)
        info = next(f for f in msgspec.structs.fields(kind) if f.name == name)
        default = None if info.required else _default(info)
        self.settings[key] = Setting(key, bound, default, entry.origin)
        return bound

    def _variant(
        self, variants: dict[str, type[Struct]], table: Table, key: str
    ) -> type[Struct] | None:
        """Return the struct that ``backend`` names; the first one when it is absent."""
        first = next(iter(variants.values()))
        tag_field = first.__struct_config__.tag_field
        if tag_field is None:
            return first
        said = table.entries.get(tag_field)
        if said is None:
            if key == "bus" and "url" in table.entries:
                self._problem(
                    table.entries["url"].origin,
                    "bus.url",
                    'is for a broker: add backend = "mqtt" to [bus] (or leave url out)',
                )
                return None
            return first
        name = said.value if isinstance(said, Leaf) else None
        if isinstance(name, str) and name in variants:
            _drop_other_backends(variants, name, table, said.origin)
            self._foreign(variants, name, table, key)
            self.settings[f"{key}.{tag_field}"] = Setting(
                f"{key}.{tag_field}", name, next(iter(variants)), said.origin
            )
            return variants[name]
        message = f"expected {choice(variants)}, found {show(_plain(said))}"
        message += nearest(str(name), variants)
        self._problem(said.origin, f"{key}.{tag_field}", message)
        return None

    def _foreign(
        self, variants: dict[str, type[Struct]], chosen: str, table: Table, key: str
    ) -> None:
        """Explain keys that belong to another backend, better than as unknown ones."""
        for name in [n for n in table.entries if n not in _names(variants[chosen])]:
            owner = next((tag for tag, kind in variants.items() if name in _names(kind)), None)
            if owner is not None:
                entry = table.entries.pop(name)
                self._problem(
                    entry.origin,
                    _join(key, name),
                    f"belongs to backend = {show(owner)}, but backend is {show(chosen)}: "
                    f"remove it, or set {key}.backend to {show(owner)}",
                )

    def _unknown(self, key: str, origin: Origin, known: Iterable[str], *, table: bool) -> None:
        what = "unknown section" if table and "." not in key else "unknown key"
        names = sorted(known)
        hint = nearest(key.rpartition(".")[2], names) or f": known are {', '.join(names)}"
        self._problem(origin, key, what + hint)

    def _problem(self, origin: Origin, key: str, message: str) -> None:
        self.problems.append(Problem(origin.where, key, message))


def _drop_other_backends(
    variants: dict[str, type[Struct]], chosen: str, table: Table, origin: Origin
) -> None:
    """Forget keys of another backend that cannot be meant.

    They come from a weaker source than the one that chose the backend (the file, under
    ``--set bus.backend=mqtt``), or hold their default, as in the edge.toml that is shipped.
    """
    for tag, kind in variants.items():
        if tag == chosen:
            continue
        defaults = {f.name: _default(f) for f in msgspec.structs.fields(kind) if not f.required}
        for name in _names(kind) - _names(variants[chosen]):
            entry = table.entries.get(name)
            if entry is not None and (
                entry.origin.rank < origin.rank
                or (name in defaults and _is_default(entry, defaults[name]))
            ):
                del table.entries[name]


def _is_default(entry: Leaf | Table, default: Any) -> bool:
    if isinstance(entry, Table):
        values = msgspec.to_builtins(default) if isinstance(default, Struct) else default
        return isinstance(values, dict) and all(
            name in values and _is_default(inner, values[name])
            for name, inner in entry.entries.items()
        )
    return bool(entry.value == default)


def _structs(hint: Any) -> dict[str, type[Struct]]:
    """Return the structs that ``hint`` can be, by tag; empty for a plain value."""
    kinds = get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)
    if not all(isinstance(kind, type) and issubclass(kind, Struct) for kind in kinds):
        return {}
    return {str(kind.__struct_config__.tag or ""): kind for kind in kinds}


def _names(kind: type[Struct]) -> set[str]:
    return {*kind.__struct_fields__, kind.__struct_config__.tag_field or ""}


def _default(info: msgspec.structs.FieldInfo) -> Any:
    return info.default if info.default is not NODEFAULT else info.default_factory()


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise msgspec.ValidationError("not a path")


def _anchored(name: str, value: Any, base: Path) -> Any:
    """Make a relative path relative to where it was written (``~`` is the home directory)."""
    if isinstance(value, Path):
        return base / value.expanduser()
    if name.endswith("_file") and value:
        return str(base / Path(value).expanduser())
    return value


def _plain(entry: Leaf | Table) -> Any:
    if isinstance(entry, Leaf):
        return entry.value
    return {name: _plain(inner) for name, inner in entry.entries.items()}


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
