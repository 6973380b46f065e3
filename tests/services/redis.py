"""A real Redis which can be killed, stopped in its tracks and brought back."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.services.process import Process, free_port
from tests.services.programs import need
from tests.services.server import Server


@dataclass(frozen=True, slots=True)
class RedisTls:
    """A TLS port besides the plain one, PEM files; ``mutual``: clients show a certificate."""

    ca: Path
    cert: Path
    key: Path
    port: int
    mutual: bool = False


class Redis(Server):
    """A server on 127.0.0.1; after a ``kill`` its data are gone unless ``durable``.

    ``password`` is the default user's. ``users`` are lines of an ACL file (``user edge on
    >secret ~* &* +@all``). ``options`` are further lines of redis.conf. ``durable`` appends every
    write to a file and syncs it before the answer. ``cluster`` makes it a node for a cluster.
    """

    title: ClassVar[str] = "redis"

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = (),
        *,
        password: str = "",
        users: Sequence[str] = (),
        tls: RedisTls | None = None,
        durable: bool = False,
        cluster: bool = False,
    ) -> None:
        super().__init__(folder)
        self.bus_port = 0
        self.password = password
        self.tls = tls
        self._options = list(options)
        self._users = list(users)
        self._durable = durable
        self._cluster = cluster

    @property
    def url(self) -> str:
        """Where it listens without TLS, with the default user's password if it has one."""
        return f"redis://{_login(self.password)}127.0.0.1:{self.port}/0"

    @property
    def tls_url(self) -> str:
        """Where it listens with TLS."""
        assert self.tls is not None
        return f"rediss://{_login(self.password)}localhost:{self.tls.port}/0"

    def _launch(self, port: int) -> Process:
        if self.port == 0 and self._cluster:
            self.bus_port = free_port()
        return Process([str(need("redis-server")), str(self._configure(port))])

    def _serves(self, line: str) -> bool:
        return "Ready to accept connections" in line

    def _configure(self, port: int) -> Path:
        lines = [
            "bind 127.0.0.1",
            f"port {port}",
            f'dir "{self.folder}"',
            "daemonize no",
            'save ""',
            f"appendonly {'yes' if self._durable else 'no'}",
            "appendfsync always",
            *self._options,
        ]
        users = list(self._users)
        if users:  # with an ACL file requirepass is not looked at
            login = f">{self.password}" if self.password else "nopass"
            acl = self.folder / "users.acl"
            acl.write_text("\n".join([f"user default on {login} ~* &* +@all", *users, ""]))
            lines.append(f'aclfile "{acl}"')
        elif self.password:
            lines.append(f"requirepass {self.password}")
        if self.tls is not None:
            lines += [
                f"tls-port {self.tls.port}",
                f'tls-ca-cert-file "{self.tls.ca}"',
                f'tls-cert-file "{self.tls.cert}"',
                f'tls-key-file "{self.tls.key}"',
                f"tls-auth-clients {'yes' if self.tls.mutual else 'no'}",
            ]
        if self._cluster:
            lines += [
                "cluster-enabled yes",
                "cluster-config-file nodes.conf",
                "cluster-node-timeout 2000",
                f"cluster-port {self.bus_port}",  # the usual port + 10000 may not exist
            ]
        path = self.folder / "redis.conf"
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o600)
        return path


def _login(password: str) -> str:
    return f":{password}@" if password else ""
