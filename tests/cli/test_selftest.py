"""``selftest``: on gateways that run, on one of its own, and what it says of a loss."""

import json
import signal
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.cli.selftest_gate import open_gate
from gateway.cli.selftest_load import Load, Robot, Sent
from gateway.cli.selftest_proof import in_history, in_state, in_stream, on_the_view
from gateway.cli.selftest_report import latencies
from gateway.cli.target import Target
from gateway.core.kinds import LABEL, Kind
from gateway.core.shared import TTL_S, Shared, encode
from gateway.state.memory import MemoryStateStore
from gateway.state.port import Newest
from tests.cli.command import Running, gateway, run


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def robot(name: str, count: int, *, acknowledged: bool = True) -> Robot:
    """Return a robot that sent so many messages, every 10 ms from 100 s on."""
    made = Robot(name)
    for n in range(count):
        kind = Kind.SENSOR if n % 2 else Kind.POSE
        acked_s = 200.0 if acknowledged else 0.0
        made.sent.append(Sent(kind, n + 1, 100.0 + n / 100, b"{}", acked_s))
    return made


def held(done: Any, cut: str | None) -> dict[str, Any]:
    """Return the JSON of a run that lost nothing."""
    assert done.returncode == 0, done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert (said["cut"], said["lost"], said["unaccounted"]) == (cut, 0, 0)
    assert (said["verdict"], said["faults"]) == ("held", [])
    assert said["published"] == said["acknowledged"] > 500
    places = {proof["place"]: proof for proof in said["proofs"]}
    assert abs(2 * places["history"]["expected"] - said["acknowledged"]) <= 4  # robots
    assert all(proof["missing"] == 0 for proof in said["proofs"])
    for phase in ("before", "during", "after"):
        one = said["latencyMs"][phase]
        assert one["count"] > 0
        assert 0 <= one["p50"] <= one["p99"] <= one["max"]
    return said


def test_history_is_cut_on_a_gateway_of_its_own(tmp_path: Path) -> None:
    words = ("--set", "http.port=0", "--set", "bus.port=0", "--robots", "4", "--rate", "100")
    done = run("selftest", "--cut", "records", "--for", "2s", "--json", *words, cwd=tmp_path)
    said = held(done, "records")
    assert "starting a gateway with the same configuration" in done.stderr
    assert "records" in said["reportedBy"]
    assert 0 <= said["reportedAfterS"] < 2.5
    assert said["healedAfterS"] is not None
    assert said["drainS"] is not None
    assert (tmp_path / "data" / "journal").is_dir()  # the same configuration: its own data


def test_the_broker_is_cut_on_a_gateway_that_runs(tmp_path: Path) -> None:
    """Devices are thrown out and come back; what they could not send is not lost."""
    with gateway(tmp_path) as (running, url, mqtt):
        (tmp_path / "test").mkdir()
        words = ("--url", url, "--set", f"bus.port={mqtt}", "--robots", "4", "--rate", "100")
        cut = ("--cut", "broker", "--for", "1s")
        said = held(run("selftest", "--json", *cut, *words, cwd=tmp_path / "test"), "broker")
        assert said["latencyMs"]["during"]["max"] > 900  # they waited for the end of it
        names = [item["id"] for item in get(f"{url}/api/robots")["items"]]
        assert len(names) == 4
        assert all(name.startswith("selftest-") for name in names)
        assert running.stop() == 0


