"""What is measured, as processes on the server's core: the gateway, and its peers."""

import contextlib
import http
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.machine import LOAD_CORE, SERVER_CORE, cpu_seconds, end, start
from bench.report import CheckFailed

START_S: Final = 15.0
SETTLE_S: Final = 120.0
_LISTENING: Final = re.compile(r"http=http://[\d.]+:(\d+) .*mqtt=mqtt://[\d.]+:(\d+)")


class Unmeasured(Exception):
    """A peer is not on this machine, or does not start; the message says which and why."""


@dataclass
class Server:
    """Running processes that are measured together. Ports are 0 for what it does not serve."""

    name: str
    pids: list[int]
    mqtt: int = 0
    http: int = 0
    started_s: float = 0.0
    process: subprocess.Popen[str] | None = None  # of the gateway

    def cpu(self) -> float:
        """Return the CPU seconds used so far."""
        return cpu_seconds(self.pids)

    def get(self, path: str) -> Any:
        """GET JSON from it; a 503 is an answer too, as that of /readyz."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=30) as found:
                return json.loads(found.read())
        except urllib.error.HTTPError as refused:
            if refused.code != http.HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            return json.loads(refused.read())

    def stop(self) -> float:
        """Stop the gateway with SIGTERM; return the seconds it took.

        Raises:
            CheckFailed: it did not end by itself with exit code 0.
        """
        assert self.process is not None
        took = end(self.process)
        if self.process.returncode != 0:
            raise CheckFailed(f"the gateway ended with exit code {self.process.returncode}")
        return took

    def settled(self) -> dict[str, Any]:
        """Return the gateway's ledger once nothing is pending in any hop.

        Raises:
            CheckFailed: something is unaccounted for, or something stays pending.
        """
        deadline = time.monotonic() + SETTLE_S
        while True:
            ledger: dict[str, Any] = self.get("/api/admin/ledger")
            if ledger["unaccounted"] != 0:
                raise CheckFailed(f"unaccounted: {ledger['unaccounted']}; {ledger['hops']}")
            waiting = {hop["hop"]: hop["pending"] for hop in ledger["hops"] if hop["pending"]}
            if not waiting:
                return ledger
            if time.monotonic() > deadline:
                raise CheckFailed(f"still pending after {SETTLE_S:.0f} s: {waiting}")
            time.sleep(0.05)

    def journalled(self, kind: str = "pose") -> int:
        """Return how many messages of ``kind`` the journal has on disk; see ``settled``."""
        hops = self.settled()["hops"]
        return sum(h["delivered"] for h in hops if h["hop"] == "journal" and h["kind"] == kind)


@contextlib.contextmanager
def gateway(folder: Path, *sets: str) -> Iterator[Server]:
    """Run the gateway with its data in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "gateway", "run"]
    for item in ("http.port=0", "bus.port=0", f"data.dir={folder.resolve()}", *sets):
        command += ["--set", item]
    began = time.monotonic()
    with (folder / "gateway.log").open("wb") as log:
        process = start(command, core=SERVER_CORE, stderr=log)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        started = time.monotonic() - began
        found = _LISTENING.search(line)
        if found is None:
            text = (folder / "gateway.log").read_text(errors="replace")[-1500:]
            raise CheckFailed(f"the gateway did not start: {line!r}\n{text}")
        yield Server("edge-gateway", [process.pid], int(found[2]), int(found[1]), started, process)
    finally:
        end(process)


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def mosquitto(folder: Path, *, persistence: bool) -> Iterator[Server]:
    """Run a Mosquitto; persistence saves now and then, it does not delay a PUBACK."""
    found = shutil.which(
        "mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin"
    )
    if found is None:
        raise Unmeasured("mosquitto is not installed (Debian: apt install mosquitto)")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        "set_tcp_nodelay true",
        "max_queued_messages 0",
        "log_type error",
        f"persistence {'true' if persistence else 'false'}",
        f"persistence_location {folder.resolve()}/",
        "autosave_interval 1",
        *(["user root"] if os.geteuid() == 0 else []),
    ]
    (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
    process = start(
        [found, "-c", str(folder / "mosquitto.conf")],
        core=SERVER_CORE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # it warns of every user that may write here
    )
    try:
        _until_open(process, port)
        yield Server("mosquitto", [process.pid], mqtt=port)
    finally:
        end(process)


@contextlib.contextmanager
def amqtt() -> Iterator[Server]:
    """Run an amqtt broker."""
    port = free_port()
    with _module("bench.peer_amqtt", "--port", str(port)) as process:
        _until_open(process, port)
        yield Server("amqtt", [process.pid], mqtt=port)


@contextlib.contextmanager
def bridged(folder: Path) -> Iterator[Server]:
    """Run Mosquitto and the aiomqtt-to-aiohttp bridge, measured together."""
    with (
        mosquitto(folder, persistence=False) as broker,
        _module("bench.peer_bridge", "--mqtt", str(broker.mqtt)) as process,
    ):
        assert process.stdout is not None
        said = process.stdout.readline().split()
        if not said:
            raise Unmeasured("the bridge did not start")
        yield Server("bridge", [*broker.pids, process.pid], broker.mqtt, int(said[1]))


@contextlib.contextmanager
def _module(name: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    process = start([sys.executable, "-m", name, *args], core=SERVER_CORE)
    try:
        yield process
    finally:
        end(process)


def _until_open(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise Unmeasured(f"{process.args!r} does not listen") from None
            time.sleep(0.02)
        else:
            return


def load(
    module: str, *args: object, timeout_s: float = 120.0, core: int = LOAD_CORE
) -> dict[str, Any]:
    """Run a load generator, on its own core unless told otherwise, and return what it prints.

    Raises:
        CheckFailed: it failed; the last line of its complaint is in the message.
    """
    command = [sys.executable, "-m", module, *(str(arg) for arg in args)]
    process = start(command, core=core, stderr=subprocess.PIPE)
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise CheckFailed(f"{module} did not end in {timeout_s:.0f} s") from None
    finally:
        end(process)
    if process.returncode != 0:
        raise CheckFailed(f"{module}: {err.strip().splitlines()[-1] if err.strip() else 'failed'}")
    result: dict[str, Any] = json.loads(out)
    return result
