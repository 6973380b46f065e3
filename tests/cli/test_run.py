"""``run`` as systemd, a terminal and a script see it."""

import os
import re
import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from tests.cli.command import Running, gateway, run

LISTENING = re.compile(
    r"listening http=http://127\.0\.0\.1:\d+ https=off mqtt=mqtt://127\.0\.0\.1:\d+"
)
SETS = ("--set", "http.port=0", "--set", "bus.port=0")


def answers(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/livez", timeout=10) as answer:
        return bool(answer.status == 200)


def test_one_line_when_everything_is_open(tmp_path: Path) -> None:
    with Running("run", *SETS, cwd=tmp_path) as running:
        line = running.line()
        assert LISTENING.fullmatch(line)
        said = dict(item.split("=", 1) for item in line.split()[1:])
        assert answers(said["http"])
        socket.create_connection(("127.0.0.1", int(said["mqtt"].rpartition(":")[2]))).close()
        assert running.stop() == 0
        assert running.rest() == []
    told = running.errors.read_text()
    assert f"open {said['http']} in a browser" in told
    assert "stopping: signal=SIGTERM" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with gateway(tmp_path) as (running, _, _):
        assert running.stop(number) == 0
    assert (tmp_path / "data").is_dir()


def test_the_service_manager_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(20)
        environ = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"}
        with gateway(tmp_path, env=environ) as (running, url, _):
            ready = pings = 0
            while not (ready and pings >= 3):
                message = manager.recv(1024).decode()
                if message.startswith("READY=1"):
                    assert message == f"READY=1\nSTATUS=listening on {url}"
                    ready += 1
                else:
                    assert message == "WATCHDOG=1"
                    pings += 1
            running.process.send_signal(signal.SIGTERM)
            while "STOPPING=1" not in manager.recv(1024).decode():
                pass
            assert running.process.wait(timeout=10) == 0
        assert ready == 1


def test_journald_gets_priorities(tmp_path: Path) -> None:
    (tmp_path / "stderr.txt").touch()
    about = (tmp_path / "stderr.txt").stat()
    environ = {"JOURNAL_STREAM": f"{about.st_dev}:{about.st_ino}"}
    with gateway(tmp_path, env=environ) as (running, url, _):
        assert running.stop() == 0
    lines = running.errors.read_text().splitlines()
    assert f"<6>gateway.cli.run: open {url} in a browser" in lines
    assert all(re.match(r"<[0-7]>\S", line) for line in lines)


def test_a_port_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for key in ("http.port", "bus.port"):
            done = run("run", *SETS, "--set", f"{key}={port}", cwd=tmp_path)
            assert (done.returncode, done.stdout) == (1, "")
            errors = [line for line in done.stderr.splitlines() if line.startswith("edge-gateway:")]
            assert len(errors) == 1
            assert f"127.0.0.1:{port}" in errors[0]
            assert f"--set {key}=" in errors[0]
            assert "Traceback" not in done.stderr


def test_a_data_directory_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    done = run("run", *SETS, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("edge-gateway: ")


def test_doctor_knows_a_gateway_that_runs(tmp_path: Path) -> None:
    with gateway(tmp_path) as (running, url, mqtt):
        sets = ("--set", f"http.port={url.rpartition(':')[2]}", "--set", f"bus.port={mqtt}")
        done = run("doctor", *sets, cwd=tmp_path)
        assert done.returncode == 0, done.stdout
        assert done.stdout.count("a gateway runs") == 2
        assert running.stop() == 0


def test_it_is_light(tmp_path: Path) -> None:
    """Idle, the process stays below 80 MB, and imports nothing that only other commands need."""
    with gateway(tmp_path) as (running, url, _):
        assert answers(url)
        status = Path(f"/proc/{running.process.pid}/status").read_text()
        resident = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert resident is not None
        assert int(resident[1]) <= 80 * 1024
        maps = Path(f"/proc/{running.process.pid}/limits").read_text()
        soft, hard = re.findall(r"Max open files\s+(\d+)\s+(\d+)", maps)[0]
        assert soft == hard
        assert running.stop() == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """The first stop waits for a client that sends half a request; the second does not."""
    with gateway(tmp_path, "http.drain_s=60") as (running, url, _):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(
                b"POST /api/sensor-data HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                b"Content-Type: application/json\r\nContent-Length: 100\r\n"
                b"Expect: 100-continue\r\n\r\n"
            )
            assert slow.recv(1024).startswith(b"HTTP/1.1 100")  # its handler runs now
            running.process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionError):  # refused; reset if it closed just then
                while True:  # until the listener is closed: the first signal has been seen
                    socket.create_connection((host, int(port))).close()
            assert running.process.poll() is None
            assert running.stop(signal.SIGTERM, timeout_s=5) == 1


def test_environment_and_python_are_enough(tmp_path: Path) -> None:
    environ = {"EDGE__HTTP__PORT": "0", "EDGE__BUS__PORT": "0", "EDGE__DATA__DIR": "elsewhere"}
    with Running("run", cwd=tmp_path, env=environ) as running:
        assert LISTENING.fullmatch(running.line())
        assert running.stop() == os.EX_OK
    assert (tmp_path / "elsewhere").is_dir()
