"""``watch`` and ``demo`` against a gateway that runs."""

import json
import math
import subprocess
import urllib.request
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gateway.cli.watch import arrow, table
from tests.cli.command import COMMAND, Running, environment, gateway, run

PROGRAM = " ".join(COMMAND)


@pytest.mark.parametrize(
    ("theta", "shown"),
    [(0, "→"), (math.pi / 2, "↑"), (math.pi, "←"), (-math.pi, "←"), (-math.pi / 2, "↓"),
     (0.35, "→"), (0.45, "↗"), (-0.8, "↘"), (2.4, "↖"), (-2.4, "↙")],
)  # fmt: skip
def test_the_arrow_points_where_the_robot_does(theta: float, shown: str) -> None:
    assert arrow(theta) == shown


def test_the_table_holds_what_is_known() -> None:
    pose = {"id": "r1", "x": 1.234, "y": -2, "theta": 0, "battery": 80.6, "state": "cleaning"}
    shown = table(
        {"r1": pose, "[red]r0": {"id": "[red]r0", "x": 0, "y": 0, "theta": None, "battery": None}},
        {"r1": {"pm25": 8.25, "co2": 612}},
        lambda robot: 5.0 if robot == "r1" else 0.0,
        "title",
    )
    out = StringIO()
    Console(file=out, width=120).print(shown)
    lines = [line.split() for line in out.getvalue().splitlines() if line.strip()]
    assert ["r1", "cleaning", "81", "1.23", "-2.00", "→", "0.0", "5.0", "8.2", "612"] in lines
    assert ["[red]r0", "–", "–", "0.00", "0.00", "→", "0.0", "0.0", "–", "–"] in lines


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def test_the_fleet_is_seen_through_the_gateway(tmp_path: Path) -> None:
    """MQTT in by ``simulate``, WebSocket out by ``watch``, and the ledger balances."""
    (tmp_path / "watch").mkdir()
    with (
        gateway(tmp_path) as (running, url, mqtt),
        Running("watch", "--url", url, "--json", cwd=tmp_path / "watch") as watching,
    ):
        words = ("--robots", "3", "--hz", "20", "--qos", "1", "--duration", "2", "--json")
        done = run("simulate", "--port", str(mqtt), "--host", "127.0.0.1", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["acknowledged"] == told["certain"] == told["sent"]
        seen: set[str] = set()
        while len(seen) < 3:
            pose = json.loads(watching.line())
            assert {"id", "mapId", "x", "y", "theta", "ts", "rts"} <= pose.keys()
            seen.add(pose["id"])
        assert seen == {"sim-001", "sim-002", "sim-003"}
        assert watching.stop() == 0
        assert get(f"{url}/api/admin/ledger")["unaccounted"] == 0
        assert {item["id"] for item in get(f"{url}/api/robots")["items"]} == seen
        assert running.stop() == 0


def test_a_reader_that_leaves_ends_the_command(tmp_path: Path) -> None:
    with gateway(tmp_path) as (running, url, mqtt):
        (tmp_path / "fleet").mkdir()
        words = ("--host", "127.0.0.1", "--port", str(mqtt), "--robots", "2", "--hz", "20")
        with Running("simulate", *words, cwd=tmp_path / "fleet") as driving:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", f"{PROGRAM} watch --json --url {url} | head -1"],
                env=environment(),
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert json.loads(done.stdout)["id"].startswith("sim-")
            assert (done.returncode, done.stderr) == (1, "")
            assert driving.stop() == 0
        assert running.stop() == 0


def test_watch_waits_for_a_gateway_that_is_not_there(tmp_path: Path) -> None:
    with Running("watch", "--url", "http://127.0.0.1:1", "--json", cwd=tmp_path) as watching:
        while "trying again" not in watching.errors.read_text():
            assert watching.process.poll() is None
        assert watching.stop() == 0


def test_the_demo_shows_its_robots(tmp_path: Path) -> None:
    sets = ("--set", "http.port=0", "--set", "bus.port=0")
    with Running("demo", "--robots", "2", "--hz", "20", *sets, cwd=tmp_path) as showing:
        url = showing.line().split()[1].removeprefix("http=")
        robots: set[str] = set()
        while len(robots) < 2:
            robots |= {pose["id"] for pose in get(f"{url}/api/coordinates")["poses"]}
        assert robots == {"sim-001", "sim-002"}
        assert showing.stop() == 0
    assert not (tmp_path / "data").exists()
    assert "Traceback" not in showing.errors.read_text()
