"""Figures come out as measured, and bench/results.json has the shape of docs/api.md."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import FIGURES, chosen, measure
from bench.context import Context
from bench.percentiles import percentile, summary_ms
from bench.report import CheckFailed, absent, beside, figure, write
from bench.ws_client import frames, understand

KEYS = [
    "id",
    "what",
    "value",
    "unit",
    "goal",
    "holds",
    "peer",
    "peerValue",
    "ratio",
    "runs",
    "cpuS",
]


def test_rows_have_the_shape_of_the_api(tmp_path: Path) -> None:
    peer = figure("a:peer", "peer", "msg/s", [50.0, 40.0, 60.0])
    row = beside(figure("a", "ours", "msg/s", [90, 100, 300], goal=100, cpu=[1, 3]), "peer", peer)
    write([row, peer, absent("b", "gone", "s", "not installed")], tmp_path / "results.json")
    data = json.loads((tmp_path / "results.json").read_text())
    assert [list(entry) for entry in data] == [KEYS] * 3
    assert data[0] == {
        "id": "a",
        "what": "ours",
        "value": 100.0,
        "unit": "msg/s",
        "goal": 100,
        "holds": True,
        "peer": "peer",
        "peerValue": 50.0,
        "ratio": 2.0,
        "runs": [90.0, 100.0, 300.0],
        "cpuS": 2.0,
    }
    assert data[2]["value"] is None
    assert data[2]["holds"] is None
    assert "not installed" in data[2]["what"]


@pytest.mark.parametrize(
    ("value", "better", "holds"),
    [(9.9, "less", True), (10.1, "less", False), (9.9, "more", False), (10.0, "more", True)],
)
def test_a_goal_has_a_direction(value: float, better: str, holds: bool) -> None:
    row = figure("x", "", "ms", [value], goal=10.0, better="less" if better == "less" else "more")
    assert row.holds is holds


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(100, 0.99, 99), (100, 0.5, 50), (101, 0.99, 100), (1, 0.99, 1)],
)
def test_percentiles_are_samples(count: int, share: float, expected: float) -> None:
    assert percentile([float(n) for n in range(1, count + 1)], share) == expected


def test_summary() -> None:
    assert summary_ms([0.003, 0.001, 0.002]) == {"p50": 2.0, "p99": 3.0, "max": 3.0}
    assert summary_ms([]) == {}


def test_a_broken_promise_is_not_hidden_by_the_rest(tmp_path: Path) -> None:
    def breaks(_: Context) -> list[object]:
        raise CheckFailed("a message is gone")

    def works(_: Context) -> list[object]:
        return [figure("fine", "", "s", [1.0])]

    rows, broken = measure({"bad": breaks, "good": works}, Context(tmp_path))  # type: ignore[dict-item]
    assert [row.id for row in rows] == ["fine"]
    assert broken == ["bad: a message is gone"]


def test_figures_are_chosen_by_their_beginnings() -> None:
    assert list(chosen("latency")) == ["latency-1000", "latency-5000"]
    assert chosen("") == FIGURES
    with pytest.raises(KeyError):
        chosen("nonsense")


def test_frames_are_split_where_they_end() -> None:
    """RFC 6455, 5.2: lengths of 7 and of 16 bits; a frame that is not whole yet stays."""
    long = b"\x81\x7e\x01\x00" + b"x" * 256
    data = b"\x81\x02hi" + long + b"\x89\x00" + b"\x81\x05ab"
    assert list(frames(data)) == [(1, 2, 4), (1, 8, 264), (9, 266, 266)]


def test_messages_are_understood() -> None:
    seen = understand(b'{"type":"pose","offset":7,"poses":[{"id":"a","seq":3,"x":1.0},{"id":"b"}]}')
    assert (seen.kind, seen.offset, seen.seqs) == ("pose", 7, (3,))


def test_the_command_measures_and_writes(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench", "--quick", "--only", "journal"),
            *("--dir", str(tmp_path), "--out", str(out)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["id"]: row for row in json.loads(out.read_text())}
    assert rows["journal"]["value"] > 0
    assert rows["journal"]["ratio"] == pytest.approx(
        rows["journal"]["value"] / rows["journal:sqlite"]["value"], rel=1e-3
    )
    assert list(tmp_path.iterdir()) == [out]  # nothing is left behind
