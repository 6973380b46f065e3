"""A link that takes everything and carries nothing: named by /readyz, and green when it heals."""

from pathlib import Path
from typing import Any

from tests.e2e.process import GatewayProcess
from tests.faults.proxy import Proxy
from tests.services.mosquitto import Mosquitto


def red(answer: Any) -> set[str]:
    return {part["name"] for part in answer["parts"] if not part["ok"]}


def passed(answer: Any) -> bool:
    """Whether a canary went through every hop."""
    details = [part["detail"] for part in answer["parts"] if part["name"].startswith("canary ")]
    return bool(details) and all("the last canary passed" in detail for detail in details)


def test_canaries_pass_every_hop_and_are_accounted_for(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as gateway:
        gateway.until("a canary", "/readyz", passed)
        ledger = gateway.settled()
        assert ledger["unaccounted"] == 0
        lines = {line["hop"]: line for line in ledger["hops"] if line["kind"] == "canary"}
        for hop in ("mqtt", "journal", "records"):
            assert lines[hop]["in"] == lines[hop]["delivered"] > 0
        assert gateway.get("/api/robots")["items"] == []


def test_a_black_hole_to_the_broker_is_named_and_heals(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    with (
        Proxy(target_port=mosquitto.port) as proxy,
        GatewayProcess(
            tmp_path, "bus.backend=mqtt", f"bus.url=mqtt://127.0.0.1:{proxy.port}"
        ) as gateway,
    ):
        gateway.until("a canary", "/readyz", lambda answer: answer["ready"] and passed(answer))
        proxy.black_hole()
        answer = gateway.until("red", "/readyz", lambda answer: "canary bus" in red(answer))
        assert not answer["ready"]
        assert red(answer) <= {"bus", "canary bus"}
        proxy.pass_()
        gateway.until("green", "/readyz", lambda answer: answer["ready"])
        assert gateway.settled()["unaccounted"] == 0
