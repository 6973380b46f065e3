"""``edge-gateway selftest``: synthetic robots, an outage on purpose, and whether anything was lost.

The parts: selftest_load (robots), selftest_gate (the gateway seen from outside), selftest_trial
(the course of it), selftest_proof (where everything must be), selftest_verdict, selftest_report.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Final
from urllib.parse import urlsplit

import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.cli.options import FAILED, UNREACHABLE, complain
from gateway.cli.selftest_child import DidNotStart, own_gateway
from gateway.cli.selftest_gate import Gate, open_gate
from gateway.cli.selftest_load import Load
from gateway.cli.selftest_proof import ReadBack
from gateway.cli.selftest_report import Outcome, show
from gateway.cli.selftest_trial import NotPossible, Trial, allowed
from gateway.cli.selftest_trial import Progress as Report
from gateway.cli.selftest_verdict import Order
from gateway.cli.target import Target
from gateway.config.model import Config, EmbeddedBus, KafkaStream, NoStream, RedisState
from gateway.core.errors import Unavailable

USAGE: Final = 2


def selftest(config: Config, order: Order, *, url: str, words: Sequence[str], as_json: bool) -> int:
    """Run it and return the exit code.

    Args:
        url: the gateway; "" is the one of ``config``, or a child if none runs.
        words: this command's --config and --set, for that child.
    """
    if why := _impossible(config, order.cut):
        complain(why)
        return USAGE
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcome = runner.run(_run(config, order, url=url, words=words))
    except asyncio.CancelledError:
        complain("stopped; nothing is cut any more")
        return FAILED
    except NotPossible as exc:
        complain(str(exc))
        if exc.usage:
            return USAGE
        return UNREACHABLE if exc.service else FAILED
    except Unavailable as exc:
        complain(f"{exc.dependency} cannot be asked: {exc.detail}")
        return UNREACHABLE
    except DidNotStart as exc:
        complain(f"the gateway did not start:\n{exc}")
        return FAILED
    show(outcome, as_json=as_json)
    return FAILED if outcome.faults else os.EX_OK


def _impossible(config: Config, cut: str) -> str:
    """Return why there is nothing to cut, "" if there is."""
    if cut == "kafka" and isinstance(config.stream, NoStream):
        return (
            '--cut kafka: [stream] backend is "none", there is no link to Kafka; '
            'set stream.backend = "kafka" and stream.servers'
        )
    if cut == "redis" and not isinstance(config.state, RedisState):
        return (
            '--cut redis: [state] backend is "memory", there is no link to Redis; '
            'set state.backend = "redis" and state.url'
        )
    return ""


async def _run(config: Config, order: Order, *, url: str, words: Sequence[str]) -> Outcome:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel if task else loop.stop)
    name = f"selftest-{secrets.token_hex(3)}"
    names = [f"{name}-{n + 1}" for n in range(order.robots)]
    async with AsyncExitStack() as stack:
        gate, target = await _find(config, url, words, stack)
        await allowed(gate, order.cut)
        stream: ReadBack | None = None
        if isinstance(config.stream, KafkaStream):
            from gateway.cli.selftest_stream import open_stream  # its driver is optional

            stream = await stack.enter_async_context(
                open_stream(config.stream, dict.fromkeys(names))
            )
        state = None
        if isinstance(config.state, RedisState):
            from gateway.state.open import open_state

            state = await stack.enter_async_context(open_state(config.state))
            await state.ping()
        report = stack.enter_context(_progress())
        load = Load(target, names, order.rate)
        trial = Trial(order, gate, load, stream=stream, state=state, progress=report)
        return await trial.run()


async def _find(
    config: Config, url: str, words: Sequence[str], stack: AsyncExitStack
) -> tuple[Gate, Target]:
    """Return the gateway that runs, or one that is started for the length of ``stack``."""
    target, http = Target.of(config), config.http
    host = f"[{http.host}]" if ":" in http.host else http.host
    if url or http.port:
        base = url.rstrip("/") or f"http://{host}:{http.port}"
        gate = await stack.enter_async_context(open_gate(base))
        if await gate.alive():
            return gate, target
        if url:
            raise NotPossible(f"no gateway answers at {base}: {gate.trouble}", service=True)
        complain(f"no gateway answers at {base}: starting one with the same configuration")
    else:
        complain("http.port is 0: starting a gateway with the same configuration")
    started = await stack.enter_async_context(own_gateway(config, words))
    if isinstance(config.bus, EmbeddedBus):
        place = urlsplit(started.mqtt)
        target = target.at(place.hostname or config.bus.host, place.port or config.bus.port)
    return await stack.enter_async_context(open_gate(started.http)), target


@contextlib.contextmanager
def _progress() -> Iterator[Report]:
    """Show how far it is on stderr, if that is a terminal."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    ) as bar:
        shown = bar.add_task("starting", total=None)

        def report(what: str, done_s: float, total_s: float) -> None:
            bar.update(shown, description=what, completed=done_s, total=total_s or None)

        yield report
