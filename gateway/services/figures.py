"""What /metrics shows: the figures of every part as Prometheus families."""

import resource
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from gateway.aio.looplag import LoopLag
from gateway.core.prometheus import Family, counter, gauge
from gateway.journal.port import Journal
from gateway.services.ledger import Ledger

Numbers = Callable[[], Mapping[str, int | float]]
_STATM: Final = Path("/proc/self/statm")
_PAGE: Final = resource.getpagesize()


class Figures:
    """Collect on demand; nothing is counted twice for the sake of metrics."""

    def __init__(
        self, ledger: Ledger, journal: Journal, lag: LoopLag, *, parts: Mapping[str, Numbers]
    ) -> None:
        self._ledger = ledger
        self._journal = journal
        self._lag = lag
        self._parts = parts
        self._started = time.time()

    def families(self) -> Iterable[Family]:
        """Return everything, in the order of the page."""
        yield from self._messages()
        yield from self._disk()
        for part, numbers in self._parts.items():
            family = Family(f"edge_{part}", f"Figures of the part {part}.", "gauge")
            family.samples.extend(({"figure": name}, value) for name, value in numbers().items())
            yield family
        yield gauge("edge_loop_lag_worst_seconds", "Worst lag, last minute.", self._lag.worst_s)
        yield gauge("edge_loop_lag_p99_seconds", "p99 of the lag, last minute.", self._lag.p99_s)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield counter(
            "process_cpu_seconds_total", "CPU time used.", usage.ru_utime + usage.ru_stime
        )
        yield gauge("process_resident_memory_bytes", "Resident memory.", resident_bytes())
        yield gauge("process_start_time_seconds", "Unix time of the start.", self._started)

    def _messages(self) -> Iterable[Family]:
        messages = Family(
            "edge_messages_total", "Messages by hop, kind and what became of them.", "counter"
        )
        pending = Family("edge_messages_pending", "Messages inside a hop now.", "gauge")
        dropped = Family("edge_messages_dropped_total", "Messages dropped, by reason.", "counter")
        missing = 0
        for hop, kind, line in self._ledger.lines():
            labels = {"hop": hop, "kind": kind}
            messages.samples.append(({**labels, "outcome": "in"}, line.entered))
            messages.samples.append(({**labels, "outcome": "delivered"}, line.delivered))
            pending.samples.append((labels, line.pending))
            dropped.samples.extend(
                ({**labels, "reason": reason}, count) for reason, count in line.dropped.items()
            )
            missing += abs(line.unaccounted)
        yield from (messages, pending, dropped)
        yield gauge(
            "edge_unaccounted", "Messages the ledger cannot account for. Must be 0.", missing
        )

    def _disk(self) -> Iterable[Family]:
        stats = self._journal.stats()
        yield gauge("edge_journal_bytes", "Bytes of journal on disk.", stats.bytes_on_disk)
        yield gauge("edge_journal_segments", "Segment files.", stats.segments)
        yield gauge("edge_journal_first_offset", "Oldest record kept.", stats.first_offset)
        yield gauge("edge_journal_committed_offset", "Records durable.", stats.committed_offset)
        yield gauge("edge_journal_pending_bytes", "Bytes not yet durable.", stats.pending_bytes)
        yield counter("edge_journal_syncs_total", "fdatasync calls.", stats.syncs)
        yield gauge(
            "edge_journal_sync_seconds", "Time of the last fdatasync.", stats.sync_ms_last / 1e3
        )
        yield gauge("edge_journal_failing", "1 while nothing becomes durable.", bool(stats.failing))
        dropped = Family("edge_journal_dropped_total", "Records removed, by reason.", "counter")
        dropped.samples.extend(({"reason": name}, n) for name, n in stats.dropped.items())
        yield dropped


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 where /proc does not say."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE
    except OSError:
        return 0
