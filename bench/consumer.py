"""The classic Python chain as a peer of ingest: Mosquitto and a subscriber on aiomqtt."""

import json
import sys
from collections.abc import Iterator

from bench.context import Context
from bench.ingest import RATE
from bench.machine import SERVER_CORE, cpu_seconds, end, start
from bench.report import Row, absent, figure, say
from bench.servers import Server, Unmeasured, load, mosquitto

NAME = "ingest-qos1-one:aiomqtt"
WHAT = "Mosquitto and an aiomqtt subscriber that decodes and counts, QoS 1, nothing stored"


def measure(ctx: Context) -> Iterator[Row]:
    """Yield messages a second from the first byte published to the last one counted."""
    rates: list[float] = []
    cpu: list[float] = []
    try:
        with mosquitto(ctx.fresh(), persistence=False) as broker:
            for _ in range(ctx.runs):
                rate, used = _run(broker, ctx.scaled(20_000))
                rates.append(rate)
                cpu.append(used)
                say(f"{NAME} {len(rates)}/{ctx.runs}: {rate:,.0f} msg/s")
    except Unmeasured as exc:
        yield absent(NAME, WHAT, RATE, str(exc))
        return
    yield figure(NAME, WHAT, RATE, rates, cpu=cpu)


def _run(broker: Server, count: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "bench.peer_consumer", "--port", str(broker.mqtt)]
    process = start([*command, "--count", str(count)], core=SERVER_CORE)
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise Unmeasured("the subscriber did not start")
        pids = [*broker.pids, process.pid]
        before = cpu_seconds(pids)
        sent = load("bench.publisher", "--port", broker.mqtt, "--count", count)
        last = json.loads(process.stdout.readline())
        used = cpu_seconds(pids) - before
    finally:
        end(process)
    return count / (last["lastAt"] - sent["firstAt"]), used
