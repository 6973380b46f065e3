"""The canary: a message of our own that travels the whole chain, again and again.

"Connected" says little: a link may take everything and carry nothing. So every few seconds a small
message goes the way of a robot's, and every hop is asked whether it has passed. docs/canary.md.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from gateway.core.errors import Unavailable
from gateway.core.kinds import Kind
from gateway.core.payloads import Canary as Payload
from gateway.core.shared import Shared, encode_all
from gateway.services.canary_hop import Bird, Hop, Watch

log = logging.getLogger(__name__)

EVERY_S: Final = 3.0
AGAIN_S: Final = 1.0  # after one that could not be sent
LOOK_S: Final = 0.05  # between two looks while one is under way: how exact the latencies are
SELDOM_S: Final = 0.25  # the same once it has been under way for longer than this

BUS: Final = "bus"

_decode: Final = msgspec.json.Decoder(Payload).decode

Probe = Callable[[str, bytes], Awaitable[None]]
"""gateway.bus.port.Bus.probe."""

Share = Callable[[bytes], Awaitable[None]]
"""Puts bytes on the channel of the shared state."""

Verdict = Callable[[], tuple[bool, str]]
"""gateway.services.readiness.Probe."""


class Canary:
    """Send canaries and say where they get stuck; ``run`` never returns.

    A hop is red when a canary has waited there for PATIENCE_S and nothing at all went through in
    that time: a backlog that drains is slow, not stuck. It is green again with the first thing that
    passes. Memory: MOST canaries per hop (gateway.services.canary_hop).
    """

    def __init__(
        self,
        topic: str,
        hops: Sequence[Hop],
        *,
        box: str,
        taken: Callable[[], int],
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        every_s: float = EVERY_S,
    ) -> None:
        """Watch the bus and ``hops``, which stand in the order of the way.

        Args:
            topic: gateway.core.topics.canary_topic.
            taken: grows with every message that the bus brings.
            every_s: less than PATIENCE_S.
        """
        self._topic = topic
        self._box = box
        self._now_ms = now_ms
        self._clock = clock
        self._every_s = every_s
        bus = Hop(name=BUS, after="", moved=taken, failing=lambda: self._refused, strict=True)
        self._watches = {hop.name: Watch(hop) for hop in (bus, *hops)}
        self._first = self._next = now_ms()  # after a restart an old one is not taken for a new one
        self._refused = ""  # why the last one could not be sent
        self._home = 0
        self._sent = self._failed = 0
        self._red: set[str] = set()
        self._under_way = asyncio.Event()

    async def run(self, probe: Probe, share: Share | None = None) -> None:
        """Send one every few seconds, and watch.

        ``share``: how a canary gets into the shared state of a box without a stream.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send_all(probe, share), name="canary send")
            tasks.create_task(self._look_again_and_again(), name="canary watch")

    async def _send_all(self, probe: Probe, share: Share | None) -> None:
        while True:
            began = self._clock()
            await self.send(probe, share)
            pause_s = min(AGAIN_S, self._every_s) if self._refused else self._every_s
            await asyncio.sleep(max(0.0, began + pause_s - self._clock()))

    async def _look_again_and_again(self) -> None:
        while True:
            self.look()
            self._log()
            oldest = [watch.waiting[0][1] for watch in self._watches.values() if watch.waiting]
            if oldest:
                long = self._clock() - min(oldest) > SELDOM_S
                await asyncio.sleep(SELDOM_S if long else LOOK_S)
            else:
                self._under_way.clear()
                await self._under_way.wait()

    async def send(self, probe: Probe, share: Share | None = None) -> None:
        """Send one now."""
        bird = Bird(self._next, self._clock())
        self._next += 1
        self._sent += 1
        ts = self._now_ms()
        payload = msgspec.json.encode(Payload(bird.id, ts))
        self._enter("", bird, bird.sent_s)
        self._under_way.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._probe(probe, payload))
            if share is not None:
                value = Shared(Kind.CANARY, self._box, ts, ts, self._box, payload)
                tasks.create_task(self._share(share, encode_all([value])))

    async def _probe(self, probe: Probe, payload: bytes) -> None:
        try:
            await probe(self._topic, payload)
        except Unavailable as exc:
            self._failed += 1
            self._refused = exc.detail
        else:
            self._refused = ""

    async def _share(self, share: Share, message: bytes) -> None:
        try:
            await share(message)
        except Unavailable as exc:  # the hop says so itself, and that nothing comes home says more
            log.debug("canary not shared: %s", exc.detail)

    def heard(self, id_: int, offset: int) -> None:
        """Take note that a canary came over the bus and got ``offset`` in the journal."""
        watch = self._watches[BUS]
        bird = next((bird for bird, _ in watch.waiting if bird.id == id_), None)
        if bird is not None:  # else it is of an earlier life, or came a second time
            bird.offset = offset
            now = self._clock()
            watch.tell(id_, now)
            self._enter(BUS, bird, now)

    def came_home(self, value: Shared) -> None:
        """Take note of a canary of this box that came back from the shared state."""
        try:
            id_ = _decode(value.payload).id
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return  # none of ours: anybody may write into the stream
        if not self._first <= id_ < self._next:
            return
        now = self._clock()
        self.look()
        for watch in self._watches.values():
            if watch.hop.reached is None and watch.hop.name != BUS:
                bird = watch.tell(id_, now)
                if bird is not None:
                    self._leave(watch, bird, now)

    def look(self) -> None:
        """Ask the hops how far they are."""
        now = self._clock()
        for watch in self._watches.values():  # in the order of the way: one look may do for all
            for bird in watch.look(now):
                self._enter(watch.hop.name, bird, now)

    def _enter(self, after: str, bird: Bird, now: float) -> None:
        for watch in self._watches.values():
            if watch.hop.after == after and not watch.enter(bird, now):
                self._leave(watch, bird, now)

    def _leave(self, watch: Watch, bird: Bird, now: float) -> None:
        """``bird`` has passed a hop that somebody told of: so far it is always the last one."""
        self._home = max(self._home, bird.offset + 1)
        self._enter(watch.hop.name, bird, now)

    # What is said about it

    @property
    def home(self) -> int:
        """The journal offset after the newest canary that came back from the shared state."""
        return self._home

    def trouble(self, name: str) -> str:
        """Return why the hop ``name`` is red, "" if it is not."""
        self.look()
        return self._watches[name].trouble(self._clock())

    def verdicts(self) -> Iterable[tuple[str, Verdict]]:
        """Return for each hop its name, and what its part of /readyz asks."""
        for name in self._watches:
            yield name, lambda name=name: self._verdict(name)  # type: ignore[misc]

    def _verdict(self, name: str) -> tuple[bool, str]:
        trouble, last = self.trouble(name), self._watches[name].last(self._clock())
        return (False, f"{trouble}; {last}") if trouble else (True, last)

    def _log(self) -> None:
        now = self._clock()
        for name, watch in self._watches.items():
            trouble = watch.trouble(now)
            if trouble and name not in self._red:
                log.warning("canary stuck: hop=%s %s", name, trouble)
                self._red.add(name)
            elif not trouble and name in self._red:
                self._red.discard(name)
                log.warning("canary passes again: hop=%s", name)

    def figures(self) -> Mapping[str, int | float]:
        """Return counters since the start, and for each hop what the last canary showed.

        An age of -1: none has passed.
        """
        now = self._clock()
        figures: dict[str, int | float] = {"sent": self._sent, "refused": self._failed}
        for name, watch in self._watches.items():
            figures[f"{name}_latency_seconds"] = watch.latency_s
            figures[f"{name}_whole_seconds"] = watch.whole_s
            figures[f"{name}_age_seconds"] = now - watch.passed_s if watch.passed_s >= 0 else -1
            figures[f"{name}_waiting"] = len(watch.waiting)
            figures[f"{name}_overtaken"] = watch.overtaken
        return figures
