"""What is missing, by name."""

from collections.abc import Callable

from msgspec import Struct

from gateway.core.times import Instant, rfc3339

Probe = Callable[[], tuple[bool, str]]
"""Returns (ok, detail); looks at what is known and never waits."""


class Part(Struct, frozen=True):
    """``since``: the last change of ``ok``."""

    name: str
    ok: bool
    since: Instant
    detail: str
    essential: bool


class Readiness:
    """The parts of /readyz. Ready: every essential part is ok and the gateway is not stopping."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._probes: list[tuple[str, Probe, bool]] = []
        self._changed: dict[str, tuple[bool, int]] = {}
        self._stopping_ms = 0

    def add(self, name: str, probe: Probe, *, essential: bool) -> None:
        """Ask ``probe`` under ``name`` from now on."""
        self._probes.append((name, probe, essential))

    def stopping(self) -> None:
        """Not ready from now on: the process is going down."""
        self._stopping_ms = self._now_ms()

    def parts(self) -> list[Part]:
        """Return how every part is at this moment."""
        parts = []
        for name, probe, essential in self._probes:
            ok, detail = probe()
            was, since = self._changed.get(name, (not ok, 0))
            if was != ok:
                since = self._now_ms()
                self._changed[name] = (ok, since)
            parts.append(Part(name, ok, rfc3339(since), detail, essential))
        if self._stopping_ms:
            at = rfc3339(self._stopping_ms)
            parts.append(Part("process", ok=False, since=at, detail="stopping", essential=True))
        return parts

    def ready(self, parts: list[Part]) -> bool:
        """Return whether every essential part of ``parts`` is ok."""
        return all(part.ok for part in parts if part.essential)
