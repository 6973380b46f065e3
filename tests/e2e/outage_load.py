"""A fleet that counts its PUBACKs, and a browser that sees how late its poses come."""

import json
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Self

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from bench import packets

ROBOTS: Final = 200
RATE_HZ: Final = 400.0
KINDS: Final = ("pose", "sensor")
INFLIGHT: Final = 500
TICK_S: Final = 0.003
SILENT_S: Final = 3.0  # a ping that is not answered for so long: another connection
RETRY_S: Final = 0.2
DRAIN_S: Final = 60.0


class Load:
    """Publish poses and readings with QoS 1 at a rate, whatever happens to the other side.

    Numbers rise over the whole fleet: ``robot_of`` and ``kind_of`` follow from one, and those of
    one robot and kind rise too. A connection that breaks or falls silent is made again, and what
    had no PUBACK is sent again, first and in order. Used as a context manager; ``go`` and ``pause``
    as often as wanted.
    """

    def __init__(self, port: int, *, prefix: str) -> None:
        self.acked_at: dict[int, float] = {}  # monotonic, by number
        self.sent_at: list[float] = [0.0]  # by number, when it was due; they begin with 1
        self._port = port
        self._prefix = prefix
        self._under_way: deque[tuple[int, bytes]] = deque()  # sent, the oldest first
        self._waiting: deque[tuple[int, bytes]] = deque()  # not sent yet on this connection
        self._due_at = 0.0
        self._going = threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(timeout=20)

    @property
    def published(self) -> int:
        """The newest number."""
        return len(self.sent_at) - 1

    def robot_of(self, number: int) -> str:
        """Who published ``number``."""
        return f"{self._prefix}{number // len(KINDS) % ROBOTS}"

    def count(self, kind: str, since: float, until: float) -> int:
        """Return how many of a kind were published in this time (monotonic)."""
        times = self.sent_at[1:]
        first = KINDS.index(kind) or len(KINDS)
        return sum(since <= at < until for at in times[first - 1 :: len(KINDS)])

    def kind_of(self, number: int) -> str:
        """What ``number`` is."""
        return KINDS[number % len(KINDS)]

    def acknowledged(self, kind: str = "", *, after: int = 0) -> set[int]:
        """Return the numbers above ``after`` whose PUBACK came, of one kind or of all."""
        numbers = range(after + 1, len(self.sent_at))
        acked = (n for n in numbers if n in self.acked_at)
        return {n for n in acked if not kind or self.kind_of(n) == kind}

    def go(self) -> None:
        """Publish."""
        self._going.set()

    def pause(self) -> None:
        """Publish no more, and wait until all that was published is acknowledged."""
        self._going.clear()
        deadline = time.monotonic() + DRAIN_S
        while len(self.acked_at) < self.published:
            still = f"{len(self.acked_at)} of {self.published} were acknowledged"
            assert time.monotonic() < deadline, still
            time.sleep(0.02)

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self._port), SILENT_S) as sock:
                    self._publish(sock)
            except OSError:  # refused, reset, silent for too long: an outage
                self._tick(time.monotonic())
                self._end.wait(RETRY_S)

    def _publish(self, sock: socket.socket) -> None:
        """Publish until the end, or until the connection is of no use any more (OSError)."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(SILENT_S)
        sock.sendall(packets.connect(f"{self._prefix}-load", keepalive_s=30))
        begun = sock.recv(4, socket.MSG_WAITALL)
        if begun != b"\x20\x02\x00\x00":
            raise ConnectionError(f"no good CONNACK: {begun!r}")
        self._waiting.extendleft(reversed(self._under_way))
        self._under_way.clear()
        begun, heard_at, pinged_at = b"", time.monotonic(), 0.0
        while not self._end.is_set():
            now = time.monotonic()
            self._tick(now)
            self._send(sock)
            if now - pinged_at > SILENT_S / 3:
                sock.sendall(b"\xc0\x00")
                pinged_at = now
            if select.select([sock], [], [], TICK_S)[0]:
                if not (data := sock.recv(65_536)):
                    raise ConnectionError("closed")
                heard_at = time.monotonic()
                begun = self._take(begun + data, heard_at)
            elif now - heard_at > SILENT_S:
                raise TimeoutError("silent")
        sock.sendall(b"\xe0\x00")

    def _tick(self, now: float) -> None:
        """Make the messages that are due."""
        if not self._going.is_set():
            self._due_at = now
            return
        while self._due_at <= now:
            self._due_at += 1 / RATE_HZ
            number = len(self.sent_at)
            kind = self.kind_of(number)
            topic = f"smartair/v1/home/{self.robot_of(number)}/{kind}"
            payload = json.dumps(_body(kind, number)).encode()
            packet_id = number % packets.MAX_ID + 1
            packet = packets.publish(topic, payload, qos=1, packet_id=packet_id)
            self._waiting.append((number, packet))
            self.sent_at.append(time.monotonic())

    def _send(self, sock: socket.socket) -> None:
        out: list[bytes] = []
        while self._waiting and len(self._under_way) < INFLIGHT:
            self._under_way.append(self._waiting.popleft())
            out.append(self._under_way[-1][1])
        if out:
            sock.sendall(b"".join(out))

    def _take(self, data: bytes, now: float) -> bytes:
        """Count the PUBACKs, which come in order (3.1.1, 4.6); return what is not whole yet."""
        while len(data) > 1 and len(data) >= 2 + data[1]:
            packet, data = data[: 2 + data[1]], data[2 + data[1] :]
            if packet[0] == 0x40:
                number, _ = self._under_way.popleft()
                assert packets.puback(number % packets.MAX_ID + 1) == packet, "acknowledged in turn"
                self.acked_at[number] = now
        return data


def _body(kind: str, number: int) -> dict[str, Any]:
    ts = time.time_ns() // 1_000_000
    if kind == "pose":
        return {"ts": ts, "seq": number, "map": "f1", "x": number % 50 / 10, "y": 1.0, "theta": 0}
    return {"ts": ts, "seq": number, "pm25": number % 40, "co2": 400 + number % 600, "temp": 21.5}


class Viewer:
    """A browser on the live map. ``seen``: (when it was published, how late it came), in s.

    A connection that breaks (the gateway was killed) is made again; a snapshot counts for nothing,
    nor does a pose that comes once more (it may, when the broker repeats it after an outage).
    """

    def __init__(self, load: Load, port: int) -> None:
        self.seen: deque[tuple[float, float]] = deque()
        self._numbers: set[int] = set()
        self._load = load
        self._url = f"ws://127.0.0.1:{port}/ws/coordinates"
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(timeout=20)

    def late_ms(self, since: float, until: float) -> list[float]:
        """Return, sorted, how late the poses were that were published in this time."""
        return sorted(late * 1000 for at, late in list(self.seen) if since <= at < until)

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                with connect(self._url, compression=None, max_size=None) as socket:
                    while not self._end.is_set():
                        try:
                            message = socket.recv(timeout=0.5)
                        except TimeoutError:
                            continue
                        self._take(json.loads(message), time.monotonic())
            except (WebSocketException, OSError):
                self._end.wait(0.1)

    def _take(self, message: Any, now: float) -> None:
        if message["type"] != "pose":
            return
        sent_at = self._load.sent_at
        for pose in message["poses"]:
            seq = pose["seq"]
            if seq < len(sent_at) and seq not in self._numbers:
                self._numbers.add(seq)
                self.seen.append((sent_at[seq], now - sent_at[seq]))


def percentile(values: Iterable[float], share: float) -> float:
    """Return the nearest-rank percentile, NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")
