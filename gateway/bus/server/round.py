"""What all connections sent in one turn of the loop, as one batch for the sink."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from gateway.bus.port import Batch, Item, Sink

MOST: Final = 1_000  # messages from which on a batch goes by itself: no copying for a flood


class Round:
    """A sink before the sink: taking a message by itself costs several times as much as in company.

    Order stays as it was, of every connection and between them.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._items: list[Item] = []
        self._receipts: list[Callable[[], None]] = []

    def take(self, batch: Batch) -> None:
        """Keep ``batch`` until this turn is over."""
        items = batch.items
        if not self._items:
            if len(items) >= MOST:
                self._sink.take(batch)
                return
            self._loop.call_soon(self.flush)
        self._items += items
        self._receipts.append(batch.acknowledge)
        if len(self._items) >= MOST:
            self.flush()

    def flush(self) -> None:
        """Hand over what was kept."""
        if not self._items:
            return
        items, receipts = self._items, self._receipts
        self._items, self._receipts = [], []
        if len(receipts) == 1:
            self._sink.take(Batch(items, receipts[0]))
        else:
            self._sink.take(Batch(items, _All(receipts)))


class _All:
    """One acknowledgement for several."""

    __slots__ = ("receipts",)

    def __init__(self, receipts: Sequence[Callable[[], None]]) -> None:
        self.receipts = receipts

    def __call__(self) -> None:
        for receipt in self.receipts:
            receipt()
