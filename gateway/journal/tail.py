"""The newest durable records in memory, for readers that keep up."""

from bisect import bisect_right
from typing import Final

from gateway.journal.port import Entry, Read, Record

_ENTRY_COST: Final = 160  # bytes of memory that an entry takes besides its payload
_TRIM: Final = 256  # blocks taken off the front at once

Block = tuple[int, int, int, int, tuple[Entry, ...], int]
"""First offset, offset after the last, mask of kinds, rts, entries, bytes in memory."""


def make_block(
    first: int, end: int, mask: int, rts_ms: int, entries: tuple[Entry, ...], size: int
) -> Block:
    """Return the block of one append whose records take ``size`` bytes."""
    return (first, end, mask, rts_ms, entries, size + _ENTRY_COST * (end - first))


def _end(block: Block) -> int:
    return block[1]


class Tail:
    """Blocks in order of their offsets; over ``memory_bytes`` the *oldest go first*."""

    def __init__(self, memory_bytes: int) -> None:
        self._limit = memory_bytes
        self._size = 0
        self._blocks: list[Block] = []
        self._head = 0  # blocks before this one are given up

    def extend(self, blocks: list[Block]) -> None:
        """Take blocks that follow those already here."""
        mine = self._blocks
        mine.extend(blocks)
        size = self._size + sum(block[5] for block in blocks)
        head = self._head
        while size > self._limit and head < len(mine):
            size -= mine[head][5]
            head += 1
        self._size = size
        self._drop(head)

    def forget(self, position: int) -> None:
        """Give up the blocks before ``position``: every reader has passed them."""
        mine, head = self._blocks, self._head
        while head < len(mine) and mine[head][1] <= position:
            self._size -= mine[head][5]
            head += 1
        self._drop(head)

    def _drop(self, head: int) -> None:
        if head >= _TRIM or head == len(self._blocks):
            del self._blocks[:head]
            head = 0
        self._head = head

    def read(
        self, position: int, kinds: frozenset[int] | None, wanted: int, max_records: int
    ) -> Read | None:
        """Return the records from ``position``, None if they are not here.

        Args:
            wanted: ``kinds`` as a mask; -1 for all. Blocks without them cost nothing.
            max_records: at most so many are returned, and about four times so many looked at.
        """
        blocks, head = self._blocks, self._head
        if head >= len(blocks) or position < blocks[head][0]:
            return None
        records: list[Record] = []
        budget = 4 * max_records
        at = position
        for number in range(bisect_right(blocks, position, head, key=_end), len(blocks)):
            first, end, mask, rts, entries, _ = blocks[number]
            if not mask & wanted:
                at = end
                continue
            room = max_records - len(records)
            if room <= 0 or budget <= 0:
                break
            if at > first:
                entries = entries[at - first :]
            else:
                at = first
            if len(entries) > min(room, budget):
                entries = entries[: min(room, budget)]
            budget -= len(entries)
            if mask & ~wanted and kinds is not None:
                records += [
                    Record(offset, kind, robot, ts, rts, payload)
                    for offset, (kind, robot, ts, payload) in enumerate(entries, at)
                    if kind in kinds
                ]
            else:
                records += [
                    Record(offset, kind, robot, ts, rts, payload)
                    for offset, (kind, robot, ts, payload) in enumerate(entries, at)
                ]
            at += len(entries)
            if at < end:  # the next block must not be passed before the rest of this one
                break
        return Read(records, at, at - position)
