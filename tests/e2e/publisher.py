"""A robot that counts its PUBACKs: paho, an independent implementation."""

import itertools
import json
import threading
import time
from collections import deque
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion


class Publisher:
    """Publish sensor readings with QoS 1 at a rate, through crashes of the other side.

    ``acknowledged`` holds the seq of every reading whose PUBACK came.
    """

    def __init__(
        self,
        port: int,
        *,
        robot: str,
        protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv311,
        rate_hz: float = 500.0,
    ) -> None:
        self.acknowledged: set[int] = set()
        self.published = 0
        self.robot = robot
        self.failures: list[str] = []
        self._rate_hz = rate_hz
        self._sequence = itertools.count(1)
        self._by_mid: dict[int, int] = {}
        self._acks: deque[int] = deque()  # filled by paho's thread, which holds paho's locks
        self._stop = threading.Event()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"publisher-{robot}",
            protocol=protocol,
            clean_session=None if protocol == MQTTProtocolVersion.MQTTv5 else False,
        )
        self._client.max_inflight_messages_set(200)
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.on_publish = self._on_publish
        self._client.connect("127.0.0.1", port, keepalive=30)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._client.loop_start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()
        self._client.disconnect()
        self._client.loop_stop()

    def pause(self) -> None:
        """Publish no more; what is under way goes on."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def drained(self, timeout_s: float = 30) -> None:
        """Wait until everything published was acknowledged."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._reconcile()
            if len(self.acknowledged) == self.published:
                return
            time.sleep(0.02)
        raise AssertionError(f"{len(self.acknowledged)} of {self.published} were acknowledged")

    def _run(self) -> None:
        started, sent = time.monotonic(), 0
        while not self._stop.is_set():
            due = int((time.monotonic() - started) * self._rate_hz)
            while sent < due:
                self._publish(next(self._sequence))
                sent += 1
            self._reconcile()
            time.sleep(0.005)

    def _publish(self, seq: int) -> None:
        payload = json.dumps(reading(seq)).encode()
        info = self._client.publish(f"smartair/v1/home/{self.robot}/sensor", payload, qos=1)
        self._by_mid[info.mid] = seq
        self.published += 1

    def _reconcile(self) -> None:
        for _ in range(len(self._acks)):
            mid = self._acks.popleft()
            seq = self._by_mid.pop(mid, None)
            if seq is None:
                self._acks.append(mid)  # the PUBACK overtook publish()'s own return
            else:
                self.acknowledged.add(seq)

    def _on_publish(self, _client: Any, _userdata: Any, mid: int, code: Any, _props: Any) -> None:
        if getattr(code, "is_failure", False):
            self.failures.append(str(code))
        self._acks.append(mid)


def reading(seq: int, ts: int | None = None) -> dict[str, Any]:
    """Return a sensor payload as api.md has it."""
    return {
        "ts": time.time_ns() // 1_000_000 if ts is None else ts,
        "seq": seq,
        "pm25": 10 + seq % 20,
        "co2": 400 + seq % 600,
        "temp": 21.5,
        "rh": 40,
    }
