"""edge.toml, the environment and ``--set`` become one checked Config."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.config.bind import Binder, InvalidConfig, Setting
from gateway.config.checks import problems
from gateway.config.model import Config
from gateway.config.sources import find_file, gather


@dataclass(frozen=True, slots=True)
class Loaded:
    """The configuration in force, the file it came from, and every setting somebody wrote."""

    config: Config
    file: Path | None
    settings: tuple[Setting, ...]


def load(
    path: Path | None, *, sets: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Config:
    """Return the configuration: file < environment < ``sets``.

    Args:
        path: the file; None takes edge.toml in the working directory, then the one in
            /etc/edge-gateway, then the defaults alone.
        sets: ``section.key=value``, the value in TOML or else taken as a string.
        environ: where EDGE__SECTION__KEY is looked up; only the command line passes the real one.
    Raises:
        ConfigError: one line per problem, with file and line, key, what was expected and found.
    """
    return load_with_sources(path, sets=sets, environ=environ).config


def load_with_sources(
    path: Path | None, *, sets: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Loaded:
    """As ``load``; also tells where each value was written."""
    file = find_file(path)
    binder = Binder()
    config = binder.config(gather(file, environ or {}, sets))
    if config is None:
        raise InvalidConfig(binder.problems)

    def where(key: str) -> str:
        said = binder.settings.get(key)
        return said.origin.where if said else f"{file}" if file else "defaults"

    if wrong := problems(config, where):
        raise InvalidConfig(wrong)
    return Loaded(config, file, tuple(binder.settings.values()))
