"""Several gateways that share Kafka and Redis, what they are fed, and who looks at them."""

import itertools
import json
import select
import struct
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import redis

from bench.packets import dial, puback
from bench.packets import publish as packet
from bench.ws_client import Closed, Reader
from gateway.core.shared import decode
from tests.e2e.process import GatewayProcess

TREE: Final = "smartair/v1/home"
PATIENCE_S: Final = 60.0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def until(what: str, holds: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    """Wait until ``holds()`` is true, and return what it returned."""
    deadline = time.monotonic() + timeout_s
    while not (found := holds()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.03)
    return found


def note(text: str) -> None:
    """Say a figure: pytest shows it with -s."""
    sys.stdout.write(f"\n{text}\n")


class Box(GatewayProcess):
    """A gateway among several."""

    def __init__(self, folder: Path, name: str, *sets: str) -> None:
        directory = folder / name
        directory.mkdir()
        super().__init__(directory, f"site.box={name}", *sets)
        self.name = name

    def poses(self) -> dict[str, dict[str, Any]]:
        return {pose["id"]: pose for pose in self.get("/api/coordinates")["poses"]}

    def seqs(self) -> dict[str, int]:
        """Return the seq of every robot's pose."""
        return {robot: pose["seq"] for robot, pose in self.poses().items()}

    def lines(self, hop: str) -> dict[str, dict[str, Any]]:
        """Return the ledger's lines of a hop by kind."""
        found = self.get("/api/admin/ledger")["hops"]
        return {line["kind"]: line for line in found if line["hop"] == hop}

    def taken(self, kind: str) -> int:
        """Return how many messages devices were told to be safe."""
        count: int = self.lines("mqtt")[kind]["delivered"]
        return count

    def ready(self) -> None:
        """Wait until it is green: member of the group, canaries home."""
        self.until("green", "/readyz", lambda answer: answer["ready"], PATIENCE_S)

    def balanced(self) -> None:
        """Wait until nothing is pending, and see that nothing is unaccounted for."""
        ledger = self.settled(PATIENCE_S)
        off = [line for line in ledger["hops"] if line["unaccounted"]]
        assert ledger["unaccounted"] == 0, (self.name, off)


def until_all(boxes: Iterable[Box], what: str, holds: Callable[[Box], Any]) -> None:
    """Wait until ``holds`` of every box."""
    for box in boxes:
        until(f"{what}, on {box.name}", partial(holds, box))


class Shared:
    """What boxes have in common: topics, keys and their names are this one's alone."""

    def __init__(self, servers: str = "", redis_url: str = "", *sets: str) -> None:
        self.prefix = f"boxes{uuid.uuid4().hex[:12]}"
        self.servers = servers
        self.redis_url = redis_url
        self.sets = [*sets, "state.backend=redis", f"state.url={redis_url}"]
        self.sets.append(f"state.prefix={self.prefix}")
        if servers:
            self.sets += ["stream.backend=kafka", f"stream.servers={servers}"]
            self.sets.append(f"stream.prefix={self.prefix}")

    def topic(self, kind: str) -> str:
        return f"{self.prefix}.{kind}"

    def newest(self, kind: str = "pose") -> dict[str, tuple[int, int, dict[str, Any]]]:
        """Return (ts, seq, payload) of every robot, as Redis has it."""
        found: dict[str, tuple[int, int, dict[str, Any]]] = {}
        with redis.Redis.from_url(self.redis_url) as client:
            head = f"{self.prefix}:newest:{kind}:"
            for key in client.scan_iter(match=f"{head}*", count=1_000):
                data = client.get(key)
                assert isinstance(data, bytes)
                ts, seq, _ = struct.unpack_from(">ddd", data)
                payload = msgspec.json.decode(decode(data[24:]).payload)
                found[key.decode().removeprefix(head)] = (int(ts), int(seq), payload)
        return found


class Device:
    """A robot, or several, on one connection: QoS 1, one message after the other."""

    def __init__(self, port: int, name: str) -> None:
        self._sock, _ = dial(port, name)
        self._sock.settimeout(PATIENCE_S)
        self._ids = itertools.cycle(range(1, 60_000))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def say(self, robot: str, kind: str, **body: Any) -> None:
        """Publish and wait for the PUBACK."""
        self.say_all([(robot, kind, body)])

    def say_all(self, messages: Iterable[tuple[str, str, dict[str, Any]]]) -> None:
        """Publish (robot, kind, body), then wait for all PUBACKs."""
        data = expected = b""
        for robot, kind, body in messages:
            id_ = next(self._ids)
            topic = f"{TREE}/{robot}/{kind}"
            data += packet(topic, json.dumps(body).encode(), qos=1, packet_id=id_)
            expected += puback(id_)
        self._sock.sendall(data)
        answer = b""
        while len(answer) < len(expected):
            part = self._sock.recv(len(expected) - len(answer))
            assert part, "the gateway closed the connection"
            answer += part
        assert answer == expected

    def pose(self, robot: str, seq: int, *, ts: int | None = None) -> None:
        self.say(robot, "pose", **_pose(seq, ts))

    def poses(self, robots: Iterable[str], seq: int) -> None:
        """Publish a pose of each, and wait for all PUBACKs."""
        self.say_all([(robot, "pose", _pose(seq)) for robot in robots])

    def event(self, robot: str, code: str) -> None:
        self.say(robot, "event", ts=now_ms(), code=code)


def _pose(seq: int, ts: int | None = None) -> dict[str, Any]:
    return {"ts": now_ms() if ts is None else ts, "seq": seq, "x": seq / 1000, "y": 0.0}


class Drive:
    """Robots that move for ever on a box, a pose of each in turn; ``seq``: all have so many."""

    def __init__(self, box: Box, robots: Sequence[str], *, every_s: float = 0.02) -> None:
        self.robots = robots
        self.seq = 0
        self._port = box.mqtt
        self._every_s = every_s
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)

    def stop(self) -> int:
        """Stop after a whole round; return how many there were."""
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert self._failure is None, self._failure
        return self.seq

    def _run(self) -> None:
        try:
            with Device(self._port, "drive") as device:
                while not self._stop.wait(self._every_s):
                    device.poses(self.robots, self.seq + 1)
                    self.seq += 1
        except (OSError, AssertionError) as error:
            self._failure = error


