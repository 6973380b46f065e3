"""``selftest`` on real servers, each link cut for some seconds: EDGE_LONG=1."""

import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import run
from tests.services.kafka import Kafka
from tests.services.mosquitto import Mosquitto
from tests.services.redis import Redis


def cut(tmp_path: Path, link: str, *sets: str) -> dict[str, Any]:
    """Return what a cut of 5 s says of a gateway of its own."""
    words = [word for item in ("http.port=0", *sets) for word in ("--set", item)]
    done = run("selftest", "--cut", link, "--for", "5s", "--json", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert (said["cut"], said["verdict"], said["faults"]) == (link, "held", [])
    assert (said["lost"], said["unaccounted"]) == (0, 0)
    assert said["published"] == said["acknowledged"] > 2_500
    assert said["reportedBy"]
    assert said["healedAfterS"] is not None
    return said


def expected(said: dict[str, Any]) -> dict[str, int]:
    return {proof["place"]: proof["expected"] for proof in said["proofs"]}


@pytest.mark.parametrize("link", ["kafka", "redis"])
def test_beyond_the_box(link: str, tmp_path: Path, kafka: Kafka, redis_server: Redis) -> None:
    name = f"selftest-{secrets.token_hex(6)}"
    said = cut(
        tmp_path,
        link,
        "bus.port=0",
        "stream.backend=kafka",
        f"stream.servers={kafka.servers}",
        f"stream.prefix={name}",
        "state.backend=redis",
        f"state.url={redis_server.url}",
        f"state.prefix={name}",
    )
    looked_for = expected(said)
    assert looked_for["stream"] == said["acknowledged"]
    assert looked_for["state (newest)"] == 20
    assert said["latencyMs"]["during"]["count"] > 400  # browsers went on


def test_the_devices_broker(tmp_path: Path, mosquitto: Mosquitto) -> None:
    said = cut(tmp_path, "broker", "bus.backend=mqtt", f"bus.url={mosquitto.url}")
    assert "bus" in said["reportedBy"]
    assert expected(said)["live view (last pose)"] == 10
