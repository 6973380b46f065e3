"""Which lines make the ledger, and which parts make /readyz."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from gateway.bus.port import Bus
from gateway.core.kinds import LABEL
from gateway.journal.port import Journal, Reader
from gateway.services.archive import KINDS, Archive
from gateway.services.canary import BUS, Canary
from gateway.services.canary_hop import Hop
from gateway.services.ingest import DECODERS, Ingest
from gateway.services.ledger import Ledger, Line
from gateway.services.readiness import Readiness


class LiveCounts(Protocol):
    """What the live view counts, by kind."""

    @property
    def received(self) -> Mapping[int, int]: ...
    @property
    def applied(self) -> Mapping[int, int]: ...
    @property
    def stale(self) -> Mapping[int, int]: ...
    @property
    def refused(self) -> Mapping[int, int]: ...


def wire_ledger(
    ledger: Ledger, journal: Journal, ingest: Ingest, live: LiveCounts, archive: Archive
) -> None:
    """Add the hops of this box in the order in which a message passes them."""

    def live_lines() -> Iterable[tuple[str, str, Line]]:
        for kind in DECODERS:
            line = Line(entered=live.received.get(kind, 0), delivered=live.applied.get(kind, 0))
            for reason, counts in (("stale", live.stale), ("full", live.refused)):
                if counts.get(kind):
                    line.dropped[reason] = counts[kind]
            yield "live", LABEL[kind], line

    ledger.add(ingest.lines)
    ledger.add(live_lines)
    ledger.add(lambda: archive.lines(journal.stats().committed_offset))


def wire_readiness(readiness: Readiness, journal: Journal, bus: Bus, archive: Archive) -> None:
    """Add the parts that a message needs."""

    def journal_part() -> tuple[bool, str]:
        stats = journal.stats()
        if stats.failing:
            return False, f"nothing becomes durable: {stats.failing}; free space or mend the disk"
        return True, f"{stats.segments} segments, {stats.bytes_on_disk} bytes"

    def records_part() -> tuple[bool, str]:
        waiting = journal.stats().committed_offset - archive.position
        if archive.failing:
            return False, f"history does not take records ({archive.failing}); {waiting} wait"
        return True, f"{waiting} records wait"

    def bus_part() -> tuple[bool, str]:
        status = bus.status()
        return status.connected, status.detail

    readiness.add("journal", journal_part, essential=True)
    readiness.add("bus", bus_part, essential=True)
    readiness.add("records", records_part, essential=True)
    readiness.parts()  # from here on ``since`` is known


def box_hops(journal: Journal, reader: Reader, archive: Archive) -> list[Hop]:
    """Return the hops of this box behind the bus, as the canary passes them."""
    return [
        Hop(
            name="journal",
            after=BUS,
            reached=lambda: journal.stats().committed_offset,
            failing=lambda: journal.stats().failing,
        ),
        Hop(
            name="records",
            after="journal",
            reached=lambda: reader.committed,
            failing=lambda: archive.failing,
            kinds=KINDS,
        ),
    ]


def wire_canary(readiness: Readiness, canary: Canary) -> None:
    """Add a part for every hop that the canary passes."""
    for name, verdict in canary.verdicts():
        readiness.add(f"canary {name}", verdict, essential=True)
    readiness.parts()
