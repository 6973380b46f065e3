"""Publish poses on a timetable and watch them arrive at WebSocket readers: latency, honestly.

An open loop: message ``i`` is due at ``start + i / rate`` whatever the server does, and its latency
counts from then, not from the moment at which it could be sent. If the server freezes, every
message that was due meanwhile is late, as it is for the robots. No PUBACK is waited for.

Every pose carries its number as ``seq``, so what arrives is matched with when it was due. A pose
that did not arrive because a newer one of the same robot took its place is *conflated*; a robot
whose newest pose never arrived is *missing*, which is a failure.

Prints one JSON object, see Outcome.
"""

import argparse
import gc
import json
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Final

from bench.machine import raise_file_limit
from bench.packets import Refused, build, dial
from bench.payloads import FIRST_SEQ
from bench.percentiles import summary_ms
from bench.ws_client import Reader, understand

SLOW_EVERY_S: Final = 0.1  # the slow reader reads ten times a second
SWEEP_S: Final = 0.02  # counting only: all readers are read so often, many frames in one call


@dataclass
class Outcome:
    """What one run saw. Times in ms, of the first reader unless there are several: then of all."""

    sent: int = 0
    delivered: int = 0  # poses that reached the first reader
    conflated: int = 0
    missing: int = 0  # robots whose newest pose did not arrive
    disordered: int = 0  # frames whose offset fell, poses older than the one before
    frames: int = 0  # of all readers, while the clock ran
    poses: int = 0  # in those frames
    seconds: float = 0.0  # of the clock
    latency: dict[str, float] = field(default_factory=dict)
    lateness: dict[str, float] = field(default_factory=dict)  # of the generator itself
    slow_age: dict[str, float] = field(default_factory=dict)  # newest pose the slow reader has
    slow_messages: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. ``warm_s`` runs before the clock and is not counted."""

    mqtt: int
    http: int
    rate: float
    robots: int
    seconds: float
    warm_s: float = 1.0
    path: str = "/ws/coordinates"
    readers: int = 1
    slow_bytes_s: int = 0  # one reader more, which reads so much
    connections: int = 0  # 0: one per robot
    settle_s: float = 5.0  # after the last message, at most
    latency: bool = True  # False: count only, for loads beyond what can be delivered


class OpenLoop:
    """One run; ``run`` blocks until it is over."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._poll = select.epoll()  # made first: select() takes only descriptors below 1024
        self._total = round((plan.warm_s + plan.seconds) * plan.rate)
        self._counted = round(plan.warm_s * plan.rate)  # the first message that counts
        self._run = build(range(plan.robots), self._total, qos=1)
        connections = plan.connections or plan.robots
        self._devices: list[socket.socket] = []
        for number in range(connections):
            sock, _ = dial(plan.mqtt, f"bench-{number}")
            sock.settimeout(0)
            self._devices.append(sock)
        self._unsent: dict[int, bytearray] = {}  # by index: the kernel did not take it yet
        self._readers = self._open_readers()
        self._slow = Reader(plan.http, plan.path, receive_buffer=1) if plan.slow_bytes_s else None
        self._offsets = [-1] * plan.readers
        self._newest = [-1] * plan.robots  # of the first reader
        self._arrived = bytearray(self._total)
        self._latencies: list[float] = []
        self._late: list[float] = []
        self._ages: list[float] = []
        self._slow_newest = -1
        self._slow_due = 0.0
        self._sweep_due = 0.0
        self._started = 0.0
        self._out = Outcome()
        self._by_fd: dict[int, int] = {}

    def _open_readers(self) -> list[Reader]:
        """Open them; those that are open answer pings meanwhile, as a browser would."""
        readers: list[Reader] = []
        read_at = time.monotonic()
        for _ in range(self._plan.readers):
            readers.append(Reader(self._plan.http, self._plan.path))
            if time.monotonic() - read_at > SWEEP_S:
                for reader in readers:
                    reader.read()
                read_at = time.monotonic()
        return readers

    def run(self) -> Outcome:
        """Do what the plan says."""
        plan = self._plan
        for index, sock in enumerate(self._devices):
            self._by_fd[sock.fileno()] = -1 - index
            self._poll.register(sock, select.EPOLLIN)
        for index, reader in enumerate(self._readers):
            self._by_fd[reader.sock.fileno()] = index
            if plan.latency:
                self._poll.register(reader.sock, select.EPOLLIN)
        gc.collect()
        gc.disable()
        try:
            self._started = time.monotonic() + 0.05
            self._slow_due = self._sweep_due = self._started
            self._publish()
            last_due = self._due(self._total)
            self._settle(last_due + plan.settle_s)
        finally:
            gc.enable()
        return self._report()

    def _due(self, number: int) -> float:
        return self._started + number / self._plan.rate

    def _publish(self) -> None:
        total, size, view = self._total, self._run.size, memoryview(self._run.data)
        devices, robots, late = self._devices, self._plan.robots, self._late
        nxt = 0
        while nxt < total:
            now = time.monotonic()
            due = self._due(nxt)
            if now < due:
                self._wait(due - now)
                continue
            while nxt < total and (due := self._due(nxt)) <= now:
                late.append(now - due)
                self._send(nxt % robots % len(devices), view[nxt * size : (nxt + 1) * size])
                nxt += 1
            self._wait(0.0)
        self._out.sent = total - self._counted

    def _send(self, index: int, packet: memoryview) -> None:
        waiting = self._unsent.get(index)
        if waiting is not None:
            waiting += packet
            return
        sock = self._devices[index]
        try:
            done = sock.send(packet)
        except BlockingIOError:
            done = 0
        if done < len(packet):
            self._unsent[index] = bytearray(packet[done:])
            self._poll.modify(sock, select.EPOLLIN | select.EPOLLOUT)

    def _flush(self, index: int) -> None:
        waiting, sock = self._unsent.get(index), self._devices[index]
        if waiting is None:
            return
        del waiting[: sock.send(waiting)]
        if not waiting:
            del self._unsent[index]
            self._poll.modify(sock, select.EPOLLIN)

    def _wait(self, seconds: float) -> None:
        """Handle what is ready, at most ``seconds`` later (epoll itself knows only ms)."""
        if self._slow is not None:
            self._read_slowly()
            seconds = min(seconds, SLOW_EVERY_S)
        if not self._plan.latency and time.monotonic() >= self._sweep_due:
            self._sweep_due = time.monotonic() + SWEEP_S
            for index in range(len(self._readers)):
                self._receive(index)
        if seconds > 0:
            select.select([self._poll], [], [], seconds)
        for fd, event in self._poll.poll(0):
            index = self._by_fd[fd]
            if index >= 0:
                self._receive(index)
                continue
            if event & select.EPOLLOUT:
                self._flush(-1 - index)
            if event & select.EPOLLIN and not self._devices[-1 - index].recv(65_536):
                raise Refused(f"the server closed publisher {-1 - index}")

    def _receive(self, index: int) -> None:
        messages = self._readers[index].read()
        now = time.monotonic()
        running = now >= self._due(self._counted) and now < self._due(self._total)
        for payload in messages:
            seen = understand(payload)
            if seen.kind != "pose":
                continue
            if 0 <= seen.offset < self._offsets[index]:  # part of a lap may repeat the offset
                self._out.disordered += 1
            self._offsets[index] = seen.offset
            if running:
                self._out.frames += 1
                self._out.poses += len(seen.seqs)
            if index == 0:
                self._first(seen.seqs)
            if self._plan.latency:
                for seq in seen.seqs:
                    if seq - FIRST_SEQ >= self._counted:
                        self._latencies.append(now - self._due(seq - FIRST_SEQ))

    def _first(self, seqs: tuple[int, ...]) -> None:
        for seq in seqs:
            number = seq - FIRST_SEQ
            robot = number % self._plan.robots
            if number <= self._newest[robot]:
                self._out.disordered += 1
            self._newest[robot] = number
            self._arrived[number] = 1

    def _read_slowly(self) -> None:
        now = time.monotonic()
        if self._slow is None or now < self._slow_due:
            return
        self._slow_due += SLOW_EVERY_S
        for payload in self._slow.read(round(self._plan.slow_bytes_s * SLOW_EVERY_S)):
            seen = understand(payload)
            if seen.kind == "pose" and seen.seqs:
                self._slow_newest = seen.seqs[-1] - FIRST_SEQ
                self._out.slow_messages += 1
        if self._due(self._counted) <= now < self._due(self._total):
            self._ages.append(now - self._due(self._slow_newest))

    def _settle(self, deadline: float) -> None:
        """Wait until the newest pose of every robot arrived at the first reader."""
        wanted = range(max(0, self._total - self._plan.robots), self._total)
        while time.monotonic() < deadline:
            if not self._unsent and all(self._arrived[number] for number in wanted):
                break
            self._wait(0.01)
        self._out.missing = sum(not self._arrived[number] for number in wanted)

    def _report(self) -> Outcome:
        out = self._out
        out.seconds = self._plan.seconds
        out.delivered = sum(self._arrived[self._counted :])
        out.conflated = out.sent - out.delivered - out.missing
        out.latency = summary_ms(self._latencies)
        out.lateness = summary_ms(self._late[self._counted :])
        out.slow_age = summary_ms(self._ages)
        for sock in self._devices:
            sock.close()
        for reader in self._readers:
            reader.close()
        if self._slow is not None:
            self._slow.close()
        self._poll.close()
        return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mqtt", type=int, required=True, help="port")
    parser.add_argument("--http", type=int, required=True, help="port")
    parser.add_argument("--rate", type=float, required=True, help="messages a second, in all")
    parser.add_argument("--robots", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm-s", type=float, default=1.0)
    parser.add_argument("--path", default="/ws/coordinates")
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--slow-bytes-s", type=int, default=0)
    parser.add_argument("--connections", type=int, default=0)
    parser.add_argument("--settle-s", type=float, default=5.0)
    parser.add_argument("--count-only", dest="latency", action="store_false")
    raise_file_limit()
    plan = Plan(**vars(parser.parse_args()))
    json.dump(asdict(OpenLoop(plan).run()), sys.stdout)


if __name__ == "__main__":
    main()
