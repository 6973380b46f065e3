"""Time zones by name."""

import asyncio
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.core.errors import BadRange

_KEPT: Final = 64


class Zones:
    """IANA zones, read from disk once and off the event loop."""

    def __init__(self, default: str) -> None:
        """``default`` is the site's zone, for a caller that names none."""
        self._default = default
        self._zones: dict[str, ZoneInfo] = {}

    async def get(self, name: str | None = None) -> ZoneInfo:
        """Return the zone ``name``. Raises BadRange if there is none of that name."""
        name = self._default if name is None else name
        if (zone := self._zones.get(name)) is not None:
            return zone
        try:
            zone = await asyncio.to_thread(ZoneInfo, name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
            raise BadRange("?tz: no such IANA time zone") from exc
        if len(self._zones) >= _KEPT:
            self._zones.clear()
        self._zones[name] = zone
        return zone
