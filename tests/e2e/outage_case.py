"""One outage under load, from the first message before it to the proof that none is missing."""

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Self

from tests.e2e.outage_load import RATE_HZ, Load, Viewer, percentile
from tests.e2e.outage_proof import (
    Topics,
    Watchman,
    in_history,
    in_state,
    newest_published,
)
from tests.e2e.outage_site import PARTS, Fault, Site

HEAL_S: Final = 40.0
SETTLE_S: Final = 60.0
EDGE_S: Final = 0.3
"""What was published so shortly before an outage may arrive in it."""
NO_FSYNC_S: Final = 2.0
"""A Mosquitto that is killed loses what it acknowledged so shortly before: it syncs nothing."""


@dataclass(frozen=True, slots=True)
class Outage:
    """``gateway_dies``: it is killed and started again while ``faults`` last."""

    faults: tuple[Fault, ...]
    gateway_dies: bool = False

    def __str__(self) -> str:
        return " + ".join([*map(str, self.faults), *["gateway killed"] * self.gateway_dies])


@dataclass(slots=True)
class Row:
    """A line of the report. Times in seconds; ``late``: p99 in ms before, during, while it
    drained, after.

    ``seen``: the share of the poses published during the outage that the browser got.
    ``told``: by link, when /readyz named it first; None: not while it was away.
    """

    name: str
    published: int
    acked: int
    lost: int
    lost_by_broker: int
    duplicates: int
    late: list[float]
    seen: float
    told: dict[str, float | None]
    healed: float
    drained: float

    TITLE = (
        f"{'outage':<58} {'publ.':>6} {'acked':>6} {'lost':>4} {'dupl.':>5}"
        f" {'p99 ms before/during/drain/after':>32} {'seen':>6} {'told s':>9}"
        f" {'heal s':>6} {'drain s':>7}"
    )

    def __str__(self) -> str:
        late = "/".join(f"{value:.0f}" for value in self.late)
        told = "/".join("-" if at is None else f"{at:.1f}" for at in self.told.values())
        lost = f"{self.lost}" + (f"+{self.lost_by_broker}" if self.lost_by_broker else "")
        return (
            f"{self.name:<58} {self.published:>6} {self.acked:>6} {lost:>4} {self.duplicates:>5}"
            f" {late:>32} {self.seen:>6.0%} {told:>9} {self.healed:>6.1f} {self.drained:>7.1f}"
        )


class Chain:
    """A gateway at a site, with a fleet, a browser, and somebody who looks at /readyz."""

    def __init__(self, site: Site, *, bus: str) -> None:
        self._site = site
        self._bus = bus
        self._stack = ExitStack()
        self._shares = site.shares(bus)
        self.gateway = site.gateway(self._shares, bus=bus)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.gateway)
            port = self._site.mosquitto.port if self._bus == "mqtt" else self.gateway.mqtt
            self._load = stack.enter_context(Load(port, prefix=self._bus))
            self._viewer = stack.enter_context(Viewer(self._load, self.gateway.http))
            self._watchman = stack.enter_context(Watchman(self.gateway))
            self._topics = Topics(self._site, self._shares)
            self._watchman.until_green(time.monotonic(), HEAL_S)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def endure(self, outage: Outage, *, for_s: float, before_s: float, after_s: float) -> Row:
        """Go through ``outage`` and prove that nothing is missing."""
        load, site = self._load, self._site
        first = load.published
        began = time.monotonic()
        load.go()
        try:
            self._publish_for(before_s)
            for fault in outage.faults:
                if fault == Fault("mosquitto", "kill"):
                    asyncio.run(site.mosquitto.save())  # it knows the gateway's session again
                    self._publish_for(1.0)
            struck = time.monotonic()
            for fault in outage.faults:
                site.strike(fault)
            self._last(struck + for_s / 2)
            if outage.gateway_dies:
                self.gateway.kill()
                self.gateway.start()
            self._last(struck + for_s)
            back = max([site.mend(fault) for fault in outage.faults])
            healed = self._watchman.until_green(back, HEAL_S)
            drained = self._drain(back)
            settled_at = time.monotonic()
            self._publish_for(after_s)
        finally:
            site.mend_all()
            ended = time.monotonic()
            load.pause()
        ledger = self.gateway.settled(SETTLE_S)
        assert ledger["unaccounted"] == 0, ledger
        acked = load.acknowledged(after=first)
        lost, by_broker, duplicates = self._missing(acked, first, outage, struck)
        links = [fault.link for fault in outage.faults]
        spans = [
            (began, struck - EDGE_S),
            (struck, back),
            (back, settled_at),
            (settled_at, ended - EDGE_S),
        ]
        return Row(
            name=f"{outage} ({self._bus})",
            published=load.published - first,
            acked=len(acked),
            lost=len(lost),
            lost_by_broker=len(by_broker),
            duplicates=duplicates,
            late=[percentile(self._viewer.late_ms(*span), 0.99) for span in spans],
            seen=self._seen(struck, back),
            told={link: self._watchman.reported(PARTS[link], struck, back) for link in links},
            healed=healed,
            drained=drained,
        )

    def _missing(
        self, acked: set[int], first: int, outage: Outage, struck: float
    ) -> tuple[set[int], set[int], int]:
        """Return what is missing anywhere, what the broker lost, and the duplicates in Kafka."""
        load, topics = self._load, self._topics
        duplicates = topics.duplicates
        topics.read()
        assert topics.disordered() == []
        readings = in_history(self._site, self._shares, after=first)
        assert len(readings) == len(set(readings))
        lost = (acked - topics.numbers) | (load.acknowledged("sensor", after=first) - set(readings))
        by_broker: set[int] = set()
        if Fault("mosquitto", "kill") in outage.faults:
            by_broker = {n for n in lost if struck - NO_FSYNC_S <= load.acked_at[n] <= struck}
        assert in_state(self._site, self._shares) == newest_published(load)
        return lost - by_broker, by_broker, topics.duplicates - duplicates

    def _seen(self, since: float, until: float) -> float:
        poses = self._load.count("pose", since, until)
        return len(self._viewer.late_ms(since, until)) / max(1, poses)

    def _publish_for(self, seconds: float) -> None:
        """Wait until so much more of the load is published."""
        self._last(time.monotonic() + seconds)

    def _last(self, until: float) -> None:
        """Let time pass: how long something lasts is what is tested."""
        time.sleep(max(0.0, until - time.monotonic()))

    def _drain(self, since: float) -> float:
        """Wait until no more waits in the gateway than a second of the load; the seconds."""

        def drained(ledger: Any) -> bool:
            pending: int = sum(line["pending"] for line in ledger["hops"])
            return pending <= RATE_HZ

        self.gateway.until("an end of the drain", "/api/admin/ledger", drained, SETTLE_S)
        return time.monotonic() - since
