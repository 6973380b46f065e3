"""The robots of a selftest: what they publish, what was acknowledged, and when it was seen.

Open loop: every message has the instant at which it is due, whatever happened to those before it,
and its latency counts from there. What is not acknowledged is kept and sent again, in its order.
"""

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

import aiomqtt

from gateway.cli.target import Target, tls_context
from gateway.core.backoff import Backoff
from gateway.core.kinds import LABEL, Kind

_WINDOW: Final = 500  # messages of a robot under way at once
_ACK_S: Final = 30.0  # a connection without an acknowledgement for so long is given up
_CONNECT_S: Final = 2.0  # aiomqtt does not notice a connection that ends before its CONNACK
_TICK_S: Final = 0.002  # at least between two looks at what is due

_quiet = logging.getLogger("edge-gateway.selftest.mqtt")  # what it would say is in ``trouble``
_quiet.setLevel(logging.CRITICAL)


@dataclass(slots=True)
class Sent:
    """One message. Times are of the monotonic clock, in seconds; 0: not yet."""

    kind: Kind
    seq: int
    due_s: float
    payload: bytes
    acked_s: float = 0.0
    seen_s: float = 0.0  # when a WebSocket reader knew this pose or a newer one


@dataclass(slots=True)
class Robot:
    """One synthetic robot: ``sent[n]`` has seq n + 1; odd numbers are poses, even ones readings."""

    id: str
    sent: list[Sent] = field(default_factory=list)
    done: int = 0  # acknowledged from the start without a gap
    fresh: asyncio.Event = field(default_factory=asyncio.Event)
    looked: int = 0  # messages from the start whose fate on the WebSocket is known
    connected: bool = False

    def saw(self, seq: int, now_s: float) -> None:
        """Note that a reader got the pose ``seq``: it knows that one, and needs none before it."""
        while self.looked < min(seq, len(self.sent)):
            self.sent[self.looked].seen_s = now_s
            self.looked += 1

    @property
    def unacknowledged(self) -> int:
        """How many messages wait for their PUBACK, or for a connection."""
        while self.done < len(self.sent) and self.sent[self.done].acked_s:
            self.done += 1
        return sum(not one.acked_s for one in self.sent[self.done :])

    def acknowledged(self, kind: Kind) -> list[int]:
        """Return the seq of every message of ``kind`` that must not be lost."""
        return [one.seq for one in self.sent if one.kind is kind and one.acked_s]

    def last(self, kind: Kind) -> int:
        """Return the seq of the newest message of ``kind``, 0 if there is none."""
        return next((one.seq for one in reversed(self.sent) if one.kind is kind), 0)


class Load:
    """``rate`` messages per second, by turns of the robots ``names``, until ``over``."""

    def __init__(self, target: Target, names: Sequence[str], rate: float) -> None:
        self.robots = [Robot(name) for name in names]
        self.over = False
        self.reconnects = 0
        self.trouble = ""  # why a connection does not stand
        self._target = target
        self._rate = rate
        self._rng = Random()  # noqa: S311 - jitter, not a secret

    @property
    def published(self) -> int:
        """How many messages were due so far."""
        return sum(len(robot.sent) for robot in self.robots)

    @property
    def unacknowledged(self) -> int:
        """How many messages are not safe yet."""
        return sum(robot.unacknowledged for robot in self.robots)

    @property
    def behind_s(self) -> float:
        """For how long the oldest pose that no reader knows is due; 0: they know all."""
        now_s, oldest_s = time.monotonic(), float("inf")
        for robot in self.robots:
            for one in robot.sent[robot.looked : robot.looked + 2]:
                if one.kind is Kind.POSE:
                    oldest_s = min(oldest_s, one.due_s)
        return max(0.0, now_s - oldest_s)

    @property
    def connected(self) -> bool:
        """Whether every robot's connection stands."""
        return all(robot.connected for robot in self.robots)

    async def drive(self) -> None:
        """Make messages at their instants, for ever, but none once ``over`` is set."""
        start_s, start_ms = time.monotonic(), time.time_ns() / 1e6
        made = 0
        while True:
            due_s = made / self._rate
            while due_s <= time.monotonic() - start_s and not self.over:
                _add(
                    self.robots[made % len(self.robots)],
                    start_s + due_s,
                    int(start_ms + due_s * 1000),
                )
                made += 1
                due_s = made / self._rate
            await asyncio.sleep(max(_TICK_S, start_s + due_s - time.monotonic()))

    async def stay_connected(self, robot: Robot) -> None:
        """Send what ``robot`` has to say, for ever."""
        backoff, attempt = Backoff(base_s=0.2, cap_s=1.0), 0
        while True:
            try:
                async with self._client(robot) as client:
                    robot.connected = True
                    attempt = 0
                    await self._send(client, robot)
            except* (aiomqtt.MqttError, OSError) as group:
                self.trouble = _reason(group)
            if robot.connected:
                self.reconnects += 1
                robot.connected = False
            await asyncio.sleep(backoff.delay_s(attempt, self._rng))
            attempt += 1

    def _client(self, robot: Robot) -> aiomqtt.Client:
        target = self._target
        client = aiomqtt.Client(
            target.host,
            target.port,
            username=target.user or None,
            password=target.password or None,
            identifier=robot.id,
            keepalive=10,
            timeout=_CONNECT_S,
            logger=_quiet,
            tls_context=tls_context(target),
            max_inflight_messages=_WINDOW,
        )
        client.pending_calls_threshold = _WINDOW + 1
        return client

    async def _send(self, client: aiomqtt.Client, robot: Robot) -> None:
        """Send all that is not acknowledged, oldest first, until the connection ends."""
        room = asyncio.Semaphore(_WINDOW)
        async with asyncio.TaskGroup() as group:
            group.create_task(_listen(client))
            for one in robot.sent[robot.done :]:
                if not one.acked_s:
                    await room.acquire()
                    group.create_task(self._publish(client, robot, one, room))
            place = len(robot.sent)
            while True:
                while place < len(robot.sent):
                    await room.acquire()
                    group.create_task(self._publish(client, robot, robot.sent[place], room))
                    place += 1
                robot.fresh.clear()
                await robot.fresh.wait()

    async def _publish(
        self, client: aiomqtt.Client, robot: Robot, one: Sent, room: asyncio.Semaphore
    ) -> None:
        target = self._target
        topic = f"{target.prefix}/{target.site}/{robot.id}/{LABEL[one.kind]}"
        await client.publish(topic, one.payload, qos=1, timeout=_ACK_S)
        one.acked_s = time.monotonic()
        room.release()


def _add(robot: Robot, due_s: float, ts: int) -> None:
    seq = len(robot.sent) + 1
    body: dict[str, object] = {"ts": ts, "seq": seq}
    if seq % 2:
        kind = Kind.POSE
        body |= {"map": "selftest", "x": seq % 100 / 10, "y": 0.0, "theta": 0.0}
    else:
        kind = Kind.SENSOR
        body |= {"pm25": seq % 500 / 10, "co2": 400 + seq % 1_000}
    robot.sent.append(Sent(kind, seq, due_s, json.dumps(body, separators=(",", ":")).encode()))
    robot.fresh.set()


async def _listen(client: aiomqtt.Client) -> None:
    """Hear nothing; raise as soon as the connection ends, which ``publish`` does not."""
    async for _ in client.messages:
        continue


def _reason(group: BaseExceptionGroup[Exception]) -> str:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first) or type(first).__name__
