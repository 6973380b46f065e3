"""sd_notify against a real datagram socket, as systemd has one."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.aio.sdnotify import ServiceNotifier
from gateway.aio.supervisor import Supervisor

PERIOD_S = 0.2


def manager(address: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(address)
    listening.settimeout(5)
    return listening


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """$NOTIFY_SOCKET, and the socket behind it."""
    if request.param == "path":
        name = address = str(tmp_path / "notify")
    else:
        name = f"@edge-gateway-test-{os.getpid()}"
        address = "\0" + name[1:]
    with manager(address) as listening:
        yield name, listening


def test_ready_and_stopping(systemd: tuple[str, socket.socket]) -> None:
    name, listening = systemd
    with ServiceNotifier.from_environ({"NOTIFY_SOCKET": name}) as notifier:
        notifier.ready("listening on http://x")
        notifier.stopping()
    assert listening.recv(1024) == b"READY=1\nSTATUS=listening on http://x"
    assert listening.recv(1024) == b"STOPPING=1\nSTATUS=stopping"


@pytest.mark.parametrize(
    ("environ", "watched"),
    [
        ({}, False),
        ({"NOTIFY_SOCKET": "/x"}, False),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000000"}, True),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "rubbish"}, False),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, False),
        ({"WATCHDOG_USEC": "1000000"}, False),
    ],
)
def test_whether_pings_are_wanted(environ: dict[str, str], *, watched: bool) -> None:
    assert ServiceNotifier.from_environ(environ).watched is watched


def test_without_a_manager_nothing_is_sent_and_nothing_fails() -> None:
    with ServiceNotifier.from_environ({}) as notifier:
        notifier.ready("listening")


def test_a_manager_that_is_gone_does_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ServiceNotifier(str(tmp_path / "gone")) as notifier:
        notifier.stopping()
    assert "service manager not told" in caplog.text


@pytest.mark.may_block  # the loop is blocked on purpose: that is what the watchdog is for
async def test_the_pings_come_from_the_loop_and_stop_when_it_is_blocked(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    with manager(name) as listening:
        listening.setblocking(False)
        loop = asyncio.get_running_loop()
        environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": str(int(PERIOD_S * 1e6))}
        with ServiceNotifier.from_environ(environ) as notifier:
            async with Supervisor() as tasks:
                tasks.spawn("watchdog", notifier.run)
                start_s = time.monotonic()
                for _ in range(4):
                    async with asyncio.timeout(5):
                        assert await loop.sock_recv(listening, 1024) == b"WATCHDOG=1"
                assert time.monotonic() - start_s < 4 * PERIOD_S  # twice per period
                time.sleep(PERIOD_S * 3)  # noqa: ASYNC251 - the hang
                with pytest.raises(BlockingIOError):
                    listening.recv(1024)
