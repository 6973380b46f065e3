"""``edge-gateway simulate``: a fleet until its time is over, and what it achieved."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import uvloop

from gateway.aio.supervisor import Supervisor
from gateway.cli.fleet import Fleet, Tally
from gateway.cli.options import FAILED, UNREACHABLE, complain, say, write_json
from gateway.cli.target import Plan, Target

_REPORT_S: Final = 5.0


def simulate(target: Target, plan: Plan, *, as_json: bool) -> int:
    """Drive, report every few seconds, and return the exit code.

    69: there was never a connection. 1: something sent with QoS >= 1 was not acknowledged.
    """
    show = write_json if as_json else _print
    if not as_json:
        say(
            f"{plan.robots} robots at {plan.hz:g} Hz, QoS {plan.qos}, "
            f"{min(plan.connections, plan.robots)} connections to {target.host}:{target.port}, "
            f"topics {target.prefix}/{target.site}/..."
        )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tally = runner.run(_until_over(target, plan, show))
    if not tally.connects:
        complain(f"{target.host}:{target.port} cannot be reached: {tally.trouble}")
        return UNREACHABLE
    return os.EX_OK if tally.acknowledged == tally.certain else FAILED


async def _until_over(target: Target, plan: Plan, show: Callable[[Any], None]) -> Tally:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if plan.duration_s:
        loop.call_later(plan.duration_s, stop.set)
    fleet = Fleet(target, plan)
    start_s = time.monotonic()
    async with Supervisor() as tasks:
        tasks.spawn("report", lambda: _report(fleet.tally, plan, show))
        await fleet.run(stop)
    show(_figures(fleet.tally, plan, start_s, 0))
    return fleet.tally


async def _report(tally: Tally, plan: Plan, show: Callable[[Any], None]) -> None:
    start_s = before_s = time.monotonic()
    sent = 0
    while True:
        await asyncio.sleep(_REPORT_S)
        show(_figures(tally, plan, before_s, sent) | {"seconds": _since(start_s)})
        before_s, sent = time.monotonic(), tally.sent


def _figures(tally: Tally, plan: Plan, since_s: float, sent: int) -> dict[str, Any]:
    seconds = max(time.monotonic() - since_s, 1e-9)
    rate = round((tally.sent - sent) / seconds, 1)
    return {"seconds": _since(since_s), "robots": plan.robots, "rate": rate} | asdict(tally)


def _since(start_s: float) -> float:
    return round(time.monotonic() - start_s, 1)


def _print(figures: dict[str, Any]) -> None:
    line = (
        "{seconds:>6.0f} s  {online}/{robots} online  {rate} msg/s  {sent} sent  "
        "{acknowledged} of {certain} acknowledged  {commands} commands"
    ).format(**figures)
    say(line + (f"  trouble: {figures['trouble']}" if figures["trouble"] else ""))
