"""The unit is hardened and valid, and the files beside it make the user and the directories."""

import configparser
import os
import re
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.services import need

FOLDER = Path(__file__).parents[2] / "systemd"
UNIT = FOLDER / "edge-gateway.service"


def output(command: Sequence[str | Path]) -> str:
    done = subprocess.run(
        command,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_exposure_is_at_most_two() -> None:
    told = output([need("systemd-analyze"), "security", "--offline=yes", "--no-pager", UNIT])
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert level is not None, told
    assert float(level[1]) <= 2.0


def test_the_unit_is_valid_but_for_the_program_that_is_not_installed(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8")
    installed = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", text)
    assert installed != text
    copy = tmp_path / UNIT.name
    copy.write_text(installed, encoding="utf-8")
    assert output([need("systemd-analyze"), "verify", "--man=no", copy]).strip() == ""


def test_the_unit_says_what_the_gateway_does() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # keys keep their case
    unit.read(UNIT, encoding="utf-8")
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == str(os.EX_CONFIG)
    assert service["ExecStart"].endswith("edge-gateway run --config /etc/edge-gateway/edge.toml")
    assert f"EDGE__DATA__DIR=/var/lib/{service['StateDirectory']}" in service["Environment"]
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"]
    assert int(service["WatchdogSec"]) > 2 * 1  # two pings per period, and a second of slack


@pytest.mark.skipif(os.geteuid() != 0, reason="owners can be set by root only")
def test_the_user_and_the_directories_are_made(tmp_path: Path) -> None:
    (tmp_path / "etc/edge-gateway").mkdir(parents=True)
    config = tmp_path / "etc/edge-gateway/edge.toml"
    config.write_text("")
    root = f"--root={tmp_path}"
    output([need("systemd-sysusers"), root, FOLDER / "edge-gateway.sysusers"])
    entry = (tmp_path / "etc/passwd").read_text().strip().split(":")
    assert entry[0] == "edge-gateway"
    assert entry[5:] == ["/var/lib/edge-gateway", "/usr/sbin/nologin"]
    output([need("systemd-tmpfiles"), root, "--create", FOLDER / "edge-gateway.tmpfiles"])
    data = (tmp_path / "var/lib/edge-gateway").stat()
    assert (stat.S_IMODE(data.st_mode), data.st_uid) == (0o700, int(entry[2]))
    about = config.stat()
    assert (stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid) == (0o640, 0, int(entry[3]))
