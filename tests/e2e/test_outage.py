"""An outage loses nothing: real servers away under load, and what every one of them has after it.

EDGE_LONG=1: every link in every way for 60 s, instead of the most telling ones for 6 s.
"""

import os
import time
from collections.abc import Iterator

import pytest

from tests.e2e.outage_case import HEAL_S, Chain, Outage, Row
from tests.e2e.outage_proof import Watchman
from tests.e2e.outage_site import LINKS, WAYS, Fault, Site

LONG = os.environ.get("EDGE_LONG") == "1"
FOR_S = float(os.environ.get("EDGE_OUTAGE_S", "60" if LONG else "6"))
BEFORE_S, AFTER_S = (10.0, 10.0) if LONG else (1.0, 0.5)
TOLD_S = 15.0

MATRIX = [Outage((Fault(link, way),)) for link in LINKS for way in WAYS]
DYING = [
    Outage((Fault("kafka", "blackhole"),), gateway_dies=True),
    Outage((Fault("redis", "kill"),), gateway_dies=True),
]
CASES = (
    [
        *(("mqtt", outage) for outage in [*MATRIX, *DYING]),
        *(("embedded", outage) for outage in DYING),
    ]
    if LONG
    else [
        ("mqtt", Outage((Fault("kafka", "blackhole"), Fault("postgres", "kill")))),
        ("mqtt", Outage((Fault("mosquitto", "kill"), Fault("redis", "sigstop")))),
        (
            "embedded",
            Outage((Fault("kafka", "blackhole"), Fault("redis", "kill")), gateway_dies=True),
        ),
    ]
)

pytestmark = pytest.mark.timeout(FOR_S + 300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return four real servers."""
    with Site(tmp_path_factory.mktemp("outage")) as site:
        yield site


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest) -> Iterator[list[Row]]:
    """Collect rows; they are shown at the end."""
    rows: list[Row] = []
    yield rows
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        for line in ["", Row.TITLE, *map(str, rows)]:
            reporter.write_line(line)


@pytest.fixture(scope="module")
def chain(request: pytest.FixtureRequest, site: Site) -> Iterator[Chain]:
    """Return a gateway under load whose bus is ``request.param``."""
    with Chain(site, bus=request.param) as chain:
        yield chain


@pytest.mark.parametrize(
    ("chain", "outage"), CASES, indirect=["chain"], ids=[f"{bus} {each}" for bus, each in CASES]
)
def test_an_outage_loses_nothing(chain: Chain, outage: Outage, report: list[Row]) -> None:
    row = chain.endure(outage, for_s=FOR_S, before_s=BEFORE_S, after_s=AFTER_S)
    report.append(row)
    assert row.lost == 0
    assert row.published == row.acked > 0
    if FOR_S > 2 * TOLD_S:
        assert row.reported is not None
        assert row.reported < 2 * TOLD_S  # 15 on a machine that does nothing else
    elif Fault("redis", "kill") in outage.faults or Fault("mosquitto", "kill") in outage.faults:
        assert row.reported is not None  # a closed connection is seen at once


def test_a_start_without_any_server_serves_and_heals(site: Site) -> None:
    shares = site.shares("boot")
    gateway = site.gateway(shares)
    for server in site.servers.values():
        server.kill()
    try:
        with gateway, Watchman(gateway) as watchman:
            print(f"listening after {gateway.started_s:.1f} s")  # noqa: T201 - for the note
            assert gateway.started_s < 6
            missing = {"stream", "consumer", "state", "records", "bus"}
            gateway.until(
                "all named", "/readyz", lambda answer: missing <= _red(answer), timeout_s=30
            )
            for link, parts in (
                ("mosquitto", {"bus"}),
                ("redis", {"state"}),
                ("postgres", {"records"}),
                ("kafka", {"stream", "consumer"}),
            ):
                site.servers[link].start()
                back = time.monotonic()
                healed = watchman.until_green(back, HEAL_S, parts)
                print(f"{link} healed after {healed:.1f} s")  # noqa: T201
            back = time.monotonic()
            print(f"ready {watchman.until_green(back, HEAL_S):.1f} s later")  # noqa: T201
            assert gateway.settled()["unaccounted"] == 0
    finally:
        for server in site.servers.values():
            if not server.running:
                server.start()


def _red(answer: dict[str, list[dict[str, object]]]) -> set[object]:
    return {part["name"] for part in answer["parts"] if not part["ok"]}
