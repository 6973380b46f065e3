"""From a robot's pose to a browser: latency at fixed rates, and how many sends a core can do."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final

from bench.context import Context
from bench.report import Better, CheckFailed, Row, absent, beside, figure, say
from bench.servers import Server, Unmeasured, bridged, gateway, load

GOAL_P99_MS: Final = 10.0
ROBOTS: Final = 1_000  # each sends at most five poses a second: slower than a tick
BRIDGE: Final = "Mosquitto, aiomqtt, aiohttp WebSocket"
FANOUT_READERS: Final = 500
FANOUT_RATE: Final = 600  # poses a second: 300,000 deliveries a second cannot be had on a core
FANOUT_GOAL: Final = 110_000


class Measured:
    """Results of one server, run by run."""

    def __init__(self) -> None:
        self.results: list[dict[str, Any]] = []
        self.cpu: list[float] = []

    def run(self, server: Server, *args: object) -> dict[str, Any]:
        before = server.cpu()
        result = load("bench.open_loop", "--mqtt", server.mqtt, "--http", server.http, *args)
        self.cpu.append(server.cpu() - before)
        self.results.append(result)
        return result

    def row(
        self,
        name: str,
        what: str,
        unit: str,
        value: Callable[[dict[str, Any]], float],
        goal: float | None = None,
        better: Better = "less",
    ) -> Row:
        runs = [value(result) for result in self.results]
        return figure(name, what, unit, runs, goal=goal, better=better, cpu=self.cpu)


def latency(ctx: Context, rate: int) -> Iterator[Row]:
    """Yield p50, p99 and max at ``rate`` messages a second QoS 1, beside the bridge's."""
    name, seconds = f"latency-{rate}", 2 if ctx.quick else 5
    args = ("--rate", rate, "--robots", ROBOTS, "--seconds", seconds)
    own, other, why = _side_by_side(ctx, name, args)
    text = f"device to WebSocket at {rate:,} msg/s QoS 1, open loop"
    for key in ("p50", "p99", "max"):
        goal = GOAL_P99_MS if key == "p99" else None
        row = own.row(f"{name}-{key}", f"{text}, {key}", "ms", _latency(key), goal)
        peer_name, peer_what = f"{name}-{key}:bridge", f"{BRIDGE}: {text}, {key}"
        if other is None:
            yield row
            yield absent(peer_name, peer_what, "ms", why)
        else:
            peer = other.row(peer_name, peer_what, "ms", _latency(key))
            yield beside(row, BRIDGE, peer)
            yield peer
    yield own.row(
        f"{name}-conflated",
        f"{text}: poses that a newer one of the same robot replaced",
        "poses",
        lambda result: float(result["conflated"]),
    )
    yield own.row(
        f"{name}-generator",
        f"{text}: how late the load generator itself was, p99 (it is part of the latency)",
        "ms",
        lambda result: float(result["lateness"]["p99"]),
    )


def fanout(ctx: Context) -> Iterator[Row]:
    """Yield frames a second that 500 readers get when more is published than can be sent."""
    seconds = 2 if ctx.quick else 4
    args = (
        *("--rate", FANOUT_RATE, "--robots", 100, "--seconds", seconds),
        *("--readers", FANOUT_READERS, "--count-only"),
    )
    own, other, why = _side_by_side(ctx, "fanout", args, "live.tick_ms=0")
    text = f"WebSocket fan-out to {FANOUT_READERS} readers, saturated"
    for name, what, value, goal in (
        ("fanout", f"{text}: frames delivered, in order", _frames, FANOUT_GOAL),
        ("fanout-poses", f"{text}: poses in those frames", _poses, None),
    ):
        row = own.row(name, what, "deliveries/s", value, goal, "more")
        if other is None:
            yield row
            yield absent(f"{name}:bridge", f"{BRIDGE}: {what}", "deliveries/s", why)
        else:
            peer = other.row(f"{name}:bridge", f"{BRIDGE}: {what}", "deliveries/s", value)
            yield beside(row, BRIDGE, peer)
            yield peer


def _side_by_side(
    ctx: Context, name: str, args: tuple[object, ...], *sets: str
) -> tuple[Measured, Measured | None, str]:
    own, other, why = Measured(), None, ""
    bridge: Server | None = None
    with ExitStack() as stack:
        ours = stack.enter_context(gateway(ctx.fresh(), *sets))
        try:
            bridge = stack.enter_context(bridged(ctx.fresh()))
            other = Measured()
        except Unmeasured as exc:
            why = str(exc)
        for number in range(1, ctx.runs + 1):
            result = own.run(ours, *args)
            ours.settled()
            _check(name, result)
            say(f"{name} {number}/{ctx.runs}: edge-gateway {_short(result)}")
            if bridge is not None and other is not None:
                result = other.run(bridge, *args)
                say(f"{name} {number}/{ctx.runs}: {BRIDGE} {_short(result)}")
    return own, other, why


def _check(name: str, result: dict[str, Any]) -> None:
    if result["missing"]:
        raise CheckFailed(f"{name}: the newest pose of {result['missing']} robots did not arrive")
    if result["disordered"]:
        raise CheckFailed(f"{name}: {result['disordered']} frames or poses out of order")


def _short(result: dict[str, Any]) -> str:
    if result["latency"]:
        return ", ".join(f"{key} {value:.2f} ms" for key, value in result["latency"].items())
    return f"{_frames(result):,.0f} deliveries/s"


def _latency(key: str) -> Callable[[dict[str, Any]], float]:
    def value(result: dict[str, Any]) -> float:
        found: float = result["latency"][key]
        return found

    return value


def _frames(result: dict[str, Any]) -> float:
    return float(result["frames"] / result["seconds"])


def _poses(result: dict[str, Any]) -> float:
    return float(result["poses"] / result["seconds"])
