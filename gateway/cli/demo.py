"""``edge-gateway demo``: the gateway with a fleet on it, in one process."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from gateway.aio.supervisor import Supervisor
from gateway.cli.fleet import Fleet
from gateway.cli.network import bind_error
from gateway.cli.options import complain
from gateway.cli.run import announce, guarded, serve_until_signal
from gateway.cli.target import Plan, Target
from gateway.config.model import Config, EmbeddedBus
from gateway.main import Listening


def demo(config: Config, environ: Mapping[str, str], *, robots: int, hz: float, keep: bool) -> int:
    """Serve and drive until a signal; return the exit code."""
    with _data(_free_ports(config), keep=keep) as settled:
        return guarded(settled, environ, lambda ready: _run(settled, environ, robots, hz, ready))


async def _run(
    config: Config,
    environ: Mapping[str, str],
    robots: int,
    hz: float,
    ready: asyncio.Event,
) -> None:
    where: asyncio.Future[Listening] = asyncio.get_running_loop().create_future()

    def on_ready(listening: Listening) -> None:
        ready.set()
        announce(listening)
        where.set_result(listening)

    async def drive() -> None:
        listening = await where
        target = Target.of(config)
        if isinstance(config.bus, EmbeddedBus):
            url = urlsplit(listening.mqtt)
            target = target.at(url.hostname or config.bus.host, url.port or config.bus.port)
        plan = Plan(robots=robots, hz=hz, qos=1, connections=50)
        await Fleet(target, plan).run(asyncio.Event())

    async with Supervisor() as tasks:
        tasks.spawn("fleet", drive)
        await serve_until_signal(config, environ, on_ready)


@contextlib.contextmanager
def _data(config: Config, *, keep: bool) -> Iterator[Config]:
    """Give the configuration a directory that is gone afterwards, unless it is to be kept."""
    if keep:
        yield config
        return
    with tempfile.TemporaryDirectory(prefix="edge-gateway-demo-") as folder:
        data = msgspec.structs.replace(config.data, dir=Path(folder))
        yield msgspec.structs.replace(config, data=data)


def _free_ports(config: Config) -> Config:
    """Take free ports instead of those that are in use: a demo is to start, wherever it is."""
    http = config.http
    if bind_error(http.host, http.port):
        complain(f"port {http.port} is in use: the demo takes a free one for HTTP")
        config = msgspec.structs.replace(config, http=msgspec.structs.replace(http, port=0))
    bus = config.bus
    if isinstance(bus, EmbeddedBus) and bind_error(bus.host, bus.port):
        complain(f"port {bus.port} is in use: the demo takes a free one for MQTT")
        config = msgspec.structs.replace(config, bus=msgspec.structs.replace(bus, port=0))
    return config
