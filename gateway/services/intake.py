"""Readings that come by REST, on the same road as those of MQTT."""

import asyncio
from collections.abc import Sequence
from typing import Final

from gateway.core.errors import Unavailable
from gateway.core.payloads import Sensor
from gateway.journal.port import Journal
from gateway.services.archive import Archive
from gateway.services.ingest import Ingest

VISIBLE_S: Final = 1.0  # an answer waits so long for the reading to be in history


class Intake:
    """Durable before the answer; in history before the answer too, if history is there."""

    def __init__(
        self, ingest: Ingest, journal: Journal, archive: Archive, *, durable_s: float = 5.0
    ) -> None:
        self._ingest = ingest
        self._journal = journal
        self._archive = archive
        self._durable_s = durable_s

    async def submit_sensor(self, items: Sequence[tuple[str, Sensor]]) -> None:
        """Take (robot, reading); a reading without ``ts`` is of now.

        Raises:
            Unavailable: the journal is not writing. The readings may become durable later, and
                sending them again changes nothing.
        """
        failing = self._journal.stats().failing
        if failing:
            raise Unavailable(f"the journal is not writing: {failing}", dependency="journal")
        durable = asyncio.Event()
        end = self._ingest.submit(items, durable.set)
        try:
            async with asyncio.timeout(self._durable_s):
                await durable.wait()
        except TimeoutError as exc:
            raise Unavailable(
                f"not on disk after {self._durable_s:g} s", dependency="journal"
            ) from exc
        await self._archive.reached(end, VISIBLE_S)
