"""The order of the sources, paths, backends, and the edge.toml that is shipped."""

from pathlib import Path

import msgspec
import pytest

from gateway.config.load import load, load_with_sources
from gateway.config.model import (
    Config,
    ConfigError,
    EmbeddedBus,
    KafkaStream,
    MemoryState,
    MqttBus,
    NoStream,
    PostgresRecords,
    RedisState,
    SqliteRecords,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def keys_of(values: object, prefix: str = "") -> set[str]:
    assert isinstance(values, dict)
    found: set[str] = set()
    for name, value in values.items():
        key = f"{prefix}{name}"
        found |= keys_of(value, key + ".") if isinstance(value, dict) and value else {key}
    return found


def test_the_shipped_file_holds_every_key_at_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    loaded = load_with_sources(None)
    assert loaded.file == Path("edge.toml")
    assert loaded.config == Config()
    everything = keys_of(msgspec.to_builtins(Config(), enc_hook=str))
    assert everything - {"upstream", "route"} == {setting.key for setting in loaded.settings}


@pytest.mark.parametrize(
    ("kind", "default", "after"),
    [
        (MqttBus, EmbeddedBus, "[journal]"),
        (PostgresRecords, SqliteRecords, "[live]"),
        (RedisState, MemoryState, "[stream]"),
        (KafkaStream, NoStream, "[metrics]"),
    ],
)
def test_the_shipped_file_explains_every_key_of_the_other_backends(
    kind: type[msgspec.Struct], default: type[msgspec.Struct], after: str
) -> None:
    text = (ROOT / "edge.toml").read_text(encoding="utf-8")
    block = text[text.index(f'# backend = "{kind.__struct_config__.tag}"') : text.index(after)]
    for field in msgspec.structs.fields(kind):
        said = f"\n# {field.name} = " in block
        assert said or field.name in default.__struct_fields__  # stands with the default
        if said and not field.required:
            value = msgspec.json.encode(field.default).decode()
            assert f"\n# {field.name} = {value}" in block


def test_no_file_means_defaults(here: Path) -> None:
    assert load(None) == Config()


def test_a_named_file_must_exist(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load(Path("none.toml"))


def test_file_then_environment_then_set(here: Path) -> None:
    write(here / "edge.toml", "[http]\nport = 1\nbacklog = 1\nmax_body_bytes = 1\n")
    environ = {"EDGE__HTTP__BACKLOG": "2", "EDGE__HTTP__MAX_BODY_BYTES": "2", "HOME": "/"}
    http = load(None, environ=environ, sets=["http.max_body_bytes=3"]).http
    assert (http.port, http.backlog, http.max_body_bytes) == (1, 2, 3)


def test_nested_keys_by_environment_and_by_set(here: Path) -> None:
    environ = {"EDGE__BUS__LIMITS__CLIENTS": "7"}
    bus = load(None, environ=environ, sets=["bus.limits.retained=8"]).bus
    assert isinstance(bus, EmbeddedBus)
    assert (bus.limits.clients, bus.limits.retained) == (7, 8)


@pytest.mark.parametrize(
    ("text", "found"),
    [("home-2", "home-2"), ('"7"', "7"), ("'x.y'", "x.y"), ("127.0.0.1", "127.0.0.1")],
)
def test_a_set_value_is_toml_or_else_a_string(here: Path, text: str, found: str) -> None:
    assert load(None, sets=[f"site.id={text}"]).site.id == found


def test_a_set_value_cannot_smuggle_in_other_keys(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set: site\.id: expected 1 to 64"):
        load(None, sets=['site.id="a"\nother = 1'])


def test_a_table_by_set_is_merged_over_the_file(here: Path) -> None:
    write(here / "edge.toml", "[http]\nport = 1\nbacklog = 2\n")
    http = load(None, sets=["http={port=3}"]).http
    assert (http.port, http.backlog) == (3, 2)


def test_sources_are_remembered(here: Path) -> None:
    write(here / "edge.toml", "\n[http]\nport = 1\n")
    loaded = load_with_sources(None, environ={"EDGE__LOG__LEVEL": "debug"}, sets=["site.id=a"])
    assert {s.key: (s.value, s.default, s.origin.where) for s in loaded.settings} == {
        "http.port": (1, 8080, "edge.toml:3"),
        "log.level": ("debug", "info", "environment EDGE__LOG__LEVEL"),
        "site.id": ("a", "home", "--set"),
    }


def test_relative_paths_follow_whoever_names_them(here: Path) -> None:
    (here / "etc").mkdir()
    secret = write(here / "etc/secret", "x")
    secret.chmod(0o600)
    file = write(
        here / "etc/edge.toml",
        '[data]\ndir = "d"\n[bus]\nbackend = "mqtt"\nurl = "mqtt://h"\nuser = "u"\n'
        'password_file = "secret"\n',
    )
    config = load(file)
    assert config.data.dir == here / "etc/d"
    assert isinstance(config.bus, MqttBus)
    assert Path(config.bus.password_file) == secret
    assert load(file, sets=["data.dir=d"]).data.dir == Path("d")
    assert load(file, environ={"EDGE__DATA__DIR": "/var/x"}).data.dir == Path("/var/x")


def test_backends_default_when_not_named(here: Path) -> None:
    write(here / "edge.toml", "[bus]\nport = 0\n[records]\ndead_letters = 5\n[state]\n[stream]\n")
    config = load(None)
    assert isinstance(config.bus, EmbeddedBus)
    assert config.records.dead_letters == 5


def test_a_stronger_source_switches_the_backend(here: Path) -> None:
    write(here / "edge.toml", "[bus]\nport = 1884\nprefix = 'p'\n[bus.limits]\nclients = 1\n")
    bus = load(None, sets=["bus.backend=mqtt", "bus.url=mqtt://h:1"]).bus
    assert bus == MqttBus(url="mqtt://h:1", prefix="p")


def test_the_shipped_file_can_be_switched_by_two_lines(here: Path) -> None:
    text = (ROOT / "edge.toml").read_text(encoding="utf-8")
    text = text.replace('backend = "embedded"', 'backend = "mqtt"\nurl = "mqtt://h"')
    assert load(write(here / "edge.toml", text)).bus == MqttBus(url="mqtt://h")


def test_windows_line_ends_and_a_byte_order_mark(here: Path) -> None:
    (here / "edge.toml").write_bytes(b"\xef\xbb\xbf[http]\r\nport = 5\r\nprot = 1\r\n")
    with pytest.raises(ConfigError, match=r"^edge\.toml:3: http\.prot: unknown key"):
        load(None)
