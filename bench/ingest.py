"""How many messages a second are taken, durably, with everything the chain does to each.

MQTT in, topic, validation, journal, fdatasync, PUBACK, hub. The peers do less: Mosquitto and amqtt
acknowledge what is in memory, and nothing is validated or stored.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Final

from bench.context import Context
from bench.report import CheckFailed, Row, absent, beside, figure, say
from bench.servers import Server, Unmeasured, amqtt, gateway, load, mosquitto

WARM_UP: Final = 1_000
RATE: Final = "msg/s"
Open = Callable[[Context], AbstractContextManager[Server]]


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that gets the same load, in smaller numbers if it is slow."""

    key: str
    label: str
    open: Open
    count: int


@dataclass(frozen=True, slots=True)
class Shape:
    """One way to publish."""

    name: str
    what: str
    goal: float | None
    count: int
    args: tuple[object, ...]
    peers: tuple[Peer, ...] = ()


@dataclass
class Runs:
    """Figures of one server, one entry a run."""

    rate: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    efficiency: list[float] = field(default_factory=list)  # messages per CPU second
    journalled: int = 0

    def add(self, messages: int, seconds: float, cpu: float) -> None:
        self.rate.append(messages / seconds)
        self.cpu.append(cpu)
        self.efficiency.append(messages / cpu)


_BROKER: Final = Peer(
    "mosquitto",
    "Mosquitto alone (in memory)",
    lambda ctx: mosquitto(ctx.fresh(), persistence=False),
    200_000,
)
_SAVING: Final = Peer(
    "mosquitto-persistent",
    "Mosquitto alone (persistence on, saved every second)",
    lambda ctx: mosquitto(ctx.fresh(), persistence=True),
    200_000,
)
_AMQTT: Final = Peer("amqtt", "amqtt alone (in memory)", lambda _: amqtt(), 20_000)

SHAPES: Final = (
    Shape(
        "ingest-qos1-one",
        "QoS 1 on one connection, PUBACK after fdatasync",
        200_000,
        400_000,
        ("--qos", 1, "--inflight", 8_000),
        (_BROKER, _SAVING, _AMQTT),
    ),
    Shape(
        "ingest-qos1-200",
        "QoS 1 on 200 connections with 10 in flight each, PUBACK after fdatasync",
        100_000,
        400_000,
        ("--qos", 1, "--connections", 200, "--inflight", 10),
        (_BROKER, _AMQTT),
    ),
    Shape(
        "ingest-qos0-one",
        "QoS 0 on one connection, until all of it is in the journal",
        250_000,
        400_000,
        ("--qos", 0),
        (_BROKER, _AMQTT),
    ),
    Shape(
        "ingest-mqtt5-one",
        "MQTT 5, QoS 1 on one connection within the receive maximum, PUBACK after fdatasync",
        None,
        200_000,
        ("--qos", 1, "--version", 5, "--inflight", 8_000),
    ),
)


def measure(ctx: Context, shape: Shape) -> Iterator[Row]:
    """Yield the rows of ``shape``: the gateway, what it costs, and each peer."""
    absences: dict[str, str] = {}
    with ExitStack() as stack:
        ours = stack.enter_context(gateway(ctx.fresh()))
        servers: list[tuple[Peer, Server]] = []
        for peer in shape.peers:
            try:
                servers.append((peer, stack.enter_context(peer.open(ctx))))
            except Unmeasured as exc:
                absences[peer.key] = str(exc)
        own, others = Runs(), {peer.key: Runs() for peer, _ in servers}
        for number in range(ctx.runs):
            _gateway_run(ctx, shape, ours, own, number)
            for peer, server in servers:
                _peer_run(ctx, shape, peer, server, others[peer.key])
    row = figure(shape.name, shape.what, RATE, own.rate, goal=shape.goal, cpu=own.cpu)
    per_cpu = figure(
        f"{shape.name}-per-cpu",
        f"{shape.what}; per CPU second of the server",
        "msg/CPU-s",
        own.efficiency,
        cpu=own.cpu,
    )
    rows = [row, per_cpu]
    for index, peer in enumerate(shape.peers):
        name, what = f"{shape.name}:{peer.key}", f"{peer.label}, {shape.what.partition(',')[0]}"
        if peer.key in absences:
            rows.append(absent(name, what, RATE, absences[peer.key]))
            continue
        runs = others[peer.key]
        peer_row = figure(name, what, RATE, runs.rate, cpu=runs.cpu)
        peer_cpu = figure(f"{name}-per-cpu", what, "msg/CPU-s", runs.efficiency, cpu=runs.cpu)
        rows += [peer_row, peer_cpu]
        if index == 0:
            beside(row, peer.label, peer_row)
            beside(per_cpu, peer.label, peer_cpu)
    yield from rows


def _gateway_run(ctx: Context, shape: Shape, server: Server, runs: Runs, number: int) -> None:
    count = ctx.scaled(shape.count)
    warm = WARM_UP if number == 0 else 0
    before = server.cpu()
    result = load(
        "bench.publisher", "--port", server.mqtt, "--count", count, "--warm-up", warm, *shape.args
    )
    on_disk = server.journalled()
    runs.add(result["messages"], result["seconds"], server.cpu() - before)
    runs.journalled += result["messages"] + warm
    if on_disk != runs.journalled:
        raise CheckFailed(
            f"{shape.name}: {runs.journalled} messages were acknowledged, "
            f"{on_disk} are in the journal"
        )
    say(f"{shape.name} {number + 1}/{ctx.runs}: edge-gateway {runs.rate[-1]:,.0f} msg/s")


def _peer_run(ctx: Context, shape: Shape, peer: Peer, server: Server, runs: Runs) -> None:
    before = server.cpu()
    result = load(
        "bench.publisher", "--port", server.mqtt, "--count", ctx.scaled(peer.count), *shape.args
    )
    runs.add(result["messages"], result["seconds"], server.cpu() - before)
    say(f"{shape.name} {len(runs.rate)}/{ctx.runs}: {peer.label} {runs.rate[-1]:,.0f} msg/s")
