"""Beyond the box: MQTT to Kafka beside other bridges, Kafka to Redis, and another box's browser.

Kafka and Redis run on the load generator's core, so that only the measured processes have the
server's. The gateway is durable on its own disk first; its peers keep messages in memory.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.context import Context
from bench.kafka import PARTITIONS, broker, mq_bridge, telegraf, until_held
from bench.report import CheckFailed, Row, absent, beside, figure, say
from bench.servers import Server, Unmeasured, gateway, load
from tests.services.kafka import Kafka
from tests.services.redis import Redis

GOAL_PER_CPU: Final = 150_000
GOAL_CORE: Final = 20.0  # % of a core at STEADY messages a second
GOAL_GATHER: Final = 200_000
GOAL_OTHER_MS: Final = 50.0
STEADY: Final = 5_000
ONE: Final = ("--inflight", 8_000)  # as a bridge gets them from its broker
MANY: Final = ("--connections", 200, "--inflight", 10)
WHAT: Final = "MQTT QoS 1 of 200 robots into Kafka, acks=all"

Peer = Callable[[Path, Kafka, str], AbstractContextManager[tuple[Server, Server]]]
PEERS: Final[dict[str, tuple[Peer, int]]] = {
    "mq-bridge": (mq_bridge, 100_000),
    "telegraf": (telegraf, 100_000),
}


@dataclass
class Runs:
    """Figures of one server, one entry a run."""

    rate: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    per_cpu: list[float] = field(default_factory=list)
    per_cpu_alone: list[float] = field(default_factory=list)  # without the broker in front


class Filling:
    """A topic that grows, and how much it must hold by now."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._count = 0

    def run(
        self,
        ctx: Context,
        server: Server,
        alone: Server,
        count: int,
        runs: Runs,
        shape: tuple[object, ...] = ONE,
    ) -> None:
        """Publish ``count`` messages and wait until Kafka has them all."""
        count = ctx.scaled(count)
        before, before_alone, began = server.cpu(), alone.cpu(), time.monotonic()
        load("bench.publisher", "--port", server.mqtt, "--count", count, *shape)
        self._count += count
        seconds = until_held(self._kafka, self._topic, self._count) - began
        cpu, cpu_alone = server.cpu() - before, alone.cpu() - before_alone
        runs.rate.append(count / seconds)
        runs.cpu.append(cpu)
        runs.per_cpu.append(count / cpu)
        runs.per_cpu_alone.append(count / cpu_alone)
        say(f"stream: {server.name} {runs.rate[-1]:,.0f} msg/s, {count / cpu:,.0f} per CPU-second")


def to_kafka(ctx: Context) -> Iterator[Row]:
    """Yield messages a second and per CPU second into Kafka, side by side with the peers."""
    try:
        with ExitStack() as stack:
            kafka = stack.enter_context(broker(ctx.fresh()))
            yield from _to_kafka(ctx, kafka, stack)
    except Unmeasured as exc:
        yield absent("stream", WHAT, "msg/s", str(exc))


