"""A real Redis Cluster: three masters that share the slots, no replicas."""

import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import redis

from tests.services.redis import Redis
from tests.services.server import START_S

_NODES: Final = 3
_SLOTS: Final = 16_384
_POLL_S: Final = 0.05


class RedisCluster:
    """Three servers in a cluster; while one is gone its keys cannot be reached, nor the others'.

    After ``nodes[n].start()`` they serve again by themselves. ``password`` is everybody's.
    """

    def __init__(self, folder: Path, *, password: str = "") -> None:
        self.password = password
        self.nodes = [
            Redis(
                folder / str(number + 1),
                [f"masterauth {password}"] if password else [],
                password=password,
                cluster=True,
            )
            for number in range(_NODES)
        ]

    @property
    def url(self) -> str:
        """What goes into edge.toml: redis+cluster://host:port,host:port,host:port."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                node.start()
            self._join()
            self.wait_until_served()
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
        for node in self.nodes:
            node.close()

    def wait_until_served(self) -> None:
        """Return once every node says that all slots are served; it blocks."""
        deadline = time.monotonic() + START_S
        for node in self.nodes:
            while not self._complete(node):
                assert time.monotonic() < deadline, "the cluster is not complete in time"
                time.sleep(_POLL_S)

    def _join(self) -> None:
        share = _SLOTS / _NODES
        for number, node in enumerate(self.nodes):
            first, end = round(number * share), round((number + 1) * share)
            with self._client(node) as client:
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
                for other in self.nodes[:number]:
                    client.execute_command("CLUSTER MEET", "127.0.0.1", other.port, other.bus_port)

    def _complete(self, node: Redis) -> bool:
        with self._client(node) as client:
            facts = client.execute_command("CLUSTER INFO")
        return bool(facts["cluster_state"] == "ok" and facts["cluster_known_nodes"] == str(_NODES))

    def _client(self, node: Redis) -> "redis.Redis":
        return redis.Redis(port=node.port, password=self.password or None)