class Watcher:
    """A browser: everything that a WebSocket of a box brings, read by a thread."""

    def __init__(self, box: Box, path: str) -> None:
        self._reader = Reader(box.http, path)
        self._messages: list[dict[str, Any]] = []
        self._at: list[float] = []  # when they came
        self._newest: dict[str, int] = {}
        self.closed = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        self._reader.close()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._reader.sock, select.POLLIN)
        try:
            while not self._stop.is_set():
                came = list(map(json.loads, self._reader.read()))
                self._at += [time.monotonic()] * len(came)
                self._messages += came
                for message in came:
                    for pose in message.get("poses", ()):
                        self._newest[pose["id"]] = pose["seq"]
                poll.poll(100)
        except (Closed, OSError) as error:
            self.closed = str(error)

    def until(self, what: str, holds: Callable[["Watcher"], Any]) -> None:
        """Wait for what it shows."""
        until(f"{what}, in a browser; closed: {self.closed!r}", partial(holds, self))

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All that came so far."""
        return list(self._messages)

    def poses(self) -> list[dict[str, Any]]:
        """Every pose in the order in which it came, those of the snapshot first."""
        return [pose for message in self.messages for pose in message.get("poses", ())]

    def newest(self) -> dict[str, int]:
        """The seq that is shown of every robot."""
        return dict(self._newest)

    def pause_s(self, robot: str) -> float:
        """Return the longest time without a pose of ``robot`` between two that came."""
        came = [
            at
            for at, message in zip(self._at, self.messages, strict=False)
            if any(pose["id"] == robot for pose in message.get("poses", ()))
        ]
        return max((after - before for before, after in itertools.pairwise(came)), default=0.0)

    def codes(self) -> list[str]:
        """The codes of the events, in the order in which they came."""
        return [each["code"] for each in self.messages if each["type"] == "event"]

    def never_back(self) -> None:
        """See that no robot went back in time."""
        seen: dict[str, tuple[int, int]] = {}
        for pose in self.poses():
            now, before = (pose["ts"], pose["seq"]), seen.get(pose["id"], (0, 0))
            assert now >= before, (pose, before)
            seen[pose["id"]] = now
