"""``edge-gateway watch``: the robots as the gateway's own WebSocket shows them."""

import asyncio
import math
import os
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import aiohttp
import uvloop
from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.aio.supervisor import Supervisor
from gateway.cli.options import complain, write_json
from gateway.cli.target import gateway_url
from gateway.config.model import Config
from gateway.core.backoff import Backoff

_REFRESH_S: Final = 0.25
_AIR_S: Final = 2.0  # between two looks at the newest air readings
_RATE_S: Final = 5.0  # poses per second are averaged over this
_OLD_MS: Final = 5_000  # a pose older than this is shown dim
_PING_S: Final = 20.0
_ARROWS: Final = "→↗↑↖←↙↓↘"
_STYLES: Final = {"cleaning": "green", "error": "red", "returning": "yellow", "docked": "blue"}


@dataclass(slots=True)
class _View:
    """What is known now; ``trouble`` is why nothing new comes."""

    url: str
    trouble: str = "connecting"
    since_s: float = field(default_factory=time.monotonic)
    poses: dict[str, dict[str, Any]] = field(default_factory=dict)
    air: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen_s: dict[str, deque[float]] = field(default_factory=dict)

    def take(self, pose: dict[str, Any]) -> None:
        robot, now_s = str(pose["id"]), time.monotonic()
        self.poses[robot] = pose
        seen = self.seen_s.setdefault(robot, deque(maxlen=10_000))
        seen.append(now_s)

    def rate(self, robot: str) -> float:
        seen, now_s = self.seen_s.get(robot, deque()), time.monotonic()
        while seen and seen[0] < now_s - _RATE_S:
            seen.popleft()
        return len(seen) / min(_RATE_S, max(now_s - self.since_s, 1.0))


def watch(config: Config, url: str, *, as_json: bool) -> int:
    """Show the robots until a signal; reconnect for ever."""
    view = _View(gateway_url(config, url))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signal(view, as_json=as_json))
    return os.EX_OK


async def _until_signal(view: _View, *, as_json: bool) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
    async with aiohttp.ClientSession(timeout=timeout) as session, Supervisor() as tasks:
        if as_json:
            tasks.spawn("poses", lambda: _poses(session, view, write_json))
            await stop.wait()
            return
        tasks.spawn("poses", lambda: _poses(session, view, None))
        tasks.spawn("air", lambda: _again(lambda: _air(session, view), view))
        with Live(console=Console(), auto_refresh=False, screen=False) as live:
            tasks.spawn("table", lambda: _draw(live, view))
            await stop.wait()


async def _poses(
    session: aiohttp.ClientSession, view: _View, show: Callable[[Any], None] | None
) -> None:
    async def follow() -> None:
        async with session.ws_connect(f"{view.url}/ws/coordinates", heartbeat=_PING_S) as socket:
            view.trouble = ""
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    continue
                frame = message.json()
                if frame.get("type") in ("snapshot", "pose"):
                    for pose in frame["poses"]:
                        view.take(pose)
                        if show is not None:
                            show(pose)
            view.trouble = f"closed by the gateway: {socket.close_code}"

    await _again(follow, view, loud=show is not None)


async def _again(once: Callable[[], Awaitable[None]], view: _View, *, loud: bool = False) -> None:
    """Do ``once`` again and again: at once while it works, with a growing pause while not."""
    backoff, rng, attempt = Backoff(base_s=0.5, cap_s=5.0), Random(), 0  # noqa: S311
    while True:
        start_s = time.monotonic()
        try:
            await once()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            view.trouble = str(exc) or type(exc).__name__
        attempt = 0 if time.monotonic() - start_s > backoff.cap_s else attempt + 1
        if loud and view.trouble:
            complain(f"{view.url}: {view.trouble}; trying again")
        await asyncio.sleep(backoff.delay_s(attempt, rng))


async def _air(session: aiohttp.ClientSession, view: _View) -> None:
    while True:
        async with session.get(f"{view.url}/api/sensor-data/latest") as answer:
            answer.raise_for_status()
            for reading in (await answer.json())["items"]:
                view.air[reading["robotId"]] = reading
        await asyncio.sleep(_AIR_S)


async def _draw(live: Live, view: _View) -> None:
    while True:
        live.update(table(view.poses, view.air, view.rate, _title(view)), refresh=True)
        await asyncio.sleep(_REFRESH_S)


def _title(view: _View) -> str:
    rate = sum(map(view.rate, view.poses))
    trouble = f"  {view.trouble}" if view.trouble else ""
    return f"{view.url}  {len(view.poses)} robots  {rate:.1f} poses/s{trouble}"


def table(
    poses: dict[str, dict[str, Any]],
    air: dict[str, dict[str, Any]],
    rate: Callable[[str], float],
    title: str,
) -> Table:
    """Return the robots as a table, one line each, in the order of their ids."""
    shown = Table(box=SIMPLE, title=Text(title), title_justify="left", pad_edge=False)
    for name in ("robot", "state"):
        shown.add_column(name)
    for name in ("battery %", "x m", "y m", "", "age s", "Hz", "PM2.5 µg/m³", "CO₂ ppm"):
        shown.add_column(name, justify="right")
    now_ms = time.time_ns() // 1_000_000
    for robot in sorted(poses):
        pose, reading = poses[robot], air.get(robot, {})
        age_ms = now_ms - int(pose.get("rts") or now_ms)
        state = str(pose.get("state") or "–")
        shown.add_row(
            Text(robot),
            Text(state, style=_STYLES.get(state, "")),
            _number(pose.get("battery"), 0),
            _number(pose.get("x"), 2),
            _number(pose.get("y"), 2),
            arrow(float(pose.get("theta") or 0.0)),
            f"{age_ms / 1000:.1f}",
            f"{rate(robot):.1f}",
            _number(reading.get("pm25"), 1),
            _number(reading.get("co2"), 0),
            style="dim" if age_ms > _OLD_MS else "",
        )
    return shown


def arrow(theta: float) -> str:
    """Return the arrow nearest to a heading in radians, counter-clockwise from the right."""
    return _ARROWS[round(theta / (math.pi / 4)) % 8]


def _number(value: object, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, (int, float)) else "–"
