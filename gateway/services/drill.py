"""Outages on purpose: cut one link inside the process, and heal it whatever happens.

The link heals by a timer of the event loop, so it does when the caller dies, and a process that
ends takes its cuts with it. docs/drill.md says what is to be seen meanwhile.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from gateway.core.errors import Conflict, Unprocessable

log = logging.getLogger(__name__)

LINKS: Final = ("kafka", "redis", "broker", "records")
MAX_S: Final = 600.0  # nobody forgets a cut for longer

_MISSING: Final = {
    "kafka": '[stream] backend is "none"',
    "redis": '[state] backend is "memory"',
}


class Drill:
    """At most one cut at a time. ``link`` is what is cut now, "" for nothing."""

    def __init__(
        self, links: Mapping[str, Callable[[bool], None]], *, now_ms: Callable[[], int]
    ) -> None:
        """``links``: of LINKS those that this configuration has, with their ``sever``."""
        self._links = dict(links)
        self._now_ms = now_ms
        self._timer: asyncio.TimerHandle | None = None
        self._cuts = 0
        self.link = ""
        self.since_ms = 0
        self.until_ms = 0

    @property
    def links(self) -> list[str]:
        """What can be cut, in the order of LINKS."""
        return [link for link in LINKS if link in self._links]

    def cut(self, link: str, seconds: float) -> None:
        """Sever ``link`` for ``seconds``; it heals by itself.

        Raises:
            Unprocessable: NO_SUCH_LINK, this configuration does not have it.
            Conflict: another drill goes on.
        """
        sever = self._links.get(link)
        if sever is None:
            why = _MISSING.get(link, "it has nothing to cut")
            there = ", ".join(self.links) or "none"
            raise Unprocessable(
                f"this gateway has no link {link}: {why}; it has {there}",
                reason="NO_SUCH_LINK",
                path="$.link",
            )
        if self.link:
            raise Conflict(f"a drill goes on: {self.link} is cut; DELETE ends it")
        self.link = link
        self.since_ms = self._now_ms()
        self.until_ms = self.since_ms + round(seconds * 1000)
        self._cuts += 1
        self._timer = asyncio.get_running_loop().call_later(min(seconds, MAX_S), self.restore)
        log.warning("drill: %s is cut for %g s", link, seconds)
        try:
            sever(True)  # noqa: FBT003 - a switch
        except BaseException:
            self.restore()
            raise

    def restore(self) -> bool:
        """Heal what is cut; return whether anything was."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        link, self.link = self.link, ""
        if not link:
            return False
        self._links[link](False)  # noqa: FBT003
        log.warning("drill: %s may connect again", link)
        return True

    def figures(self) -> dict[str, int | float]:
        """Return how many cuts there were, and whether one goes on."""
        return {"cuts": self._cuts, "cut": int(bool(self.link))}
