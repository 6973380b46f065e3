"""The gateway as a selftest sees it: its WebSocket, /readyz, the ledger, history, the drill."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import aiohttp

from gateway.cli.selftest_load import Robot

_TIMEOUT_S: Final = 10.0
_HEALTH_S: Final = 0.2  # between two looks at /readyz
_LEDGER_S: Final = 0.5
_PING_S: Final = 20.0
_PAGE: Final = 10_000
_FAR_MS: Final = 4_102_444_800_000  # 2100

Failed = (aiohttp.ClientError, TimeoutError, OSError, ValueError)


class Refused(Exception):
    """The gateway does not do what it was asked for. ``status`` is HTTP's."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(slots=True)
class Balance:
    """The ledger of one moment. ``pending``: inside all hops; ``dropped``: by hop, kind, reason."""

    pending: int = 0
    unaccounted: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> "Balance":
        """Return what a selftest needs of GET /api/admin/ledger."""
        hops = report["hops"]
        return cls(
            sum(hop["pending"] for hop in hops),
            report["unaccounted"],
            {
                f"{hop['hop']}/{hop['kind']}/{reason}": count
                for hop in hops
                for reason, count in hop["dropped"].items()
            },
        )


@dataclass(slots=True)
class Health:
    """What /readyz says, and when each part was last seen well and ill (monotonic seconds)."""

    bad: frozenset[str] = frozenset()
    first_bad_s: dict[str, float] = field(default_factory=dict)
    last_bad_s: dict[str, float] = field(default_factory=dict)
    looks: int = 0

    def note(self, bad: frozenset[str], now_s: float) -> None:
        """Take one answer; ``bad`` are the parts that are not ok."""
        self.bad = bad
        self.looks += 1
        for part in bad:
            self.first_bad_s.setdefault(part, now_s)
            self.last_bad_s[part] = now_s

    def forget(self) -> frozenset[str]:
        """Begin again; return what is bad already."""
        self.first_bad_s.clear()
        self.last_bad_s.clear()
        return self.bad


class Gate:
    """HTTP and WebSocket of one gateway."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.url = url
        self.health = Health()
        self.balance = Balance()
        self.looks = 0  # at the ledger
        self.trouble = ""  # why the last question had no answer
        self.view_reconnects = 0
        self._session = session

    async def alive(self) -> bool:
        """Return whether a gateway answers there."""
        try:
            return bool((await self.ask("GET", "/livez")).get("ok"))
        except (*Failed, Refused) as exc:
            self.trouble = _said(exc)
            return False

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON of an answer; 503 of /readyz is one too.

        Raises:
            Refused: it answered with a failure.
        """
        async with (
            asyncio.timeout(_TIMEOUT_S),
            self._session.request(method, self.url + path, json=body) as answer,
        ):
            said = await answer.json(content_type=None)
            if answer.status >= HTTPStatus.BAD_REQUEST and path != "/readyz":
                detail = said.get("detail", "") if isinstance(said, dict) else ""
                raise Refused(answer.status, detail or f"{path} answers {answer.status}")
            return said

    async def watch_health(self) -> None:
        """Look at /readyz again and again; no answer is no news."""
        while True:
            try:
                parts = (await self.ask("GET", "/readyz"))["parts"]
                bad = frozenset(part["name"] for part in parts if not part["ok"])
                self.health.note(bad, time.monotonic())
            except Failed as exc:
                self.trouble = _said(exc)
            await asyncio.sleep(_HEALTH_S)

    async def watch_ledger(self) -> None:
        """Look at the ledger again and again."""
        while True:
            try:
                self.balance = await self.ledger()
                self.looks += 1
            except (*Failed, Refused) as exc:
                self.trouble = _said(exc)
            await asyncio.sleep(_LEDGER_S)

    async def ledger(self) -> Balance:
        """Return the balance of this moment."""
        return Balance.of(await self.ask("GET", "/api/admin/ledger"))

    async def watch_poses(self, robots: Mapping[str, Robot], ready: asyncio.Event) -> None:
        """Follow the robots on /ws/coordinates, for ever; ``ready`` is set at the first frame."""
        while True:
            try:
                await self._follow(robots, ready)
            except Failed as exc:
                self.trouble = _said(exc)
            self.view_reconnects += 1  # a reader comes again, as browsers do
            await asyncio.sleep(_HEALTH_S)

    async def _follow(self, robots: Mapping[str, Robot], ready: asyncio.Event) -> None:
        url = f"{self.url}/ws/coordinates"
        async with self._session.ws_connect(url, heartbeat=_PING_S, max_msg_size=0) as socket:
            await socket.send_json({"op": "subscribe", "robots": [*robots]})
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    continue
                now_s = time.monotonic()
                for pose in message.json().get("poses", ()):
                    robot = robots.get(pose["id"])
                    if robot is not None and pose["seq"]:
                        robot.saw(pose["seq"], now_s)
                ready.set()

    async def history(self, robot: str) -> set[int]:
        """Return the seq of every reading of ``robot`` in history."""
        found: set[int] = set()
        cursor: str | None = ""
        while cursor is not None:
            path = f"/api/sensor-data/{robot}?bucket=raw&from=0&to={_FAR_MS}&limit={_PAGE}"
            page = await self.ask("GET", path + (f"&cursor={cursor}" if cursor else ""))
            found |= {row["seq"] for row in page["rows"]}
            cursor = page["cursor"]
        return found


@asynccontextmanager
async def open_gate(url: str) -> AsyncIterator[Gate]:
    """Talk to the gateway at ``url`` for the length of the block."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_TIMEOUT_S / 2)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Gate(session, url)


def _said(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__
