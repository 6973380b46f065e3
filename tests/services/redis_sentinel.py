"""A real Redis that fails over: a master, a replica, and the Sentinels that watch them."""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

import redis

from tests.services.process import Process
from tests.services.programs import need
from tests.services.redis import Redis
from tests.services.server import START_S, Server

_POLL_S: Final = 0.05


class Sentinel(Server):
    """One Sentinel on 127.0.0.1, which keeps what it knows in its own configuration file."""

    title: ClassVar[str] = "redis sentinel"

    def __init__(self, folder: Path, lines: list[str]) -> None:
        super().__init__(folder)
        self._lines = lines

    def _launch(self, port: int) -> Process:
        path = self.folder / "sentinel.conf"
        if self.port == 0 or not path.exists():
            head = ["bind 127.0.0.1", f"port {port}", f'dir "{self.folder}"']
            path.write_text("\n".join([*head, *self._lines]) + "\n")
            path.chmod(0o600)
        return Process([str(need("redis-server")), str(path), "--sentinel"])

    def _serves(self, line: str) -> bool:
        return "+monitor master" in line


class RedisSentinel:
    """A master, a replica and ``sentinels`` Sentinels that call the master ``edge``.

    They make the replica the master about ``down_ms`` milliseconds after the master is gone
    (``instances[0].kill()``, ``freeze()``). ``password`` is the servers', ``sentinel_password``
    the Sentinels'. It starts within a second or two; more than one Sentinel takes longer.
    """

    service: Final = "edge"

    def __init__(
        self,
        folder: Path,
        *,
        sentinels: int = 1,
        password: str = "",
        sentinel_password: str = "",
        down_ms: int = 1000,
    ) -> None:
        self.password = password
        self.sentinel_password = sentinel_password
        self.instances: list[Redis] = []
        self.sentinels: list[Sentinel] = []
        self._folder = folder
        self._count = sentinels
        self._down_ms = down_ms

    @property
    def url(self) -> str:
        """What goes into edge.toml: redis+sentinel://host:port,host:port/service/0."""
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.service}/0"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all of them."""
        for server in (*self.sentinels, *self.instances):
            server.close()

    def master(self) -> Redis:
        """Return the server that the Sentinels call the master now; it blocks for milliseconds."""
        said = self._facts()["port"]
        return next(one for one in self.instances if one.port == said)

    def wait_for_master(self, expected: Redis) -> None:
        """Return once the Sentinels call ``expected`` the master; it blocks for seconds."""
        self._wait(lambda: self.master() is expected, "no failover in time")

    def _start(self) -> None:
        login = [f"masterauth {self.password}"] if self.password else []
        common = [*login, "repl-diskless-sync-delay 0"]
        master = Redis(self._folder / "1", common, password=self.password)
        self.instances = [master]
        master.start()
        follow = [*common, f"replicaof 127.0.0.1 {master.port}"]
        replica = Redis(self._folder / "2", follow, password=self.password)
        self.instances.append(replica)
        replica.start()
        self._wait(self._copied, "the replica does not follow")
        quorum = self._count // 2 + 1
        watch = f"sentinel monitor {self.service} 127.0.0.1 {master.port} {quorum}"
        lines = [
            watch,
            f"sentinel down-after-milliseconds {self.service} {self._down_ms}",
            f"sentinel failover-timeout {self.service} 5000",
        ]
        if self.password:
            lines.append(f"sentinel auth-pass {self.service} {self.password}")
        if self.sentinel_password:
            lines += [
                f"requirepass {self.sentinel_password}",
                f"sentinel sentinel-pass {self.sentinel_password}",
            ]
        for number in range(self._count):
            sentinel = Sentinel(self._folder / f"sentinel-{number + 1}", lines)
            self.sentinels.append(sentinel)
            sentinel.start()
        self._wait(self._watched, "the Sentinels do not see them all")

    def _wait(self, fits: Callable[[], bool], problem: str) -> None:
        deadline = time.monotonic() + START_S
        while not fits():
            assert time.monotonic() < deadline, problem
            time.sleep(_POLL_S)

    def _copied(self) -> bool:
        replica = self.instances[1]
        with redis.Redis(port=replica.port, password=self.password or None) as client:
            return bool(client.info("replication").get("master_link_status") == "up")

    def _watched(self) -> bool:
        facts = self._facts()
        return facts["num-slaves"] == 1 and facts["num-other-sentinels"] == self._count - 1

    def _facts(self) -> dict[str, object]:
        for sentinel in self.sentinels:
            if sentinel.running:
                password = self.sentinel_password or None
                with redis.Redis(port=sentinel.port, password=password) as client:
                    facts = client.sentinel_master(self.service)
                assert isinstance(facts, dict)
                return facts
        raise AssertionError("no Sentinel runs")