def _to_kafka(ctx: Context, kafka: Kafka, stack: ExitStack) -> Iterator[Row]:
    ours = stack.enter_context(_to(ctx, kafka, "stream.consume=false"))
    own, own_many, filling = Runs(), Runs(), Filling(kafka, "smartair.pose")
    absences: dict[str, str] = {}
    others: dict[str, tuple[Server, Server, Filling, Runs]] = {}
    for name, (run, _) in PEERS.items():
        topic = f"peer.{name}"
        kafka.create_topics([topic], partitions=PARTITIONS)
        try:
            both, alone = stack.enter_context(run(ctx.fresh(), kafka, topic))
        except Unmeasured as exc:
            absences[name] = str(exc)
        else:
            others[name] = (both, alone, Filling(kafka, topic), Runs())
    for _ in range(ctx.runs):
        filling.run(ctx, ours, ours, 400_000, own)
        ours.settled()
        filling.run(ctx, ours, ours, 400_000, own_many, MANY)
        ours.settled()
        for name, (both, alone, topic_filling, runs) in others.items():
            topic_filling.run(ctx, both, alone, PEERS[name][1], runs)
    row = figure("stream", WHAT, "msg/s", own.rate, cpu=own.cpu)
    per_cpu = figure(
        "stream-per-cpu",
        f"{WHAT}; per CPU second of the gateway",
        "msg/CPU-s",
        own.per_cpu,
        goal=GOAL_PER_CPU,
        cpu=own.cpu,
    )
    many = figure(
        "stream-per-cpu-200",
        f"{WHAT}, from 200 connections with 10 in flight each; per CPU second of the gateway",
        "msg/CPU-s",
        own_many.per_cpu,
        cpu=own_many.cpu,
    )
    rows = [row, per_cpu, many]
    for name in PEERS:
        if name in absences:
            rows.append(absent(f"stream:{name}", f"{name}: {WHAT}", "msg/s", absences[name]))
            continue
        both, alone, _, runs = others[name]
        label = f"{both.name}: {WHAT}"
        peer = figure(f"stream:{name}", label, "msg/s", runs.rate, cpu=runs.cpu)
        peer_cpu = figure(f"stream-per-cpu:{name}", label, "msg/CPU-s", runs.per_cpu, cpu=runs.cpu)
        rows += [
            peer,
            peer_cpu,
            figure(
                f"stream-per-cpu:{name}-alone",
                f"{alone.name} alone, its broker not counted: {WHAT}",
                "msg/CPU-s",
                runs.per_cpu_alone,
            ),
        ]
        if row.peer is None:
            beside(row, both.name, peer)
            beside(per_cpu, both.name, peer_cpu)
    yield from rows


def steady(ctx: Context) -> Iterator[Row]:
    """Yield how much of a core 5,000 msg/s of 200 connections cost, beside the peers."""
    what = f"{STEADY:,} msg/s QoS 1 of 200 connections into Kafka: share of a core"
    try:
        with ExitStack() as stack:
            kafka = stack.enter_context(broker(ctx.fresh()))
            ours = stack.enter_context(_to(ctx, kafka, "stream.consume=false"))
            servers = {"": (ours, "edge-gateway")}
            absences = {}
            for name, (run, _) in PEERS.items():
                kafka.create_topics([f"peer.{name}"], partitions=PARTITIONS)
                try:
                    both, _ = stack.enter_context(run(ctx.fresh(), kafka, f"peer.{name}"))
                    servers[name] = (both, both.name)
                except Unmeasured as exc:
                    absences[name] = str(exc)
            shares: dict[str, list[float]] = {name: [] for name in servers}
            for _ in range(ctx.runs):
                for name, (server, _) in servers.items():
                    shares[name].append(_share(ctx, server))
                ours.settled()
            row = figure("stream-steady", what, "%", shares[""], goal=GOAL_CORE, better="less")
            rows = [row]
            for name, (_, label) in servers.items():
                if name:
                    peer = figure(f"stream-steady:{name}", f"{label}: {what}", "%", shares[name])
                    rows.append(peer)
                    if row.peer is None:
                        beside(row, label, peer)
            rows += [
                absent(f"stream-steady:{name}", f"{name}: {what}", "%", why)
                for name, why in absences.items()
            ]
            yield from rows
    except Unmeasured as exc:
        yield absent("stream-steady", what, "%", str(exc))


def _share(ctx: Context, server: Server) -> float:
    """Return the percentage of a core that ``server`` needs for STEADY messages a second."""
    seconds, warm = (3, 1) if ctx.quick else (10, 1)
    before = server.cpu()
    load(
        "bench.open_loop",
        *("--mqtt", server.mqtt, "--http", 0, "--rate", STEADY, "--robots", 200),
        *("--connections", 200, "--seconds", seconds, "--warm-s", warm),
        *("--readers", 0, "--settle-s", 0, "--count-only"),
    )
    share = 100.0 * (server.cpu() - before) / (seconds + warm)
    say(f"stream-steady: {server.name} {share:.1f} % of a core")
    return share


