"""A fleet that counts its PUBACKs, and a browser that sees how late its poses come."""

import json
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

ROBOTS: Final = 200
RATE_HZ: Final = 400.0
KINDS: Final = ("pose", "sensor")
INFLIGHT: Final = 500
DRAIN_S: Final = 60.0


class Load:
    """Publish poses and readings with QoS 1 at a rate, whatever happens to the other side.

    Numbers rise over the whole fleet: ``robot_of`` and ``kind_of`` follow from one, and those of
    one robot and kind rise too. A connection that breaks is made again, and what had no PUBACK is
    sent again, in order. Used as a context manager; ``go`` and ``pause`` as often as wanted.
    """

    def __init__(self, port: int, *, prefix: str = "fleet") -> None:
        self.published = 0
        self.acked_at: dict[int, float] = {}  # monotonic; the ledger of this test
        self.sent_at: list[float] = [0.0]  # by number; they begin with 1
        self.failures: list[str] = []
        self._prefix = prefix
        self._lock = threading.Lock()  # a PUBACK may come before publish() has said its id
        self._by_mid: dict[int, int] = {}
        self._early: dict[int, float] = {}
        self._acks: deque[tuple[int, float]] = deque()  # paho's thread holds its locks: no more
        self._going = threading.Event()
        self._end = threading.Event()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"{prefix}-load", clean_session=False
        )
        self._client.max_inflight_messages_set(INFLIGHT)
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.on_publish = self._on_publish
        self._client.connect("127.0.0.1", port, keepalive=30)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._client.loop_start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._going.set()
        self._thread.join(timeout=10)
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def robots(self) -> list[str]:
        """Their ids."""
        return [f"{self._prefix}{n}" for n in range(ROBOTS)]

    def robot_of(self, number: int) -> str:
        """Who published ``number``."""
        return f"{self._prefix}{number // len(KINDS) % ROBOTS}"

    def kind_of(self, number: int) -> str:
        """What ``number`` is."""
        return KINDS[number % len(KINDS)]

    def acknowledged(self, kind: str = "", *, after: int = 0) -> set[int]:
        """Return the numbers above ``after`` whose PUBACK came, of one kind or of all."""
        self._reconcile()
        with self._lock:
            numbers = [n for n in self.acked_at if n > after]
        return {n for n in numbers if not kind or self.kind_of(n) == kind}

    def go(self) -> None:
        """Publish."""
        self._going.set()

    def pause(self) -> None:
        """Publish no more, and wait until all that was published is acknowledged."""
        self._going.clear()
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline:
            self._reconcile()
            with self._lock:
                if len(self.acked_at) == self.published:
                    assert not self.failures, self.failures[:3]
                    return
            time.sleep(0.02)
        raise AssertionError(f"{len(self.acked_at)} of {self.published} were acknowledged")

    def _run(self) -> None:
        while not self._end.is_set():
            self._going.wait()
            began, sent = time.monotonic(), 0
            while self._going.is_set() and not self._end.is_set():
                due = int((time.monotonic() - began) * RATE_HZ)
                for _ in range(sent, due):
                    self._publish()
                sent = max(sent, due)
                self._reconcile()
                time.sleep(0.004)

    def _publish(self) -> None:
        number = len(self.sent_at)
        kind = self.kind_of(number)
        payload = json.dumps(_body(kind, number)).encode()
        self.sent_at.append(time.monotonic())
        topic = f"smartair/v1/home/{self.robot_of(number)}/{kind}"
        info = self._client.publish(topic, payload, qos=1)
        with self._lock:
            self.published += 1
            early = self._early.pop(info.mid, None)
            if early is None:
                self._by_mid[info.mid] = number
            else:
                self.acked_at[number] = early

    def _reconcile(self) -> None:
        with self._lock:
            while self._acks:
                mid, at = self._acks.popleft()
                number = self._by_mid.pop(mid, None)
                if number is None:
                    self._early[mid] = at
                else:
                    self.acked_at[number] = at

    def _on_publish(self, _client: Any, _userdata: Any, mid: int, code: Any, _props: Any) -> None:
        if getattr(code, "is_failure", False):
            self.failures.append(str(code))
        self._acks.append((mid, time.monotonic()))


def _body(kind: str, number: int) -> dict[str, Any]:
    ts = time.time_ns() // 1_000_000
    if kind == "pose":
        return {"ts": ts, "seq": number, "map": "f1", "x": number % 50 / 10, "y": 1.0, "theta": 0}
    return {"ts": ts, "seq": number, "pm25": number % 40, "co2": 400 + number % 600, "temp": 21.5}


class Viewer:
    """A browser on the live map. ``seen``: (when it was published, how late it came), in s.

    A connection that breaks (the gateway was killed) is made again; a snapshot counts for nothing.
    """

    def __init__(self, load: Load, port: int) -> None:
        self.seen: deque[tuple[float, float]] = deque()
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
            if (seq := pose["seq"]) and seq < len(sent_at):
                self.seen.append((sent_at[seq], now - sent_at[seq]))


def percentile(values: Iterable[float], share: float) -> float:
    """Return the nearest-rank percentile, NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")
