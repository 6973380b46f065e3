"""Where a canary gets stuck, by a clock that the test moves."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest

from gateway.core.errors import Unavailable
from gateway.core.kinds import Kind
from gateway.core.shared import Shared, decode_all
from gateway.services.canary import EVERY_S, Canary
from gateway.services.canary_hop import MOST, PATIENCE_S, Hop

TOPIC = "p/s/b1/canary"
START_MS = 1_790_000_000_000


@dataclass
class Chain:
    """A chain of hops that do what the test says: bus, journal, then records; stream, then state.

    ``at`` is how far a hop is, in journal offsets.
    """

    share: bool = False
    now_s: float = 100.0
    at: dict[str, int] = field(default_factory=lambda: {"journal": 0, "records": 0, "stream": 0})
    failing: dict[str, str] = field(default_factory=dict)
    taken: int = 0
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    shared: list[bytes] = field(default_factory=list)
    refusing: str = ""
    carrying: bool = True
    offset: int = 0

    def __post_init__(self) -> None:
        def hop(name: str, after: str) -> Hop:
            return Hop(
                name=name,
                after=after,
                reached=lambda: self.at[name],
                failing=lambda: self.failing.get(name, ""),
            )

        hops = [hop("journal", "bus"), hop("records", "journal"), hop("stream", "journal")]
        hops.append(Hop(name="state", after="" if self.share else "stream"))
        self.canary = Canary(
            TOPIC,
            hops,
            box="b1",
            taken=lambda: self.taken,
            now_ms=lambda: START_MS + int(self.now_s * 1000),
            clock=lambda: self.now_s,
        )

    async def probe(self, topic: str, payload: bytes) -> None:
        if self.refusing:
            raise Unavailable(self.refusing, dependency="bus")
        self.sent.append((topic, payload))
        if self.carrying:
            self.arrive(payload)

    async def put(self, message: bytes) -> None:
        self.shared.append(message)

    def arrive(self, payload: bytes) -> None:
        self.taken += 1
        self.canary.heard(msgspec.json.decode(payload)["id"], self.offset)
        self.offset += 1

    def home(self, payload: bytes) -> None:
        self.canary.came_home(Shared(Kind.CANARY, "b1", 1, 1, "b1", payload))

    async def send(self) -> bytes:
        """Send one; return its payload."""
        await self.canary.send(self.probe, self.put if self.share else None)
        return self.sent[-1][1] if self.sent else b""

    def reach(self, *names: str) -> None:
        """Let these hops have everything."""
        for name in names:
            self.at[name] = self.offset
            self.canary.look()

    def red(self) -> list[str]:
        return [name for name, verdict in self.canary.verdicts() if not verdict()[0]]

    def why(self, name: str) -> str:
        return dict(self.canary.verdicts())[name]()[1]

    async def live(self, seconds: float, *names: str, home: bool = True) -> None:
        """Let time pass, with a canary every EVERY_S, and these hops keeping up."""
        for _ in range(round(seconds / EVERY_S)):
            payload = await self.send()
            self.reach(*names)
            if home:
                self.home(payload)
            self.now_s += EVERY_S


ALL = ("journal", "records", "stream")


async def test_what_is_sent_names_itself() -> None:
    chain = Chain()
    first, second = await chain.send(), await chain.send()
    assert chain.sent[0][0] == TOPIC
    assert msgspec.json.decode(second)["id"] == msgspec.json.decode(first)["id"] + 1
    assert msgspec.json.decode(first)["ts"] == START_MS + 100_000


async def test_nothing_is_red_before_there_was_time() -> None:
    chain = Chain()
    assert chain.red() == []
    assert chain.why("state") == "no canary has passed yet"


async def test_all_pass_and_the_latencies_are_known() -> None:
    chain = Chain()
    payload = await chain.send()
    for name, after_s in (("journal", 0.25), ("records", 0.5), ("stream", 1.0)):
        chain.now_s = 100.0 + after_s
        chain.reach(name)
    chain.now_s = 102.0
    chain.home(payload)
    chain.now_s = 105.0
    figures = chain.canary.figures()
    assert (figures["bus_latency_seconds"], figures["journal_latency_seconds"]) == (0, 0.25)
    assert (figures["records_latency_seconds"], figures["records_whole_seconds"]) == (0.25, 0.5)
    assert (figures["state_latency_seconds"], figures["state_whole_seconds"]) == (1.0, 2.0)
    assert (figures["state_age_seconds"], figures["stream_age_seconds"]) == (3.0, 4.0)
    assert figures["sent"] == 1
    assert chain.why("state") == "the last canary passed 3.0 s ago, 2000 ms after it was sent"
    assert chain.canary.home == 1
    assert chain.red() == []


@pytest.mark.parametrize(
    ("stuck", "moving"),
    [
        ("journal", ()),
        ("records", ("journal", "stream")),
        ("stream", ("journal", "records")),
        ("state", ALL),
    ],
)
async def test_the_hop_that_swallows_is_named_and_heals(stuck: str, moving: Sequence[str]) -> None:
    """Red within 15 s of the moment at which it stopped, however that falls between canaries."""
    chain = Chain()
    await chain.live(9, *ALL)
    assert chain.red() == []
    stopped_s = chain.now_s
    while not chain.red():
        await chain.live(EVERY_S, *moving, home=stuck != "state" and "stream" in moving)
    assert chain.red() == [stuck]
    assert PATIENCE_S < chain.now_s - stopped_s <= 15 - EVERY_S
    assert re.match(r"stuck for \d+ s: it takes messages and lets none through", chain.why(stuck))
    await chain.live(EVERY_S, *ALL)
    assert chain.red() == []


async def test_the_reason_is_the_hops_own() -> None:
    chain = Chain()
    chain.failing["records"] = "the disk is full"
    await chain.live(12, "journal", "stream")
    assert chain.why("records").startswith("stuck for 12 s: the disk is full; no canary has passed")
    assert chain.canary.trouble("records") == "stuck for 12 s: the disk is full"
    assert chain.canary.trouble("stream") == ""


async def test_a_backlog_that_drains_is_not_stuck() -> None:
    chain = Chain()
    await chain.live(60, "journal", "records")
    assert chain.red() == ["stream"]
    for _ in range(10):  # one old record every 5 s
        chain.at["stream"] += 1
        assert chain.red() == []
        chain.now_s += 5.0
        assert chain.red() == []
    chain.now_s += PATIENCE_S
    assert chain.red() == ["stream"]


async def test_a_bus_that_swallows() -> None:
    chain = Chain(carrying=False)
    await chain.live(9, *ALL, home=False)
    assert chain.red() == ["bus"]
    chain.arrive(chain.sent[-1][1])  # of those before it nothing is heard any more
    assert chain.red() == []
    assert chain.canary.figures()["bus_overtaken"] == 2


async def test_a_bus_that_delivers_a_backlog_is_slow_and_not_stuck() -> None:
    chain = Chain(carrying=False)
    for _ in range(10):
        chain.taken += 1
        await chain.live(EVERY_S)
        assert chain.red() == []


async def test_a_bus_that_takes_nothing_from_us_is_red_whatever_it_brings() -> None:
    chain = Chain(refusing="the broker is away")
    for _ in range(3):
        chain.taken += 1
        await chain.live(EVERY_S)
    assert chain.red() == ["bus"]
    assert "the broker is away" in chain.why("bus")
    assert chain.canary.figures()["refused"] == 3
    chain.refusing = ""
    await chain.live(EVERY_S, *ALL)
    assert chain.red() == []


async def test_one_that_comes_home_before_the_stream_says_so() -> None:
    """Kafka may be faster with the record than with the acknowledgement."""
    chain = Chain()
    payload = await chain.send()
    chain.reach("journal", "records")
    chain.now_s += 1.0
    chain.home(payload)
    chain.now_s += 1.0
    chain.reach("stream")
    figures = chain.canary.figures()
    assert (figures["state_whole_seconds"], figures["state_age_seconds"]) == (1.0, 1.0)
    assert figures["state_waiting"] == 0
    assert chain.canary.home == 1
    await chain.live(30, *ALL)
    assert chain.red() == []


async def test_without_a_stream_it_goes_to_the_state_by_itself() -> None:
    chain = Chain(share=True)
    payload = await chain.send()
    (value,) = decode_all(chain.shared[0])
    assert (value.kind, value.box, value.payload) == (Kind.CANARY, "b1", payload)
    chain.canary.came_home(value)
    assert chain.canary.figures()["state_age_seconds"] == 0
    await chain.live(12, *ALL, home=False)
    assert chain.red() == ["state"]


async def test_what_is_not_ours_changes_nothing() -> None:
    chain = Chain()
    await chain.live(3, *ALL, home=False)
    for payload in (b"", b"{}", b"\xff", b'{"id":5,"ts":1}', b'{"id":9007199254740991,"ts":1}'):
        chain.home(payload)
    chain.canary.heard(5, 99)
    chain.canary.heard(2**50, 99)
    assert chain.canary.figures()["state_age_seconds"] == -1
    await chain.live(9, *ALL, home=False)
    assert chain.red() == ["state"]


async def test_a_week_of_outage_takes_no_more_memory() -> None:
    chain = Chain()
    for _ in range(2 * MOST):
        await chain.live(EVERY_S, "journal", "records")
    assert chain.canary.figures()["stream_waiting"] == MOST
    await chain.live(EVERY_S, *ALL)
    assert chain.canary.figures()["stream_waiting"] == 0
    await chain.live(EVERY_S, *ALL)
    assert chain.red() == []


async def test_run_sends_again_and_again_and_looks(caplog: pytest.LogCaptureFixture) -> None:
    offset = home = 0
    canary = Canary(
        TOPIC,
        [Hop(name="journal", after="bus", reached=lambda: offset), Hop(name="state", after="")],
        box="b1",
        taken=lambda: offset,
        now_ms=lambda: START_MS,
        every_s=0.01,
    )

    async def probe(_: str, payload: bytes) -> None:
        nonlocal offset
        canary.heard(msgspec.json.decode(payload)["id"], offset)
        offset += 1
        if offset == 3:
            raise Unavailable("once", dependency="bus")

    async def share(message: bytes) -> None:
        nonlocal home
        home += 1
        if home == 2:
            raise Unavailable("once", dependency="state")
        canary.came_home(decode_all(message)[0])

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(canary.run(probe, share))
        async with asyncio.timeout(20):
            while canary.figures()["journal_age_seconds"] < 0 or offset < 6:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        running.cancel()
    assert canary.figures()["refused"] == 1
    assert canary.figures()["state_overtaken"] == 1
    assert "stuck" not in caplog.text