def test_ctrl_c_ends_the_cut(tmp_path: Path) -> None:
    with gateway(tmp_path) as (running, url, mqtt):
        (tmp_path / "test").mkdir()
        words = ("--url", url, "--set", f"bus.port={mqtt}", "--cut", "records", "--for", "10m")
        with Running("selftest", *words, cwd=tmp_path / "test") as testing:
            until(lambda: get(f"{url}/api/admin/drill")["link"] == "records")
            second = run("selftest", *words, cwd=tmp_path / "test")
            assert (second.returncode, second.stdout) == (1, "")
            assert "a drill goes on there: records is cut" in second.stderr
            assert testing.stop(signal.SIGINT) == 1
            assert "nothing is cut any more" in testing.errors.read_text()
        assert get(f"{url}/api/admin/drill")["link"] is None
        assert running.stop() == 0


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--cut", "kafka"), 2, 'set stream.backend = "kafka" and stream.servers'),
        (("--cut", "redis"), 2, 'set state.backend = "redis" and state.url'),
        (("--cut", "disk"), 2, "not one of 'kafka', 'redis', 'broker', 'records'"),
        (("--for", "1h"), 2, "no time from 1s to 10m"),
        (("--for", "0s"), 2, "no time from 1s to 10m"),
        (("--robots", "0"), 2, "--robots"),
        (("--set", "http.prot=1"), 78, "unknown key"),
        (("--url", "http://127.0.0.1:1"), 69, "no gateway answers at http://127.0.0.1:1"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    done = run("selftest", *words, cwd=tmp_path, env={"NO_COLOR": "1", "COLUMNS": "200"})
    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_link_that_the_running_gateway_does_not_have(tmp_path: Path) -> None:
    with gateway(tmp_path) as (_, url, mqtt):
        other = ("--set", "state.backend=redis", "--set", "state.url=redis://127.0.0.1:1/0")
        words = ("--url", url, "--set", f"bus.port={mqtt}", *other, "--cut", "redis")
        done = run("selftest", *words, cwd=tmp_path)
        assert done.returncode == 2
        assert "has no link redis, but broker, records" in done.stderr


# What it would find if something were lost.


async def test_readings_that_history_does_not_have_are_counted(
    aiohttp_server: Callable[[web.Application], Awaitable[TestServer]],
) -> None:
    lost = {4, 10}

    async def page(request: web.Request) -> web.Response:
        """Two pages of the even numbers, without those that were lost."""
        seqs = [n for n in range(2, 21, 2) if n not in lost]
        first = "cursor" not in request.query
        rows = [{"seq": n} for n in (seqs[:4] if first else seqs[4:])]
        return web.json_response({"rows": rows, "cursor": "next" if first else None})

    app = web.Application()
    app.add_routes([web.get("/api/sensor-data/{robot}", page)])
    server = await aiohttp_server(app)
    async with open_gate(f"http://127.0.0.1:{server.port}") as gate:
        proof = await in_history(gate, [robot("a", 20), robot("b", 20)], time.monotonic())
        assert (proof.expected, proof.missing, proof.holds) == (20, 4, False)
        lost.clear()
        proof = await in_history(gate, [robot("a", 20)], time.monotonic())
        assert (proof.expected, proof.missing, proof.holds) == (10, 0, True)
        only_some = robot("a", 20, acknowledged=False)
        proof = await in_history(gate, [only_some], time.monotonic())
        assert proof.expected == 0  # nobody was promised anything
    await server.close()


async def test_history_that_does_not_answer_proves_nothing() -> None:
    async with open_gate("http://127.0.0.1:1") as gate:
        proof = await in_history(gate, [robot("a", 20)], time.monotonic())
        assert (proof.missing, proof.holds) == (10, False)
        assert proof.trouble


async def test_the_stream_is_read_back_in_order() -> None:
    def carried(seqs: set[int], duplicates: int = 0, disordered: int = 0) -> Any:
        return SimpleNamespace(seqs=seqs, duplicates=duplicates, disordered=disordered)

    class Stream:
        def __init__(self, poses: Any, readings: Any) -> None:
            self.carried = {(Kind.POSE, "a"): poses, (Kind.SENSOR, "a"): readings}

        async def read(self) -> None:
            """All of it was read."""

    whole = carried(set(range(1, 21, 2))), carried(set(range(2, 21, 2)), duplicates=3)
    proof = await in_stream(Stream(*whole), [robot("a", 20)], time.monotonic())
    assert (proof.expected, proof.missing, proof.duplicates, proof.holds) == (20, 0, 3, True)
    missing = carried({1, 3}), carried(set(range(2, 21, 2)))
    proof = await in_stream(Stream(*missing), [robot("a", 20)], time.monotonic())
    assert (proof.missing, proof.holds) == (8, False)
    wrong = carried(set(range(1, 21, 2)), disordered=1), carried(set(range(2, 21, 2)))
    proof = await in_stream(Stream(*wrong), [robot("a", 20)], time.monotonic())
    assert (proof.missing, proof.disordered, proof.holds) == (0, 1, False)


async def test_the_state_must_have_the_last() -> None:
    store, late = MemoryStateStore(), robot("a", 20)
    for kind, seq in ((Kind.POSE, 19), (Kind.SENSOR, 18)):
        value = Shared(kind, "a", seq, seq, "b", json.dumps({"seq": seq}).encode())
        await store.put_newest(
            LABEL[kind], [Newest("a", seq, seq, seq, encode(value))], ttl_s=TTL_S
        )
    proof = await in_state(store, [late], time.monotonic())
    assert (proof.expected, proof.missing, proof.holds) == (2, 1, False)


async def test_a_reader_that_never_saw_the_last_pose() -> None:
    seen, unseen = robot("a", 20), robot("b", 20)
    seen.saw(19, 110.0)
    unseen.saw(17, 110.0)
    proof = await on_the_view([seen, unseen], time.monotonic())
    assert (proof.expected, proof.missing) == (2, 1)


def test_latencies_count_from_the_instant_that_was_planned() -> None:
    one = robot("a", 100)  # due from 100.00 s to 100.99 s
    one.saw(61, 100.7)  # a newer pose tells the older ones too
    one.saw(99, 101.0)
    found = latencies([one], 100.3, 100.8)
    assert [found[phase].count for phase in ("before", "during", "after")] == [10, 30, 10]
    assert found["before"].max == pytest.approx(700)
    assert found["after"].max == pytest.approx(200)
    assert found["after"].p50 == pytest.approx(100, abs=21)
    nothing = latencies([], 0, 0)["before"]
    assert (nothing.count, nothing.p50, nothing.max) == (0, None, None)


def test_what_is_not_acknowledged_is_known() -> None:
    one = robot("a", 10)
    one.sent[3].acked_s = one.sent[7].acked_s = 0.0
    assert one.unacknowledged == 2
    assert one.acknowledged(Kind.SENSOR) == [2, 6, 10]
    one.sent[3].acked_s = one.sent[7].acked_s = 1.0
    assert one.unacknowledged == 0
    load = Load(Target(host="", port=0, prefix="", site=""), ["a"], 1.0)
    load.robots = [one]
    assert load.published == 10
    assert load.behind_s > 0
    one.saw(99, 1.0)
    assert load.behind_s == 0
