"""An outage loses nothing: real servers away under load, and what every one of them has after it.

EDGE_LONG=1: every link in every way for 60 s, instead of the most telling ones for 6 s.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.outage_case import HEAL_S, Chain, Outage, Row
from tests.e2e.outage_proof import Watchman
from tests.e2e.outage_site import LINKS, WAYS, Fault, Site

LONG = os.environ.get("EDGE_LONG") == "1"
FOR_S = float(os.environ.get("EDGE_OUTAGE_S", "60" if LONG else "6"))
BEFORE_S, AFTER_S = (10.0, 10.0) if LONG else (1.0, 0.5)
TOLD_S = 15.0

KAFKA, REDIS, MOSQUITTO, POSTGRES = LINKS
STOP, KILL, HOLE = WAYS


def outage(*faults: tuple[str, str], gateway_dies: bool = False) -> Outage:
    """Return what happens to which links, all at once."""
    return Outage(tuple(Fault(*fault) for fault in faults), gateway_dies=gateway_dies)


ALL = [
    *(("mqtt", outage((link, way))) for link in LINKS for way in WAYS),
    ("mqtt", outage((KAFKA, HOLE), gateway_dies=True)),
    ("mqtt", outage((REDIS, KILL), gateway_dies=True)),
    ("mqtt", outage((MOSQUITTO, KILL), gateway_dies=True)),
    ("mqtt", outage((POSTGRES, STOP), gateway_dies=True)),
    ("embedded", outage((KAFKA, HOLE), gateway_dies=True)),
    ("embedded", outage((REDIS, KILL), gateway_dies=True)),
]
SOME = [  # two at a time, but for the broker, without which nothing comes
    ("mqtt", outage((KAFKA, HOLE), (POSTGRES, KILL))),
    ("mqtt", outage((KAFKA, STOP), (REDIS, HOLE), gateway_dies=True)),
    ("mqtt", outage((KAFKA, KILL), (POSTGRES, HOLE))),
    ("mqtt", outage((REDIS, STOP), (POSTGRES, STOP))),
    ("mqtt", outage((MOSQUITTO, KILL))),
    ("mqtt", outage((MOSQUITTO, HOLE))),
    ("embedded", outage((KAFKA, HOLE), (REDIS, KILL), gateway_dies=True)),
]
CASES = ALL if LONG else SOME

pytestmark = pytest.mark.timeout(FOR_S + 300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return four real servers."""
    with Site(tmp_path_factory.mktemp("outage")) as site:
        yield site


@pytest.fixture(scope="module")
def say(request: pytest.FixtureRequest) -> Callable[[object], None]:
    """Return what shows a line on the terminal."""
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def write(line: object) -> None:
        with capture.global_and_fixture_disabled():
            reporter.write_line(str(line))

    write("")
    write(Row.TITLE)
    return write


class Chains:
    """One gateway at a time: that of the last bus that was asked for."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._bus = ""
        self._stack = ExitStack()
        self._chain: Chain | None = None

    def close(self) -> None:
        """End it."""
        self._stack.close()
        self._chain = None

    def of(self, bus: str) -> Chain:
        """Return the one with ``bus``."""
        if self._chain is None or self._bus != bus:
            self.close()
            self._chain = self._stack.enter_context(Chain(self._site, bus=bus))
            self._bus = bus
        return self._chain


@pytest.fixture(scope="module")
def chains(site: Site) -> Iterator[Chains]:
    """Return the gateways under load."""
    chains = Chains(site)
    yield chains
    chains.close()


@pytest.mark.parametrize(("bus", "outage"), CASES, ids=[f"{bus} {each}" for bus, each in CASES])
def test_an_outage_loses_nothing(
    chains: Chains, bus: str, outage: Outage, say: Callable[[object], None]
) -> None:
    chain = chains.of(bus)
    flows = MOSQUITTO not in {fault.link for fault in outage.faults}
    quick = not flows or Fault(KAFKA, KILL) in outage.faults  # its start takes seconds as well
    for_s = FOR_S / 3 if quick and not LONG else FOR_S
    row = chain.endure(outage, for_s=for_s, before_s=BEFORE_S, after_s=AFTER_S)
    say(row)
    assert row.lost == 0
    assert row.published == row.acked > 0
    if flows and not outage.gateway_dies:
        assert row.seen > 0.5  # all of them, unless this machine has no time to look
    for fault in outage.faults:
        told = row.told[fault.link]
        if FOR_S > 2 * TOLD_S:
            assert told is not None, f"nobody was told of {fault}"
            assert told < 2 * TOLD_S  # on a machine that does nothing else: TOLD_S
        elif fault.way == KILL:
            assert told is not None, f"nobody was told of {fault}"  # it closed its connections


def test_a_start_without_any_server_serves_and_heals(
    site: Site, say: Callable[[object], None]
) -> None:
    shares = site.shares("boot")
    gateway = site.gateway(shares)
    for server in site.servers.values():
        server.kill()
    try:
        with gateway, Watchman(gateway) as watchman:
            say(f"started without any server: listening after {gateway.started_s:.1f} s")
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
                say(f"{link} healed {healed:.1f} s after its return")
            back = time.monotonic()
            say(f"everything ready {watchman.until_green(back, HEAL_S):.1f} s later")
            assert gateway.settled()["unaccounted"] == 0
    finally:
        for server in site.servers.values():
            if not server.running:
                server.start()


def _red(answer: dict[str, list[dict[str, object]]]) -> set[object]:
    return {part["name"] for part in answer["parts"] if not part["ok"]}
