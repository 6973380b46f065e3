"""``edge-gateway journal``, on a journal that is being written and on a damaged one."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.journal import app
from gateway.core.kinds import Kind
from gateway.journal.open import open_journal
from gateway.journal.port import Journal
from tests.journal.filling import FAST, TINY, drain, entries, put, put_each, segments


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def answer(*arguments: str) -> Any:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Journal]:
    async with open_journal(TINY, tmp_path) as journal:
        await put_each(journal, entries(100))
        await put_each(journal, [(Kind.EVENT, "한글", 5, b'{"code":"\x1b[31m"}')])
        yield journal


async def test_verify(running: Journal, tmp_path: Path) -> None:
    found = await asyncio.to_thread(answer, "verify", "--dir", str(tmp_path))
    assert found["ok"] is True
    assert (found["records"], found["missing"], found["next_offset"]) == (101, 0, 101)
    assert found["epoch"] == running.stats().epoch
    assert [s["name"] for s in found["segments"]] == [path.name for path in segments(tmp_path)]
    table = await asyncio.to_thread(invoke, "verify", "--dir", str(tmp_path))
    assert table.exit_code == 0
    assert table.stdout.endswith("ok\n")


async def test_stats(running: Journal, tmp_path: Path) -> None:
    reader = running.reader("records")
    await drain(running, reader)
    reader.commit(60)
    while not (tmp_path / "journal" / "cursors" / "records").exists():  # noqa: ASYNC110 - a thread
        await asyncio.sleep(0.02)
    found = await asyncio.to_thread(answer, "stats", "--dir", str(tmp_path))
    stats = running.stats()
    assert (found["first_offset"], found["next_offset"]) == (0, 101)
    assert (found["segments_on_disk"], found["bytes"]) == (stats.segments, stats.bytes_on_disk)
    assert found["cursors"] == [{"name": "records", "next_offset": 60, "behind": 41}]


async def test_tail(running: Journal, tmp_path: Path) -> None:
    where = ("--dir", str(tmp_path))
    found = await asyncio.to_thread(invoke, "tail", *where, "-n", "3", "--json")
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert [row["offset"] for row in rows] == [98, 99, 100]
    assert rows[-1]["kind"] == "event"
    assert rows[-1]["robot"] == "한글"
    found = await asyncio.to_thread(
        invoke, "tail", *where, "--kind", "sensor", "--robot", "r3", "-n", "40", "--json"
    )
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert [row["offset"] for row in rows] == list(range(3, 100, 7))


async def test_what_a_device_sent_cannot_drive_the_terminal(
    running: Journal, tmp_path: Path
) -> None:
    found = await asyncio.to_thread(invoke, "tail", "--dir", str(tmp_path), "-n", "1")
    assert "\x1b" not in found.stdout
    assert "\\x1b[31m" in found.stdout


async def test_looking_changes_nothing(tmp_path: Path) -> None:
    async with open_journal(FAST, tmp_path) as journal:
        await put(journal, entries(10))
    path = segments(tmp_path)[0]
    torn = path.read_bytes()[:-5]
    path.write_bytes(torn)
    found = await asyncio.to_thread(answer, "verify", "--dir", str(tmp_path))
    assert found["segments"][0]["torn_bytes"] > 0
    assert found["records"] == 9
    assert path.read_bytes() == torn


async def test_damage_is_said_with_exit_code_1(tmp_path: Path) -> None:
    async with open_journal(TINY, tmp_path) as journal:
        await put_each(journal, entries(200))
    path = segments(tmp_path)[1]
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    result = await asyncio.to_thread(invoke, "verify", "--dir", str(tmp_path), "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["ok"] is False
    assert [s["name"] for s in found["segments"] if s["problem"]] == [path.name]
    assert "damaged bytes from byte" in found["segments"][1]["problem"]
    assert found["missing"] == 1


@pytest.mark.parametrize("command", ["verify", "stats", "tail"])
def test_no_journal(tmp_path: Path, command: str) -> None:
    result = invoke(command, "--dir", str(tmp_path))
    assert result.exit_code == 1
    assert "no journal in" in result.stderr


def test_the_folder_comes_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "edge.toml").write_text(f'[data]\ndir = "{tmp_path}/there"\n', encoding="utf-8")
    result = invoke("stats", "--config", str(tmp_path / "edge.toml"))
    assert f"no journal in {tmp_path}/there/journal" in result.stderr


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    result = invoke("tail", "--dir", str(tmp_path), "--kind", "posse")
    assert result.exit_code == 2
    assert "pose" in result.stderr
