"""Good, stale and bad messages, and the question where they are: by HTTP and by command."""

import json
import time
from pathlib import Path
from typing import Any

from tests.cli.command import run
from tests.e2e.process import GatewayProcess
from tests.e2e.test_chain import TREE, publish


def test_why_tells_good_from_stale_from_bad(tmp_path: Path) -> None:
    now = time.time_ns() // 1_000_000
    with GatewayProcess(tmp_path) as gateway:
        for kind, payload in (
            ("pose", {"ts": now, "seq": 5, "x": 1, "y": 2}),
            ("pose", {"ts": now - 500, "seq": 4, "x": 1, "y": 2}),
            ("sensor", {"ts": now, "seq": 1, "pm25": 3}),
            ("sensor", {"ts": now, "seq": 2, "pm25": "much"}),
        ):
            publish(gateway.mqtt, f"{TREE}/r1/{kind}", json.dumps(payload))
        publish(gateway.mqtt, f"{TREE}/r2/pose", '{"x":1,"y":2}')

        def settled(answer: Any) -> bool:
            return [message["verdict"] for message in answer["messages"]] == [
                "dead-letter", "delivered", "stale", "delivered",
            ]  # fmt: skip

        answer = gateway.until("an answer", "/api/admin/why/r1", settled)
        bad, reading, old, pose = answer["messages"]
        assert bad["reason"].startswith("INVALID: Expected `float | null`, got `str` - at `$.pm25`")
        assert old["reason"].startswith("live: not newer than what was known")
        assert [hop["hop"] for hop in reading["hops"]][:4] == [
            "received", "journal", "live", "records",
        ]  # fmt: skip
        assert (pose["kind"], pose["seq"]) == ("pose", 5)
        assert all(hop["verdict"] == "delivered" for hop in pose["hops"] + reading["hops"])
        assert [miss["seq"] for miss in answer["exceptions"]] == [4]
        assert answer["truncated"] is False
        assert {"journal", "records"} <= {hop["hop"] for hop in answer["hops"] if hop["ok"]}

        assert gateway.get("/api/admin/why/nobody")["code"] == "NOT_FOUND"
        url = ("--url", f"http://127.0.0.1:{gateway.http}")
        table = run("why", "r1", *url, cwd=tmp_path)
        assert table.returncode == 0, table.stderr
        assert "dead-letter" in table.stdout
        assert "stale" in table.stdout
        told = run("why", "r1", *url, "--json", cwd=tmp_path)
        assert [message["seq"] for message in json.loads(told.stdout)["messages"]] == [
            None, 1, 4, 5,
        ]  # fmt: skip
        unknown = run("why", "nobody", *url, cwd=tmp_path)
        assert unknown.returncode == 1
        assert "knows no robot 'nobody'" in unknown.stderr
        ledger = gateway.settled()
        assert ledger["unaccounted"] == 0
