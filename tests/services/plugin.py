"""The pytest plugin: real servers as fixtures, each on a free port in a folder of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.mosquitto import Mosquitto
from tests.services.programs import USED, Missing, announce_with, need, provide


@pytest.hookimpl(trylast=True)  # after pytest has made its reporter
def pytest_configure(config: pytest.Config) -> None:
    """Say what is installed on the terminal, not in a test's captured output."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    capture = config.pluginmanager.getplugin("capturemanager")
    if reporter is None or capture is None:
        return

    def write_line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.write_line(text)

    announce_with(write_line)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Install up front where nothing may be skipped, so that no test pays for it."""
    if os.environ.get("EDGE_REQUIRE_SERVICES") != "1" or session.config.option.collectonly:
        return
    for name in USED:
        try:
            provide(name)
        except Missing as missing:
            raise pytest.UsageError(f"EDGE_REQUIRE_SERVICES=1: {missing}") from None


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """Return a running broker of this test alone: anonymous, persistent, on 127.0.0.1."""
    need("mosquitto")
    with Mosquitto(tmp_path / "mosquitto") as broker:
        yield broker
