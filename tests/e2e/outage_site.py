"""The servers of a site behind proxies, and what can happen to each."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.e2e.process import GatewayProcess
from tests.faults.proxy import Proxy
from tests.services import need
from tests.services.kafka import Kafka
from tests.services.kafka_jars import need_jars
from tests.services.mosquitto import Mosquitto
from tests.services.postgres import Postgres
from tests.services.redis import Redis
from tests.services.server import Server

LINKS: Final = ("kafka", "redis", "mosquitto", "postgres")
WAYS: Final = ("sigstop", "kill", "blackhole")

PARTS: Final = {
    "kafka": {"stream", "consumer", "canary stream", "canary state"},
    "redis": {"state", "canary state", "consumer"},
    "mosquitto": {"bus", "canary bus"},
    "postgres": {"records", "canary records"},
}
"""Which parts of /readyz may name the outage of a link."""


@dataclass(frozen=True, slots=True)
class Fault:
    """``way`` happens to the server of ``link``, or to the way there."""

    link: str
    way: str

    def __str__(self) -> str:
        return f"{self.link} {self.way}"


@dataclass(frozen=True, slots=True)
class Shares:
    """What one gateway uses of the servers; nobody else does."""

    name: str
    database: str

    @property
    def topics(self) -> str:
        """The prefix of its topics, and of its keys."""
        return self.name


class Site:
    """Kafka, Redis, Mosquitto and PostgreSQL, each behind a proxy in a process of its own."""

    def __init__(self, folder: Path) -> None:
        for program in ("java", "mosquitto", "redis-server", "postgres"):
            need(program)
        need_jars()
        self._folder = folder
        self._stack = ExitStack()
        self.proxies = {link: Proxy(process=True) for link in LINKS}
        self.mosquitto = Mosquitto(folder / "mosquitto")
        self.redis = Redis(folder / "redis", durable=True)
        self.postgres = Postgres()
        self.kafka = Kafka(folder / "kafka")
        self._down: set[Fault] = set()

    def __enter__(self) -> Self:
        with self._stack:
            for proxy in self.proxies.values():
                self._stack.enter_context(proxy)
            self.kafka.proxy_port = self.proxies["kafka"].port
            for server in self.servers.values():
                self._stack.callback(server.close)
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda server: server.start(), self.servers.values()))
            for link, server in self.servers.items():
                port = self.kafka.proxied_port if link == "kafka" else server.port
                self.proxies[link].aim("127.0.0.1", port)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def servers(self) -> dict[str, Server]:
        """By link."""
        return {
            "kafka": self.kafka,
            "redis": self.redis,
            "mosquitto": self.mosquitto,
            "postgres": self.postgres,
        }

    def shares(self, name: str) -> Shares:
        """Return names that nobody used, with an empty database."""
        name = f"{name}-{uuid.uuid4().hex[:6]}"
        self.postgres.create_database(name)
        return Shares(name, name)

    def gateway(self, shares: Shares, *, bus: str = "mqtt") -> GatewayProcess:
        """Return a gateway, not started yet, that reaches all of it through the proxies."""
        folder = self._folder / shares.name
        folder.mkdir()
        dsn = self.postgres.dsn(shares.database, port=self.proxies["postgres"].port)
        sets = [
            "stream.backend=kafka",
            f"stream.servers={self.proxies['kafka'].address}",
            f"stream.prefix={shares.topics}",
            "state.backend=redis",
            f"state.url=redis://{self.proxies['redis'].address}/0",
            f"state.prefix={shares.topics}",
            "records.backend=postgres",
            f"records.dsn={dsn}",
        ]
        if bus == "mqtt":
            broker = self.proxies["mosquitto"].address
            sets += ["bus.backend=mqtt", f"bus.url=mqtt://{broker}", f"bus.client_id={shares.name}"]
        return GatewayProcess(folder, *sets)

    def strike(self, fault: Fault) -> None:
        """Let it happen."""
        self._down.add(fault)
        server = self.servers[fault.link]
        match fault.way:
            case "sigstop":
                server.freeze()
            case "kill":
                server.kill()
            case _:
                self.proxies[fault.link].black_hole()

    def mend(self, fault: Fault) -> float:
        """Undo it; return (monotonic) when the server served again."""
        self._down.discard(fault)
        server = self.servers[fault.link]
        match fault.way:
            case "sigstop":
                server.thaw()
            case "kill":
                server.start()
            case _:
                self.proxies[fault.link].pass_()
        return time.monotonic()

    def mend_all(self) -> None:
        """Leave nothing broken behind a test that failed."""
        for fault in list(self._down):
            self.mend(fault)