def gathered(ctx: Context) -> Iterator[Row]:
    """Yield records a second from Kafka into Redis by a box that finds them waiting."""
    what = "Kafka to Redis: records of 200 robots through the consumer group, newest values stored"
    try:
        with ExitStack() as stack:
            kafka = stack.enter_context(broker(ctx.fresh()))
            redis = stack.enter_context(Redis(ctx.fresh()))
            count, rates, cpu = ctx.scaled(400_000), [], []
            sender = stack.enter_context(_to(ctx, kafka, "stream.consume=false"))
            for number in range(ctx.runs):
                group = f"stream.group=bench-{number}"
                with _to(ctx, kafka, group, *_with(redis, f"bench-{number}")) as first:
                    _until_consuming(first)  # from here on the group has a place to go on from
                load("bench.publisher", "--port", sender.mqtt, "--count", count, *MANY)
                sender.settled()
                with _to(ctx, kafka, group, *_with(redis, f"bench-{number}")) as box:
                    rate, used = _gather(box, count)
                    rates.append(rate)
                    cpu.append(used)
                    say(f"gather {number + 1}/{ctx.runs}: {rate:,.0f} records/s")
            yield figure("gather", what, "records/s", rates, goal=GOAL_GATHER, cpu=cpu)
    except Unmeasured as exc:
        yield absent("gather", what, "records/s", str(exc))


def _until_consuming(box: Server) -> None:
    deadline = time.monotonic() + 30.0
    while True:
        parts = {part["name"]: part for part in box.get("/readyz")["parts"]}
        if parts["consumer"]["ok"]:
            return
        if time.monotonic() > deadline:
            raise CheckFailed(f"the consumer did not come up: {parts['consumer']['detail']}")
        time.sleep(0.1)


def _gather(box: Server, count: int) -> tuple[float, float]:
    """Return records a second from the first to the last, and the CPU seconds meanwhile."""
    began = used = 0.0
    first = 0
    deadline = time.monotonic() + 60.0
    while True:
        hops = box.get("/api/admin/ledger")["hops"]
        done = sum(h["delivered"] for h in hops if h["hop"] == "state" and h["kind"] == "pose")
        if done and not began:
            began, used, first = time.monotonic(), box.cpu(), done
        if began and done >= count:
            return (count - first) / (time.monotonic() - began), box.cpu() - used
        if time.monotonic() > deadline:
            raise CheckFailed(f"gather: {done} of {count} records")
        time.sleep(0.01)


def other_box(ctx: Context) -> Iterator[Row]:
    """Yield the latency from a device of one box to a browser of another."""
    what = "device of one box to WebSocket of the other, 1,000 msg/s, by Kafka and Redis"
    try:
        with ExitStack() as stack:
            kafka = stack.enter_context(broker(ctx.fresh()))
            redis = stack.enter_context(Redis(ctx.fresh()))
            shared = _with(redis, "bench")
            one = stack.enter_context(_to(ctx, kafka, "site.box=one", *shared))
            two = stack.enter_context(_to(ctx, kafka, "site.box=two", *shared))
            for box in (one, two):
                _until_consuming(box)
            results = []
            for _ in range(ctx.runs):
                args = ("--rate", 1_000, "--robots", 200, "--seconds", 3 if ctx.quick else 8)
                result = load(
                    "bench.open_loop", "--mqtt", one.mqtt, "--http", two.http, *args, "--warm-s", 2
                )
                if result["missing"]:
                    raise CheckFailed(f"other-box: {result['missing']} robots did not arrive")
                results.append(result["latency"])
                say(f"other-box: p50 {results[-1]['p50']:.1f} p99 {results[-1]['p99']:.1f} ms")
            for key in ("p50", "p99", "max"):
                yield figure(
                    f"other-box-{key}",
                    f"{what}, {key}",
                    "ms",
                    [latency[key] for latency in results],
                    goal=GOAL_OTHER_MS if key == "p99" else None,
                    better="less",
                )
    except Unmeasured as exc:
        yield absent("other-box-p99", what, "ms", str(exc))


def _to(ctx: Context, kafka: Kafka, *sets: str) -> AbstractContextManager[Server]:
    return gateway(ctx.fresh(), "stream.backend=kafka", f"stream.servers={kafka.servers}", *sets)


def _with(redis: Redis, prefix: str) -> tuple[str, str, str]:
    return "state.backend=redis", f"state.url={redis.url}", f"state.prefix={prefix}"
