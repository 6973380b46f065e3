"""Every refusal says where, which key, what was expected and what was found."""

from pathlib import Path

import pytest

from gateway.config.bind import InvalidConfig
from gateway.config.load import load
from gateway.config.model import ConfigError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(text: str, *sets: str, environ: dict[str, str] | None = None) -> str:
    Path("edge.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(None, sets=sets, environ=environ or {})
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[http]\n\nport = 70000", "edge.toml:3: http.port: expected an integer from 0 to 65535, "
         "found 70000"),
        ("http.port = 'x'", 'edge.toml:1: http.port: expected an integer from 0 to 65535, '
         'found "x"'),
        ("[http]\nport = true", "edge.toml:2: http.port: expected an integer from 0 to 65535, "
         "found true"),
        ("[http]\nprot = 1", 'edge.toml:2: http.prot: unknown key: did you mean "port"?'),
        ("[htpp]\nport = 1", 'edge.toml:1: htpp: unknown section: did you mean "http"?'),
        ("[data]\nxyzzy = 1", "edge.toml:2: data.xyzzy: unknown key: known are dir"),
        ("http = 1", "edge.toml:1: http: expected a table [http], found 1"),
        ("[site]\nid = 42", "edge.toml:2: site.id: expected 1 to 64 of the characters "
         'A-Z a-z 0-9 _ . : -, found 42 (write "42" for a string)'),
        ("[site]\ntimezone = 'Asia/Soul'", "edge.toml:2: site.timezone: expected an IANA time "
         'zone as "Asia/Seoul", found "Asia/Soul": did you mean "Asia/Seoul"?'),
        ("[site]\ntimezone = '../../etc/passwd'", "edge.toml:2: site.timezone: expected an IANA "
         'time zone as "Asia/Seoul", found "../../etc/passwd"'),
        ("[log]\nlevel = 'inof'", 'edge.toml:2: log.level: expected "debug", "info", "warning" '
         'or "error", found "inof": did you mean "info"?'),
        ("[http]\ndrain_s = inf", "edge.toml:2: http.drain_s: expected a finite number, found inf"),
        ("[http]\ndrain_s = -1", "edge.toml:2: http.drain_s: expected a number of at least 0, "
         "found -1"),
        ("[http]\nbacklog = 0", "edge.toml:2: http.backlog: expected an integer of at least 1, "
         "found 0"),
        ("[journal]\nmax_age = '7 weeks'", 'edge.toml:2: journal.max_age: expected an age as "7d" '
         '(s, m, h, d), found "7 weeks"'),
        ("[journal]\nmax_bytes = '64MiB'", "edge.toml:2: journal.max_bytes: expected at least two "
         'segments (64MiB each), found "64MiB"'),
        ("[bus.limits]\nclinets = 1", 'edge.toml:2: bus.limits.clinets: unknown key: did you mean '
         '"clients"?'),
        ("[bus]\nbackend = 'mqqt'", 'edge.toml:2: bus.backend: expected "embedded" or "mqtt", '
         'found "mqqt": did you mean "mqtt"?'),
        ("[bus]\nurl = 'mqtt://h'", 'edge.toml:2: bus.url: is for a broker: add backend = "mqtt" '
         "to [bus] (or leave url out)"),
        ("[bus]\nbackend = 'mqtt'", 'edge.toml:2: bus.url: is missing: backend = "mqtt" needs it'),
        ("[bus]\nbackend = 'mqtt'\nurl = 'mqtt://h'\nport = 5", "edge.toml:4: bus.port: belongs "
         'to backend = "embedded", but backend is "mqtt": remove it, or set bus.backend to '
         '"embedded"'),
        ("[bus]\nbackend = 'mqtt'\nurl = 'h:1883'", 'edge.toml:3: bus.url: expected '
         '"mqtt://host:1883" or "mqtts://host:8883", found "h:1883"'),
        ("[bus]\nprefix = 'a/+'", "edge.toml:2: bus.prefix: expected topic levels as "
         '"smartair/v1", without wildcards, an empty level or a leading $, found "a/+"'),
        ("[records]\nbackend = 'postgres'", 'edge.toml:2: records.dsn: is missing: backend = '
         '"postgres" needs it'),
        ("[state]\nbackend = 'redis'", 'edge.toml:2: state.url: is missing: backend = "redis" '
         "needs it"),
        ("[stream]\nbackend = 'kafka'", 'edge.toml:2: stream.servers: is missing: backend = '
         '"kafka" needs it'),
        ("[records]\ndsn = 'postgresql://h/d'", "edge.toml:2: records.dsn: is for PostgreSQL: set "
         'records.backend to "postgres", or leave it out'),
        ("[state]\nurl = 'redis://h'", 'edge.toml:2: state.url: is for Redis: set state.backend '
         'to "redis", or leave it out'),
        ("[stream]\nservers = 'h:1'", 'edge.toml:2: stream.servers: is for Kafka: set '
         'stream.backend to "kafka", or leave it out'),
        ("[stream]\nbackend = 'kafka'\nservers = 'h'", 'edge.toml:3: stream.servers: expected '
         '"host:9092", several with commas between, found "h"'),
        ("[stream]\nbackend = 'kafka'\nservers = 'h:1'\nsasl = 'PLAIN'\nuser = 'u'",
         'edge.toml: stream.password_file: is missing: sasl = "PLAIN" needs it'),
        ("[stream]\nbackend = 'kafka'\nservers = 'h:1'\nca_file = '/dev/null'",
         "edge.toml:4: stream.ca_file: needs TLS: set stream.tls to true\n"
         "edge.toml:4: stream.ca_file: /dev/null: expected a file"),
        ("[stream]\nbackend = 'kafka'\nservers = 'h:1'\nsasl = 'SCRAM'", "edge.toml:4: "
         'stream.sasl: expected "", "PLAIN", "SCRAM-SHA-256" or "SCRAM-SHA-512", found "SCRAM"'),
        ("[state]\nbackend = 'redis'\nurl = 'http://h'", "edge.toml:3: state.url: expected "
         '"redis://host:6379/0", "redis+sentinel://host:26379,host:26379/service/0" or '
         '"redis+cluster://host:6379,host:6379" (rediss… for TLS), found the scheme "http"'),
        ("[records]\nbackend = 'postgres'\ndsn = 'postgresql://u:secret@h/d'", "edge.toml:3: "
         "records.dsn: holds a password: put it into the file of records.password_file"),
        ("[limits]\nenabled = true", "edge.toml:2: limits.enabled: the limiter is not available "
         "in this version: leave it out or at false"),
        ("[filter]\nmode = 'block'", "edge.toml:2: filter.mode: the request filter is not "
         'available in this version: leave it out or at "off"'),
        ("[tls]\nport = 0\nhostname = 'a.b'", "edge.toml:3: tls.hostname: HTTPS is not available "
         'in this version: leave it out or at ""'),
        ("[[route]]\npath = '/'\nto = 'handler:spa'", "edge.toml:1: route: a route table is not "
         "available in this version: remove it"),
        ("[upstream.a]\nservers = ['http://h']", "edge.toml:1: upstream: proxying to upstreams "
         "is not available in this version: remove it"),
        ("[auth]\nmode = 'required'", 'edge.toml:2: auth.mode: "required" is not available in '
         'this version, logins do not exist yet: set "off" and keep every listener on loopback'),
        ("[http]\nhost = '0.0.0.0'", "edge.toml:2: http.host: expected a loopback address while "
         'auth.mode is "off", found "0.0.0.0": set "127.0.0.1", so that nobody else on the '
         "network gets in without a login"),
        ("[http]\nport = = 1", "edge.toml:2: not valid TOML: Invalid value"),
        ("[http", "edge.toml:1: not valid TOML: Expected ']' at the end of a table declaration"),
        ("a = '''\nb\n", "edge.toml:3: not valid TOML: Expected \"'''\""),
    ],
)  # fmt: skip
def test_one_problem_in_the_file(text: str, message: str) -> None:
    assert refusal(text) == message


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.5", "example.org", ""])
@pytest.mark.parametrize("key", ["http.host", "bus.host"])
def test_a_listener_off_loopback_needs_logins(key: str, host: str) -> None:
    assert refusal("", f'{key}="{host}"').startswith(f"--set: {key}: expected a loopback address")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_needs_none(host: str) -> None:
    assert load(None, sets=[f'http.host="{host}"', f'bus.host="{host}"']).http.host == host


