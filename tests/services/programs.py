"""Which programs the tests use, where they are, and how they come onto a machine."""

import contextlib
import fcntl
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import pytest

INSTALL_S: Final = 900.0
"""Longest that one apt-get may take: a browser is over 100 MB."""


@dataclass(frozen=True, slots=True)
class Program:
    """``package`` is Debian's; ``names`` and ``places`` (globs) are where the program may be."""

    package: str
    names: tuple[str, ...]
    places: tuple[str, ...] = ()


_SBIN: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # often missing on a user's PATH

PROGRAMS: Final[dict[str, Program]] = {
    "mosquitto": Program("mosquitto", ("mosquitto",)),
    "mosquitto_pub": Program("mosquitto-clients", ("mosquitto_pub",)),
    "mosquitto_sub": Program("mosquitto-clients", ("mosquitto_sub",)),
    "mosquitto_passwd": Program("mosquitto", ("mosquitto_passwd",)),
    "openssl": Program("openssl", ("openssl",)),
    "chromium": Program("chromium", ("chromium", "chromium-browser", "google-chrome")),
    "chromedriver": Program("chromium-driver", ("chromedriver",)),
    "redis-server": Program("redis-server", ("redis-server",)),
    "redis-cli": Program("redis-tools", ("redis-cli",)),
    "postgres": Program("postgresql", ("postgres",), ("/usr/lib/postgresql/*/bin/postgres",)),
    "initdb": Program("postgresql", ("initdb",), ("/usr/lib/postgresql/*/bin/initdb",)),
    "psql": Program("postgresql-client", ("psql",), ("/usr/lib/postgresql/*/bin/psql",)),
    "java": Program("default-jre-headless", ("java",)),
    "mvn": Program("maven", ("mvn",)),
    "systemd-analyze": Program("systemd", ("systemd-analyze",)),
    "systemd-sysusers": Program("systemd", ("systemd-sysusers",)),
    "systemd-tmpfiles": Program("systemd", ("systemd-tmpfiles",)),
}

USED: Final = (
    "mosquitto",
    "mosquitto_pub",
    "openssl",
    "chromium",
    "chromedriver",
    "systemd-analyze",
    "redis-server",
    "postgres",
    "initdb",
    "psql",
    "java",
)
"""What some test uses today; the others are known, and installed when they are asked for."""

_tried: dict[str, str] = {}  # package -> why its installation failed, "" when it did not
_guard = threading.Lock()


def _write(text: str) -> None:
    sys.stderr.write(f"{text}\n")


_announce: Callable[[str], None] = _write


def announce_with(write_line: Callable[[str], None]) -> None:
    """Let ``say`` use ``write_line``: pytest's own, because it captures the ordinary output."""
    global _announce  # noqa: PLW0603 - one process, one place to talk to
    _announce = write_line


def say(text: str) -> None:
    """Tell whoever runs the tests what is being done."""
    _announce(f"[services] {text}")


class Missing(Exception):
    """A program is not on this machine and could not be installed; the message says why."""


def find(name: str) -> Path | None:
    """Return the absolute path of program ``name``, None when it is not installed."""
    program = PROGRAMS[name]
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN))
    for candidate in program.names:
        if found := shutil.which(candidate, path=path):
            return Path(found).absolute()
    for pattern in program.places:
        if found_here := sorted(glob.glob(pattern)):  # noqa: PTH207 - an absolute pattern
            return Path(found_here[-1])
    return None


def provide(name: str) -> Path:
    """Return the absolute path of program ``name``, installing its package first if need be.

    Raises:
        Missing: it is not here, and either may not or could not be installed.
    """
    if found := find(name):
        return found
    package = PROGRAMS[name].package
    with _guard:
        if package not in _tried:
            _tried[package] = _install(package)
    if found := find(name):
        return found
    why = _tried[package] or f"package {package} has no such program"
    raise Missing(f"{name} is not installed: {why}")


def need(name: str) -> Path:
    """Return the absolute path of program ``name`` for a test, or skip the test with the reason.

    With EDGE_REQUIRE_SERVICES=1 the test fails instead.
    """
    try:
        return provide(name)
    except Missing as missing:
        unavailable(str(missing))


def unavailable(why: str) -> NoReturn:
    """Skip the test, or fail it with EDGE_REQUIRE_SERVICES=1: this machine lacks what it needs."""
    if os.environ.get("EDGE_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{why} (EDGE_REQUIRE_SERVICES=1)", pytrace=False)
    pytest.skip(why)


def _install(package: str) -> str:
    apt = shutil.which("apt-get")
    if apt is None:
        return f"there is no apt-get; install {package} by hand"
    if os.geteuid() != 0:
        return f"not root; run: sudo apt-get install {package}"
    problem = ""
    begun = time.monotonic()
    with installing(), _no_service_started():
        for step in (["install", package], ["update"], ["install", package]):
            say(f"apt-get {' '.join(step)}")
            problem = run([apt, "-q", "-y", *_OPTIONS, *step])
            if step[0] == "install" and not problem:
                say(f"{package} is installed after {time.monotonic() - begun:.0f} s")
                _keep_off(package)
                return ""
    return problem


_OPTIONS: Final = ("--no-install-recommends", "-o", "DPkg::Lock::Timeout=300")

_POLICY: Final = Path("/usr/sbin/policy-rc.d")
"""Debian asks it whether a package may start its service: https://wiki.debian.org/policy-rc.d"""

_POLICY_TEXT: Final = "#!/bin/sh\n# for edge-gateway's tests; gone afterwards\nexit 101\n"

_SERVING: Final = ("mosquitto", "redis-server", "postgresql")
"""Packages that start the service of their name, on its usual port, now and at every boot."""


@contextlib.contextmanager
def _no_service_started() -> Iterator[None]:
    """Let packages start nothing: the tests start servers of their own, on free ports."""
    if _POLICY.exists():  # as in most containers; whoever put it there knows why
        yield
        return
    _POLICY.write_text(_POLICY_TEXT)
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _keep_off(package: str) -> None:
    """Do not let what was installed just now start at the next boot either."""
    systemctl = shutil.which("systemctl")
    if systemctl and package in _SERVING:
        problem = run([systemctl, "--quiet", "disable", package])
        say(problem or f"{package} does not start by itself: the tests start their own")


_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


def run(command: list[str]) -> str:
    """Run ``command``; return the line that says why it failed, "" when it succeeded."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{' '.join(command)} took over {INSTALL_S:.0f} s"
    lines = _COLOURS.sub("", done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
    if done.returncode == 0:
        return ""
    # apt-get and Maven mark what is wrong; others say it last
    marked = [line for line in lines if line.startswith(("E: ", "[ERROR] ")) and line[8:].strip()]
    why = (marked or lines[-1:])[0]
    return f"{' '.join(command)}: {why}"


@contextlib.contextmanager
def installing() -> Iterator[None]:
    """Install alone on this machine, on nobody's time."""
    with _one_at_a_time(), _stopped_test_clock():
        yield


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Keep a second run of the tests on this machine from installing at the same time."""
    place = Path(tempfile.gettempdir()) / f"edge-gateway-services-{os.geteuid()}.lock"
    with place.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _stopped_test_clock() -> Iterator[None]:
    """Stop pytest-timeout's alarm: an installation is not part of the test that asked for it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    left_s, every_s = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left_s, every_s)
