"""Simulated robots on their MQTT connections: when they publish, and how they obey."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import aiomqtt

from gateway.cli.target import Plan, Target, tls_context
from gateway.core import simpayloads
from gateway.core.backoff import Backoff
from gateway.core.simair import SimAir
from gateway.core.simrobot import SimRobot

_SENSOR_S: Final = 3.0  # between two air readings
_STATE_S: Final = 10.0  # the retained state is said again at least so often
_LONGEST_STEP_S: Final = 2.0  # a robot does not jump after an outage
_GOODBYE_S: Final = 3.0  # what saying goodbye may take

_quiet = logging.getLogger("edge-gateway.simulate.mqtt")  # what it would say is in the tally
_quiet.setLevel(logging.CRITICAL)


@dataclass(slots=True)
class Tally:
    """What the fleet did so far. ``certain`` is what was sent with QoS 1 or 2."""

    sent: int = 0
    certain: int = 0
    acknowledged: int = 0
    commands: int = 0
    connects: int = 0
    online: int = 0  # robots whose connection stands
    trouble: str = ""  # why a connection does not


@dataclass(slots=True)
class _Unit:
    """One robot as the broker sees it."""

    id: str
    sim: SimRobot
    seq: int  # grows over restarts too: the gateway keeps one reading per robot and seq
    stepped_s: float = 0.0
    told: tuple[object, ...] = ()
    due_s: dict[str, float] = field(default_factory=dict)

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def is_due(self, what: str, now_s: float, every_s: float) -> bool:
        if now_s < self.due_s.get(what, 0.0):
            return False
        self.due_s[what] = now_s + every_s
        return True


class Fleet:
    """``plan.robots`` robots in one flat, spread over at most ``plan.connections`` connections.

    With as many connections as robots each has its own last will. On a shared connection MQTT has
    room for one will only: it is the first robot's. A message that was not acknowledged when its
    connection broke is not sent again; the tally shows it.
    """

    def __init__(self, target: Target, plan: Plan) -> None:
        self.tally = Tally()
        self._target = target
        self._plan = plan
        self._rng = Random(plan.seed)  # noqa: S311 - a simulation, no secret
        self._air = SimAir(Random(plan.seed))  # noqa: S311
        self._base = f"{target.prefix}/{target.site}"
        self._origin_s = time.monotonic()
        start_ms = _now_ms()
        self._units = [
            _Unit(f"sim-{n + 1:03d}", _robot(n, plan.seed), start_ms) for n in range(plan.robots)
        ]

    async def run(self, stop: asyncio.Event) -> None:
        """Drive until ``stop`` is set; every robot then says that it goes offline."""
        count = min(self._plan.connections, len(self._units))
        async with asyncio.TaskGroup() as group:
            for n in range(count):
                group.create_task(self._stay_connected(n, self._units[n::count], stop))

    async def _stay_connected(self, n: int, units: Sequence[_Unit], stop: asyncio.Event) -> None:
        backoff, attempt = Backoff(base_s=0.3, cap_s=5.0), 0
        while not stop.is_set():
            try:
                async with self._client(n, units[0]) as client:
                    self.tally.connects += 1
                    attempt = 0
                    await self._serve(client, units, stop)
            except* (aiomqtt.MqttError, OSError) as group:
                self.tally.trouble = _reason(group)
            if not stop.is_set():
                await _nap(backoff.delay_s(attempt, self._rng), stop)
                attempt += 1

    def _client(self, n: int, first: _Unit) -> aiomqtt.Client:
        target = self._target
        will = simpayloads.encode(simpayloads.connection("lost", _now_ms()))
        client = aiomqtt.Client(
            target.host,
            target.port,
            username=target.user or None,
            password=target.password or None,
            identifier=f"sim-{target.site[:32]}-{self._plan.seed}-{n}",
            will=aiomqtt.Will(f"{self._base}/{first.id}/connection", will, qos=1, retain=True),
            keepalive=15,
            timeout=10,
            logger=_quiet,
            tls_context=tls_context(target),
            max_inflight_messages=65_535,
        )
        client.pending_calls_threshold = 1_000_000
        return client

    async def _serve(
        self, client: aiomqtt.Client, units: Sequence[_Unit], stop: asyncio.Event
    ) -> None:
        online = simpayloads.connection("online", _now_ms())
        offline = simpayloads.connection("offline", _now_ms())
        up = 0
        try:
            for unit in units:
                await client.subscribe(f"{self._base}/{unit.id}/cmd", qos=1)
                await self._say(client, unit, "connection", online, retain=True)
                unit.due_s.clear()
                up += 1
                self.tally.online += 1
            self.tally.trouble = ""
            async with asyncio.TaskGroup() as group:
                obey = group.create_task(self._obey(client, units))
                async with asyncio.TaskGroup() as driving:
                    for unit in units:
                        driving.create_task(self._drive(client, unit, stop))
                obey.cancel()
            async with asyncio.timeout(_GOODBYE_S):
                for unit in units:
                    body = offline | {"ts": _now_ms()}
                    await self._say(client, unit, "connection", body, retain=True)
        finally:
            self.tally.online -= up

    async def _drive(self, client: aiomqtt.Client, unit: _Unit, stop: asyncio.Event) -> None:
        """Publish poses at the instants planned; when late, the missed ones are skipped."""
        period_s = 1.0 / self._plan.hz
        unit.stepped_s = self._now_s()
        next_s = unit.stepped_s + self._rng.uniform(0.0, period_s)
        while True:
            await _nap(next_s - self._now_s(), stop)
            if stop.is_set():
                return
            now_s = self._now_s()
            next_s += period_s * max(1.0, (now_s - next_s) // period_s + 1)
            await self._tell(client, unit, now_s)

    async def _tell(self, client: aiomqtt.Client, unit: _Unit, now_s: float) -> None:
        sim = unit.sim
        happened = sim.step(min(now_s - unit.stepped_s, _LONGEST_STEP_S))
        unit.stepped_s = now_s
        began = self._air.advance(now_s, ((u.sim.room, u.sim.fan) for u in self._units))
        pose = simpayloads.pose(sim, _now_ms(), unit.next_seq())
        await self._say(client, unit, "pose", pose, qos=self._plan.qos)
        told = (sim.state, sim.fan, sim.error)
        if unit.is_due("state", now_s, _STATE_S) or told != unit.told:
            unit.told = told
            await self._say(client, unit, "state", simpayloads.state(sim, _now_ms()), retain=True)
        if unit.is_due("sensor", now_s, _SENSOR_S):
            air = self._air.read(sim.room)
            reading = simpayloads.sensor(sim, air, _now_ms(), unit.next_seq())
            await self._say(client, unit, "sensor", reading)
        events = [simpayloads.event(sim, happening, _now_ms()) for happening in happened]
        events += [simpayloads.event(sim, source, _now_ms()) for source in began]
        for event in events:
            await self._say(client, unit, "event", event)

    async def _obey(self, client: aiomqtt.Client, units: Sequence[_Unit]) -> None:
        by_topic = {f"{self._base}/{unit.id}/cmd": unit for unit in units}
        async for message in client.messages:
            unit = by_topic.get(message.topic.value)
            if unit is None or not isinstance(message.payload, bytes):
                continue
            self.tally.commands += 1
            answer = simpayloads.obey(unit.sim, message.payload, _now_ms())
            if answer is not None:
                await self._say(client, unit, "cmd/ack", answer)

    async def _say(
        self,
        client: aiomqtt.Client,
        unit: _Unit,
        tail: str,
        body: dict[str, Any],
        *,
        qos: int = 1,
        retain: bool = False,
    ) -> None:
        topic, tally = f"{self._base}/{unit.id}/{tail}", self.tally
        tally.sent += 1
        tally.certain += qos > 0
        await client.publish(topic, simpayloads.encode(body), qos=qos, retain=retain)
        tally.acknowledged += qos > 0

    def _now_s(self) -> float:
        return time.monotonic() - self._origin_s


async def _nap(seconds: float, stop: asyncio.Event) -> None:
    """Sleep, but not longer than until ``stop`` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(seconds, 0.0)):
            await stop.wait()


def _robot(number: int, seed: int) -> SimRobot:
    return SimRobot(number, Random(seed * 100_003 + number))  # noqa: S311


def _reason(group: BaseExceptionGroup[Exception]) -> str:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first) or type(first).__name__


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
