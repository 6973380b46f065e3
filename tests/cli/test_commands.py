"""Commands that print and end: exit codes, JSON, and one clear line instead of a traceback."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import ROOT, run


def test_help_names_every_command(tmp_path: Path) -> None:
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0
    for name in ("run", "check", "doctor", "simulate", "watch", "demo", "journal", "version"):
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize(
    "command",
    ["run", "check", "doctor", "simulate", "watch", "demo", "version", "journal verify"],
)
def test_every_command_takes_the_configuration(tmp_path: Path, command: str) -> None:
    told = run(*command.split(), "--help", cwd=tmp_path).stdout
    assert "--config FILE" in told
    assert "--set SECTION.KEY=VALUE" in told


def test_the_installed_program_is_the_module(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("edge-gateway")
    done = subprocess.run(
        [program, "version", "--json"], cwd=tmp_path, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == json.loads(run("version", "--json", cwd=tmp_path).stdout)


@pytest.mark.parametrize("words", [["--nonsense"], ["check", "--sett", "a=b"], ["fly"]])
def test_a_wrong_word_is_2(tmp_path: Path, words: list[str]) -> None:
    done = run(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["run", "check", "doctor", "simulate", "watch", "demo"])
def test_a_wrong_configuration_is_78_in_one_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "edge.toml").write_text("\n[http]\nport = 'x'\n")
    done = run(command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == (
        'edge-gateway: edge.toml:3: http.port: expected an integer from 0 to 65535, found "x"\n'
    )


def test_a_missing_file_is_78(tmp_path: Path) -> None:
    done = run("check", "--config", "none.toml", cwd=tmp_path)
    assert done.returncode == 78
    assert done.stderr == ("edge-gateway: none.toml: cannot be read: No such file or directory\n")


def test_check_shows_what_differs_and_where_it_was_said(tmp_path: Path) -> None:
    (tmp_path / "edge.toml").write_text("[http]\nport = 9000\nbacklog = 1024\n")
    environ = {"EDGE__SITE__ID": "lab"}
    words = ["check", "--set", "log.level=debug"]
    table = run(*words, cwd=tmp_path, env=environ)
    assert table.returncode == 0
    assert "http.port" in table.stdout
    assert "edge.toml:2" in table.stdout
    assert "backlog" not in table.stdout
    told = json.loads(run(*words, "--json", cwd=tmp_path, env=environ).stdout)
    assert (told["ok"], told["file"], told["config"]["site"]["id"]) == (True, "edge.toml", "lab")
    assert told["changed"] == [
        {"key": "http.port", "value": 9000, "default": 8080, "where": "edge.toml:2"},
        {
            "key": "site.id",
            "value": "lab",
            "default": "home",
            "where": "environment EDGE__SITE__ID",
        },
        {"key": "log.level", "value": "debug", "default": "info", "where": "--set"},
    ]


def test_check_of_the_shipped_file(tmp_path: Path) -> None:
    done = run("check", "--config", ROOT / "edge.toml", "--set", "data.dir=data", cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "every value is the default")


def test_check_as_json_tells_the_errors(tmp_path: Path) -> None:
    done = run("check", "--json", "--set", "http.prot=1", cwd=tmp_path)
    assert done.returncode == 78
    assert json.loads(done.stdout) == {
        "ok": False,
        "errors": [
            {"where": "--set", "key": "http.prot", "message": 'unknown key: did you mean "port"?'}
        ],
    }


def test_check_never_shows_a_secret(tmp_path: Path) -> None:
    secret = tmp_path / "pw"
    secret.write_text("hunter2")
    secret.chmod(0o600)
    (tmp_path / "edge.toml").write_text(
        "[bus]\nbackend='mqtt'\nurl='mqtt://h'\nuser='u'\npassword_file='pw'\n"
    )
    for words in (["check"], ["check", "--json"]):
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 0
        assert "password_file" in done.stdout
        assert "hunter2" not in done.stdout + done.stderr


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    return {row["what"]: row for row in json.loads(done.stdout)["findings"]}


def test_doctor_on_a_good_machine(tmp_path: Path) -> None:
    sets = ("--set", "http.port=0", "--set", "bus.port=0")
    done = run("doctor", "--json", *sets, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    told = findings(done)
    assert {"configuration", "python", "packages", "data directory", "disk space"} <= told.keys()
    assert {"disk sync", "clock", "time zone", "open files", "port HTTP"} <= told.keys()
    assert all(row["advice"] for row in told.values() if row["level"] != "OK")
    assert not (tmp_path / "data").exists()  # it looks, and leaves nothing behind
    table = run("doctor", *sets, cwd=tmp_path)
    assert table.returncode == 0
    assert "fdatasync of 4 KiB: median" in table.stdout


def test_doctor_on_a_port_that_another_program_has(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run("doctor", "--json", "--set", f"bus.port={port}", "--set", "http.port=0",
                   cwd=tmp_path)  # fmt: skip
    assert done.returncode == 1
    row = findings(done)["port MQTT"]
    assert (row["level"], row["found"]) == ("FAIL", f"127.0.0.1:{port}: Address already in use")
    assert "--set bus.port=PORT" in row["advice"]


def test_doctor_on_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    done = run("doctor", "--json", "--set", "http.port=0", "--set", "bus.port=0", cwd=tmp_path)
    assert done.returncode == 1
    assert findings(done)["data directory"]["level"] == "FAIL"


def test_doctor_on_a_broker_that_is_away(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    sets = ("http.port=0", "bus.backend=mqtt", f"bus.url=mqtt://127.0.0.1:{port}")
    words = [part for item in sets for part in ("--set", item)]
    done = run("doctor", "--json", *words, cwd=tmp_path)
    assert done.returncode == 69
    assert "refused" in findings(done)["broker"]["found"]
