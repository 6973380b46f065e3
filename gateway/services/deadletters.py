"""Messages that did not fit: look at them, send them again, drop them."""

import asyncio
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from gateway.bus.port import Batch
from gateway.core.errors import Unavailable
from gateway.records.port import DeadLetterPage, DeadLetterRow, RecordStore
from gateway.services.ingest import Ingest

CHUNK: Final = 500  # letters replayed in one step of the event loop


class Replayed(Struct, frozen=True):
    """``replayed`` fitted this time and are gone from the list; ``failed`` still do not fit."""

    replayed: int
    failed: int


class DeadLetters:
    """List, replay and drop, over the record store."""

    def __init__(self, store: RecordStore, ingest: Ingest, *, durable_s: float = 10.0) -> None:
        self._store = store
        self._ingest = ingest
        self._durable_s = durable_s

    async def page(self, *, limit: int, cursor: str | None) -> DeadLetterPage:
        """Return dead letters, newest first."""
        return await self._store.dead_letters(limit=limit, cursor=cursor)

    async def drop(self, ids: Sequence[int] | None) -> int:
        """Remove ``ids`` (None: all); return how many there were."""
        return await self._store.delete_dead_letters(ids)

    async def replay(self, ids: Sequence[int] | None) -> Replayed:
        """Send them through ingest again, oldest first, as if they had just arrived.

        A letter is removed only after its message is durable in the journal.

        Raises:
            Unavailable: the journal does not write; nothing was removed.
        """
        letters = await self._store.take_dead_letters(ids)
        replayed = 0
        for start in range(0, len(letters), CHUNK):
            chunk = letters[start : start + CHUNK]
            good = [row for row in chunk if self._ingest.fits(row.topic, row.payload)]
            if good:
                await self._send(good)
                await self._store.delete_dead_letters([row.id for row in good])
                replayed += len(good)
            await asyncio.sleep(0)
        return Replayed(replayed=replayed, failed=len(letters) - replayed)

    async def _send(self, letters: Sequence[DeadLetterRow]) -> None:
        durable = asyncio.Event()
        items = [(row.topic, row.payload) for row in letters]
        self._ingest.take(Batch(items, durable.set))
        try:
            async with asyncio.timeout(self._durable_s):
                await durable.wait()
        except TimeoutError as exc:
            raise Unavailable("the journal is not writing", dependency="journal") from exc