def test_the_other_sources_are_named() -> None:
    environ = {"EDGE__HTTP__PORT": "x"}
    assert refusal("", "log.level=1", environ=environ) == (
        'environment EDGE__HTTP__PORT: http.port: expected an integer from 0 to 65535, found "x"\n'
        '--set: log.level: expected "debug", "info", "warning" or "error", found 1'
    )
    assert refusal("", environ={"EDGE__HTTP": "1"}) == (
        "environment EDGE__HTTP: expected EDGE__SECTION__KEY"
    )
    assert refusal("", "http.port").startswith("--set: expected section.key=value")
    assert refusal("", "site.id=42").endswith("""(write '"42"' for a string)""")


def test_all_problems_are_told_at_once() -> None:
    Path("edge.toml").write_text("[http]\nport = -1\nhots = 1\n[bus]\nbackend = 1\n")
    with pytest.raises(InvalidConfig) as caught:
        load(None)
    assert [(p.where, p.key) for p in caught.value.problems] == [
        ("edge.toml:2", "http.port"),
        ("edge.toml:3", "http.hots"),
        ("edge.toml:5", "bus.backend"),
    ]


def test_bytes_that_are_no_text() -> None:
    Path("edge.toml").write_bytes(b"[http]\nport = \xff")
    with pytest.raises(ConfigError, match=r"^edge\.toml:2: expected UTF-8 text"):
        load(None)


BROKER = "[bus]\nbackend = 'mqtt'\nurl = 'mqtts://h'\nuser = 'u'\n"


def test_secret_files(here: Path) -> None:
    assert refusal(BROKER + "password_file = 'pw'") == (
        "edge.toml:5: bus.password_file: pw: No such file or directory"
    )
    Path("pw").write_text("secret")
    Path("pw").chmod(0o644)
    assert "edge.toml:5: bus.password_file: pw: everybody on this machine can read" in refusal(
        BROKER + "password_file = 'pw'"
    )
    Path("pw").chmod(0o600)
    assert load(None).bus.prefix == "smartair/v1"
    assert refusal(BROKER + "password_file = '.'").endswith(": expected a file")


def test_what_belongs_together() -> None:
    Path("c").write_text("")
    Path("c").chmod(0o600)
    assert "bus.key_file: is missing" in refusal(BROKER + "cert_file = 'c'")
    assert "bus.ca_file: needs TLS" in refusal(BROKER.replace("mqtts", "mqtt") + "ca_file = 'c'")
    assert "bus.user: is missing" in refusal(
        BROKER.replace("user = 'u'\n", "") + "password_file = 'c'"
    )


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    message = refusal("[bus]\nbackend = 'mqtt'\nurl = 'mqtt://me:hunter2@h'")
    assert "password_file" in message
    assert "hunter2" not in message
