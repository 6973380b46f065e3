"""Publish a given number of messages as fast as the server acknowledges them; a throughput load.

A closed loop: every connection keeps ``--inflight`` messages under way. So it says how much a
server takes, and nothing about latency: for that there is bench.open_loop. Packets are built
before the clock starts. PUBACKs are checked: their order, and that none is missing.

Prints one JSON object: messages, seconds (first byte sent to last PUBACK), acknowledged,
firstAt (CLOCK_MONOTONIC).
"""

import argparse
import gc
import json
import select
import socket
import time
from typing import Final

from bench.packets import Refused, Run, build, dial, publish
from bench.payloads import FIRST_SEQ, pose, topic

CHUNK: Final = 262_144  # bytes for one send: larger ones only fill the kernel's buffers
STALL_S: Final = 20.0  # no PUBACK for so long is a failure


class Connection:
    """One publisher: what it sent, what came back."""

    def __init__(self, port: int, name: str, run: Run, *, window: int, version: int) -> None:
        self.sock, allowed = dial(port, name, version=version)
        self.sock.settimeout(0)
        self.run = run
        self.acked = 0  # bytes of run.acks that came
        self._window = min(window, allowed)
        self._sent = 0  # bytes of run.data
        self._view = memoryview(run.data)
        self._rest = b""  # of a PUBACK cut in two (MQTT 5)
        self._version = version
        self.slide()

    def slide(self) -> None:
        """Allow as many more bytes as PUBACKs came."""
        done = self.acked // 4
        free = done + self._window
        if free >= self.run.count or len(self.run.acks) == 4:
            self.limit = len(self.run.data)
        else:
            self.limit = free * self.run.size

    def write(self) -> bool:
        """Send what the window allows; return whether the kernel took all of it."""
        while self._sent < self.limit:
            end = min(self.limit, self._sent + CHUNK)
            try:
                self._sent += self.sock.send(self._view[self._sent : end])
            except BlockingIOError:
                return False
        return True

    def read(self) -> bool:
        """Take PUBACKs; return whether that was the last one."""
        data = self.sock.recv(CHUNK)
        if not data:
            raise Refused(f"closed by the server after {self.acked // 4} PUBACKs")
        if self._version == 5:
            data = self._shorten(self._rest + data)
        expected = self.run.acks[self.acked : self.acked + len(data)]
        if data != expected:
            raise Refused(f"PUBACKs out of order after {self.acked // 4}: {data[:12].hex()}")
        self.acked += len(data)
        self.slide()
        return self.acked == len(self.run.acks)

    def _shorten(self, data: bytes) -> bytes:
        """Cut reason codes and properties off MQTT 5 PUBACKs. 3.4."""
        out, at = bytearray(), 0
        while at + 2 <= len(data) and at + 2 + data[at + 1] <= len(data):
            if data[at + 1] > 2 and data[at + 4] >= 0x80:
                raise Refused(f"PUBACK with reason code {data[at + 4]:#x}")
            out += bytes((data[at], 2)) + data[at + 2 : at + 4]
            at += 2 + data[at + 1]
        self._rest = data[at:]
        return bytes(out)


def drive(connections: list[Connection]) -> tuple[float, float]:
    """Run until every PUBACK came; return the moments of the first byte and of the last PUBACK."""
    poll = select.epoll()
    by_fd = {c.sock.fileno(): c for c in connections}
    blocked: set[int] = set()
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    first = time.monotonic()
    for fd, connection in by_fd.items():
        _write(poll, fd, connection, blocked)
    left = len(connections)
    while left:
        events = poll.poll(STALL_S)
        if not events:
            raise Refused(f"no PUBACK in {STALL_S:.0f} s; {left} connections are not done")
        for fd, event in events:
            connection = by_fd[fd]
            if event & ~select.EPOLLOUT and connection.read():
                left -= 1
            _write(poll, fd, connection, blocked)
    return first, time.monotonic()


def _write(poll: select.epoll, fd: int, connection: Connection, blocked: set[int]) -> None:
    if connection.write():
        if fd in blocked:
            blocked.discard(fd)
            poll.modify(fd, select.EPOLLIN)
    elif fd not in blocked:
        blocked.add(fd)
        poll.modify(fd, select.EPOLLIN | select.EPOLLOUT)


def warm_up(port: int, messages: int) -> None:
    """Let the server meet every topic and grow its buffers before the clock starts."""
    sock, _ = dial(port, "bench-warm-up")
    with sock:
        sock.settimeout(STALL_S)
        now = time.time_ns() // 1_000_000
        for i in range(messages):
            sock.sendall(
                publish(topic(i % 200), pose(FIRST_SEQ + i, now), qos=1, packet_id=i % 60_000 + 1)
            )
            if i % 100 == 99:
                _acks(sock, 400)


def _acks(sock: socket.socket, count: int) -> None:
    while count > 0:
        data = sock.recv(count)
        if not data:
            raise Refused("closed by the server during the warm-up")
        count -= len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--inflight", type=int, default=8_000, help="messages per connection")
    parser.add_argument("--qos", type=int, choices=(0, 1), default=1)
    parser.add_argument("--count", type=int, default=100_000, help="messages in all")
    parser.add_argument("--robots", type=int, default=200, help="topics they are spread over")
    parser.add_argument("--version", type=int, choices=(4, 5), default=4, help="4 is MQTT 3.1.1")
    parser.add_argument("--kind", choices=("pose", "sensor"), default="pose")
    parser.add_argument("--warm-up", type=int, default=0, help="messages before, not counted")
    args = parser.parse_args()
    each = args.count // args.connections
    runs = [
        build(
            range(args.robots) if args.connections == 1 else range(n, n + 1),
            each,
            qos=args.qos,
            version=args.version,
            kind=args.kind,
            first=0 if args.connections == 1 else n * each,
        )
        for n in range(args.connections)
    ]
    if args.warm_up:
        warm_up(args.port, args.warm_up // 100 * 100)
    connections = [
        Connection(args.port, f"bench-{n}", run, window=args.inflight, version=args.version)
        for n, run in enumerate(runs)
    ]
    gc.collect()
    gc.disable()  # a pause of the generator is not one of the server
    first, last = drive(connections)
    trailing = args.connections if args.qos == 0 else 0
    print(
        json.dumps(
            {
                "messages": each * args.connections + trailing,
                "acknowledged": sum(c.acked // 4 for c in connections),
                "seconds": last - first,
                "firstAt": first,
            }
        )
    )


if __name__ == "__main__":
    main()
