"""The main job on real input: published with mosquitto_pub, seen everywhere."""

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.process import GatewayProcess
from tests.services import need
from tests.services.mosquitto import Mosquitto

TREE = "smartair/v1/home"


def publish(port: int, topic: str, payload: str, *more: str) -> None:
    """One QoS 1 message; returns when its PUBACK came."""
    program = str(need("mosquitto_pub"))
    subprocess.run(
        [program, "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-t", topic, "-m", payload, *more],
        check=True,
        timeout=20,
    )


@pytest.fixture(params=["embedded", "mqtt"])
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[GatewayProcess, int]]:
    """A gateway, and the port on which robots publish."""
    if request.param == "embedded":
        with GatewayProcess(tmp_path) as process:
            yield process, process.mqtt
        return
    broker: Mosquitto = request.getfixturevalue("mosquitto")
    with GatewayProcess(tmp_path, "bus.backend=mqtt", f"bus.url={broker.url}") as process:
        process.until("a connection", "/readyz", lambda answer: answer["ready"])
        yield process, broker.port


async def test_pose_and_reading_reach_everyone(gateway: tuple[GatewayProcess, int]) -> None:
    process, port = gateway
    now = time.time_ns() // 1_000_000
    pose = {"ts": now, "seq": 1, "map": "f1", "x": 1.25, "y": -2.5, "theta": 0.5, "vx": 0.1}
    sensor = {"ts": now, "seq": 1, "pm25": 12.5, "co2": 640, "temp": 22.5, "rh": 41, "room": "a"}
    url = f"http://127.0.0.1:{process.http}"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/ws/coordinates") as socket,
        asyncio.timeout(20),
    ):
        snapshot = await socket.receive_json()
        assert (snapshot["type"], snapshot["poses"]) == ("snapshot", [])
        await asyncio.to_thread(publish, port, f"{TREE}/r1/pose", json.dumps(pose))
        frame = await socket.receive_json()
        (seen,) = frame["poses"]
        assert frame["type"] == "pose"
        assert (seen["id"], seen["mapId"], seen["x"], seen["y"]) == ("r1", "f1", 1.25, -2.5)
        assert (seen["ts"], seen["seq"]) == (now, 1)
        assert now <= seen["rts"] <= now + 20_000
    await asyncio.to_thread(publish, port, f"{TREE}/r1/sensor", json.dumps(sensor))

    def latest() -> None:
        poses = process.get("/api/coordinates")["poses"]
        assert [item["id"] for item in poses] == ["r1"]
        ledger = process.settled()
        assert ledger["unaccounted"] == 0
        (row,) = process.history("r1")
        assert {key: row[key] for key in sensor} == sensor
        reading = process.get("/api/sensor-data/r1/latest")
        assert (reading["pm25"], reading["co2"]) == (12.5, 640)
        (robot,) = process.get("/api/robots")["items"]
        assert (robot["id"], robot["online"]) == ("r1", True)

    await asyncio.to_thread(latest)


def test_a_thousand_bad_payloads_stall_nothing(gateway: tuple[GatewayProcess, int]) -> None:
    process, port = gateway
    program = str(need("mosquitto_pub"))
    lines = []
    for n in range(1_000):
        lines.append(f'{{"seq":{n},"pm25":{n % 100}}}')
        lines.append(f'{{"seq":{n},"pm25":-{n + 1}}}')
    subprocess.run(
        [program, "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-l", "-t", f"{TREE}/r1/sensor"],
        input="\n".join(lines) + "\n",
        text=True,
        check=True,
        timeout=60,
    )
    ledger = process.settled()
    assert ledger["unaccounted"] == 0
    assert sorted(row["seq"] for row in process.history("r1")) == list(range(1_000))
    items, cursor = [], ""
    while True:
        path = f"/api/admin/dead-letters?limit=300{f'&cursor={cursor}' if cursor else ''}"
        page = process.get(path)
        assert page["total"] == 1_000
        items += page["items"]
        cursor = page["cursor"]
        if not cursor:
            break
    assert len({item["id"] for item in items}) == len(items) == 1_000
    assert {item["reason"] for item in items} == {"INVALID"}
    assert "$.pm25" in items[0]["detail"]
    replayed = process.send("POST", "/api/admin/dead-letters/replay")
    assert replayed == {"replayed": 0, "failed": 1_000}
    assert process.send("DELETE", "/api/admin/dead-letters") == {"deleted": 1_000}
    assert process.get("/api/admin/dead-letters")["total"] == 0


def test_stop_is_ordered_and_quick(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as process:
        assert process.started_s < 5
        assert process.get("/livez") == {"ok": True}
        assert process.stop() < 3
