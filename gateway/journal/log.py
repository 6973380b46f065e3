"""The journal as the event loop sees it: append, group commit, callbacks, readers, figures."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from gateway.config.model import JournalConfig
from gateway.core.errors import Unavailable
from gateway.core.record import Encoder
from gateway.core.units import size_bytes
from gateway.journal.cursor import FOLDER, Cursors
from gateway.journal.port import Entry, JournalStats, Reader, Trace
from gateway.journal.reader import FileReader
from gateway.journal.recovery import Recovered
from gateway.journal.tail import Tail, make_block
from gateway.journal.trace import Tracer
from gateway.journal.writer import RETRY_S, Group, Writer

log = logging.getLogger(__name__)

CLOSE_S: Final = 2.0  # what is not durable so long after the close began is given up
_FAILING_CLOSE_S: Final = 1.0  # the same while the disk is full or failing: one more attempt
_TRACE_BYTES: Final = 2**30  # read for one question at most, however quick the disk is
_HUNG_S: Final = 5.0  # a disk that does not answer for so long counts as failing


class Log:
    """A Journal (see gateway.journal.port) in segment files. Made by gateway.journal.open."""

    def __init__(
        self, config: JournalConfig, recovered: Recovered, *, retry_s: float = RETRY_S
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._catalog = catalog = recovered.catalog
        self._commit_s = config.commit_ms / 1000
        self._commit_bytes = config.commit_bytes
        self._high = size_bytes(config.pending_bytes)
        self._encode = Encoder(catalog.salt).encode
        self._tail = Tail(size_bytes(config.memory_bytes))
        self._executor = ThreadPoolExecutor(3, "journal-read")
        self._cursors = Cursors(
            catalog.folder / FOLDER,
            catalog.disk,
            catalog.epoch,
            recovered.cursors,
            self._executor,
        )
        self._next = self._committed = self._start = recovered.next_offset
        self._pending = 0
        self._group = Group()  # being filled
        self._writing: Group | None = None  # with the writer
        self._writing_since_s = 0.0
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._hurry = False
        self._paused = False
        self._pauses: list[Callable[[], None]] = []
        self._resumes: list[Callable[[], None]] = []
        self._readers: list[FileReader] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._tracing = asyncio.Lock()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._writer = Writer(catalog, self._written, retry_s=retry_s)
        self._resume = recovered.resume

    @property
    def epoch(self) -> str:
        """Return 16 hex digits made with the journal; they change only if it is lost as a whole."""
        return f"{self._catalog.epoch:016x}"

    def start(self) -> None:
        """Begin to write."""
        threading.Thread(target=self._run, name="journal-write", daemon=True).start()

    def _run(self) -> None:
        try:
            if self._resume is not None:
                self._writer.resume(self._resume)
            self._writer.run()
        except Exception as exc:  # a bug: nothing becomes durable any more, and /readyz says why
            log.exception("the journal's writer ended")
            self._writer.failing = f"the writer ended: {exc!r}"
        finally:
            self._on_loop(self._thread_ended)

    def _thread_ended(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _on_loop(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # it closed without waiting for a disk that hung
            log.warning("journal thread ends after its event loop")

    def append(self, entries: Sequence[Entry], rts_ms: int, on_commit: Callable[[], None]) -> int:
        first = self._next
        group = self._group
        if not entries:
            if group.blobs:
                group.callbacks.append(on_commit)
            elif self._writing is not None:
                self._writing.callbacks.append(on_commit)
            else:
                self._loop.call_soon(on_commit)
            return first
        data, mask = self._encode(entries, first, rts_ms)
        size = len(data)
        self._next = end = first + len(entries)
        if not group.blobs:
            self._open(group)
        group.blobs.append((first, end, data))
        group.blocks.append(make_block(first, end, mask, rts_ms, tuple(entries), size))
        group.callbacks.append(on_commit)
        group.size += size
        self._pending += size
        if group.size >= self._commit_bytes and self._writing is None:
            self._submit()
        if self._pending > self._high and not self._paused:
            self._paused = True
            for pause in self._pauses:
                pause()
        return first

    def _open(self, group: Group) -> None:
        group.began_s = self._loop.time()
        if self._writing is None:
            self._arm(self._commit_s)

    def _arm(self, delay_s: float) -> None:
        if delay_s > 0:
            self._timer = self._loop.call_later(delay_s, self._submit)
        else:  # after what else is ready: appends of one turn of the loop share a group
            self._timer = self._loop.call_soon(self._submit)

    def _submit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._writing, self._group = self._group, Group()
        self._writing_since_s = self._loop.time()
        self._hurry = False
        self._writer.submit(self._writing)

    def _written(self, group: Group) -> None:
        """On the writer's thread: ``group`` is durable."""
        self._on_loop(lambda: self._commit(group))

    def _commit(self, group: Group) -> None:
        self._writing = None
        self._pending -= group.size
        self._committed = group.blobs[-1][1]
        passed = min((reader.position for reader in self._readers), default=self._committed)
        self._tail.forget(passed)
        self._tail.extend(group.blocks)
        waiting = self._group
        if waiting.blobs:  # before the callbacks, so that the disk works meanwhile
            left_s = waiting.began_s + self._commit_s - self._loop.time()
            if left_s <= 0 or waiting.size >= self._commit_bytes or self._hurry:
                self._submit()
            else:
                self._arm(left_s)
        for on_commit in group.callbacks:
            try:
                on_commit()
            except Exception:
                log.exception("a commit callback failed")
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._paused and self._pending < self._high / 2:
            self._paused = False
            for resume in self._resumes:
                resume()

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pauses.append(pause)
        self._resumes.append(resume)
        if self._paused:
            pause()

    def reader(self, name: str, kinds: frozenset[int] | None = None) -> Reader:
        reader = FileReader(
            self._cursors.get(name, self._first_offset()),
            kinds,
            catalog=self._catalog,
            tail=self._tail,
            executor=self._executor,
            committed=lambda: self._committed,
            changed=self._changed,
            moved=self._cursors.moved,
        )
        self._readers.append(reader)
        return reader

    async def _changed(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    async def trace(
        self, robot: str, *, since: int, age_s: float, most: int, patience_s: float
    ) -> Trace:
        async with self._tracing:
            until_s = self._loop.time() + patience_s
            search = Tracer(
                self._catalog,
                robot,
                since=since,
                limit=self._committed,
                age_s=age_s,
                most=most,
                budget=_TRACE_BYTES,
            )
            try:
                while await self._loop.run_in_executor(self._executor, search.step):
                    if self._loop.time() > until_s:
                        return Trace(search.records, more=True)
            except OSError as exc:
                raise Unavailable(
                    f"the journal cannot be read: {exc.strerror}", dependency="journal"
                ) from exc
            return Trace(search.records, search.more)

    async def flush(self) -> None:
        durable = self._loop.create_future()
        self.append((), 0, lambda: None if durable.done() else durable.set_result(None))
        if self._group.blobs:
            if self._writing is None:
                self._submit()
            else:
                self._hurry = True
        await durable

    def _first_offset(self) -> int:
        segments = self._catalog.segments
        return segments[0].base if segments else self._committed

    def stats(self) -> JournalStats:
        catalog, writer = self._catalog, self._writer
        return JournalStats(
            first_offset=self._first_offset(),
            committed_offset=self._committed,
            next_offset=self._next,
            bytes_on_disk=catalog.bytes_on_disk,
            segments=len(catalog.segments),
            appended=self._next - self._start,
            committed=self._committed - self._start,
            pending_bytes=self._pending,
            dropped=dict(catalog.dropped),
            syncs=writer.syncs,
            sync_ms_last=writer.sync_ms_last,
            failing=writer.failing or self._hung(),
            epoch=self.epoch,
        )

    def _hung(self) -> str:
        if self._writing is None:
            return ""
        waiting_s = self._loop.time() - self._writing_since_s
        return f"The disk has not answered for {waiting_s:.0f} s" if waiting_s > _HUNG_S else ""

    async def close(self) -> None:
        """Make everything durable and save the cursors; give up after CLOSE_S, counted."""
        patience_s = _FAILING_CLOSE_S if self.stats().failing else CLOSE_S
        try:
            async with asyncio.timeout(patience_s):
                await self.flush()
            self._writer.submit(None)
        except TimeoutError:
            self._writer.give_up()
        _, waiting = await asyncio.wait([self._ended], timeout=0.5)
        if self._next > self._committed:
            log.error(
                "closed without %d messages durable, none of them acknowledged: %s",
                self._next - self._committed,
                self.stats().failing or ("the disk hangs" if waiting else "too slow"),
            )
        try:
            async with asyncio.timeout(0.5):
                await self._cursors.close()
        except TimeoutError:
            log.warning("closed without saving the cursors: their readers will read again")
        self._executor.shutdown(wait=False, cancel_futures=True)
