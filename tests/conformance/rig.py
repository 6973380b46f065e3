"""A gateway that has something to show, and schemathesis in front of it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import paho.mqtt.publish as mqtt

from tests.e2e.process import GatewayProcess

ROOT: Final = Path(__file__).parents[2]
CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
TREE: Final = "smartair/v1/home"


@contextmanager
def furnished(directory: Path) -> Iterator[GatewayProcess]:
    """A gateway with robots, readings and dead letters."""
    with GatewayProcess(directory) as gateway:
        now = time.time_ns() // 1_000_000
        messages = []
        for robot in ("r1", "r2", "r3"):
            said = {
                "pose": {"ts": now, "x": 1.5, "y": -2, "map": "f1"},
                "state": {"ts": now, "state": "cleaning", "battery": 80},
                "event": {"ts": now, "code": "STUCK", "level": "warning"},
                "sensor": {"ts": now, "pm25": 12.5, "pm10": 30, "co2": 640, "room": "a"},
            }
            messages += [
                (f"{TREE}/{robot}/{kind}", json.dumps(what)) for kind, what in said.items()
            ]
            messages += [(f"{TREE}/{robot}/sensor", '{"pm25": -1}'), (f"{TREE}/{robot}/pose", "?")]
        mqtt.multiple(
            [{"topic": topic, "payload": text, "qos": 1} for topic, text in messages],
            hostname="127.0.0.1",
            port=gateway.mqtt,
        )
        batch = [
            {"robotId": "r1", "measuredAt": now - 60_000 * n, "pm25": n % 90, "temp": 20.5}
            for n in range(1, 600)
        ]
        assert gateway.send("POST", "/api/sensor-data/batch", batch)["accepted"] == len(batch)
        gateway.until("dead letters", "/api/admin/dead-letters", lambda page: page["total"] == 6)
        yield gateway


def schemathesis(gateway: GatewayProcess, *options: str) -> "subprocess.Popen[str]":
    """Start it; its exit code is 0 if nothing was found."""
    document = f"http://127.0.0.1:{gateway.http}/api/openapi.json"
    command = [sys.executable, "-m", "schemathesis.cli", "--no-color", f"--config-file={CONFIG}"]
    return subprocess.Popen(
        [*command, "run", document, "--checks=all", *options],
        cwd=gateway.directory,  # it leaves notes of failures there
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def unharmed(gateway: GatewayProcess) -> Sequence[str]:
    """Return what the gateway itself says went wrong."""
    log = gateway.log.read_text(encoding="utf-8").splitlines()
    wrong = [line for line in log if "unhandled" in line or "Traceback" in line]
    if missing := gateway.settled()["unaccounted"]:
        wrong.append(f"unaccounted: {missing}")
    return wrong
