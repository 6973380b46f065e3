"""``why``: what the table says of an answer."""

from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from gateway.cli.why import show
from tests.cli.command import run
from tests.services.process import free_port


def shown(answer: dict[str, Any]) -> str:
    out = StringIO()
    show(answer, Console(file=out, width=160))
    return out.getvalue()


def hop(name: str, verdict: str = "delivered", ms: int | None = 3) -> dict[str, Any]:
    return {"hop": name, "verdict": verdict, "at": None, "ms": ms, "reason": ""}


ANSWER: dict[str, Any] = {
    "robot": "r1",
    "truncated": True,
    "summary": {"text": "2 messages: 1 delivered, 1 waiting"},
    "hops": [
        {"hop": "journal", "ok": True, "waiting": 0, "dropped": 0, "reason": ""},
        {"hop": "records", "ok": False, "waiting": 9, "dropped": 4, "reason": "the disk is full"},
    ],
    "messages": [
        {
            "kind": "dead-letter",
            "rts": "2026-01-02T03:04:05.678Z",
            "seq": None,
            "verdict": "waiting",
            "reason": "records: \x1b[31m[red]",
            "hops": [
                hop("received"),
                hop("journal", ms=17),
                hop("records", "waiting", None),
            ],
        },
        {
            "kind": "pose",
            "rts": "2026-01-02T03:04:04.000Z",
            "seq": 7,
            "verdict": "delivered",
            "reason": "",
            "hops": [hop("received"), hop("journal", ms=None), hop("live", ms=0)],
        },
    ],
    "exceptions": [
        {"kind": "pose", "rts": "2026-01-02T03:04:04.000Z", "seq": 7, "verdict": "stale",
         "reason": "of a message above"},
        {"kind": "pose", "rts": "2026-01-02T03:03:00.000Z", "seq": 1, "verdict": "stale",
         "reason": "older"},
    ],
}  # fmt: skip


def test_the_table_has_a_line_for_each_message_and_a_column_for_each_hop() -> None:
    text = shown(ANSWER)
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert lines[0] == ["r1:", "2", "messages:", "1", "delivered,", "1", "waiting"]
    assert "records: the disk is full; 9 wait there, 4 were dropped" in text
    heads = ["received", "kind", "seq", "journal", "ms", "live", "ms", "records", "ms", "verdict"]
    assert [*heads, "why"] in lines
    dead = ["03:04:05.678", "dead-letter", "17", "waiting", "waiting", "records:"]
    assert [*dead, "\\x1b[31m[red]"] in lines
    assert ["03:04:04.000", "pose", "7", "yes", "0", "delivered"] in lines
    assert "2026-01-02T03:03:00.000Z pose stale: older" in text
    assert "of a message above" not in text
    assert "There was more" in text


def test_nothing_to_show() -> None:
    summary = {"text": "nothing was received from it"}
    text = shown(
        ANSWER | {"summary": summary, "messages": [], "exceptions": [], "truncated": False}
    )
    assert "r1: nothing was received from it" in text
    assert "There was more" not in text


def test_a_gateway_that_is_away_is_told_so(tmp_path: Path) -> None:
    done = run("why", "r1", "--url", f"http://127.0.0.1:{free_port()}", cwd=tmp_path)
    assert done.returncode == 69
    assert "does not answer" in done.stderr
    assert "--url" in done.stderr
    assert "Traceback" not in done.stderr
