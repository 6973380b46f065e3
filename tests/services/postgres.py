"""A real PostgreSQL which can be killed, stopped in its tracks and brought back."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from tests.services.process import Process
from tests.services.programs import need, unavailable
from tests.services.server import Server

_FAST: Final = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
_INITDB_S: Final = 120.0


class Postgres(Server):
    """A server on 127.0.0.1 with the superuser ``edge``.

    ``password`` "" trusts everyone, else scram-sha-256 asks for it. ``durable`` False is faster,
    for servers that no test kills: they may be broken after a ``kill``. ``options`` are settings
    (``max_connections=20``). As root it runs as the user ``postgres`` (or ``nobody``), because it
    refuses root; its folder is made by itself, as that user may not enter a test's.
    """

    title: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # does not wait for its clients

    def __init__(
        self, options: Sequence[str] = (), *, password: str = "", durable: bool = True
    ) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="edge-gateway-postgres-")))
        self.user: Final = "edge"
        self.password = password
        self._options = [*(() if durable else _FAST), *options]
        self._as = _unprivileged()
        self._data = self.folder / "data"

    def dsn(self, database: str = "postgres", *, port: int | None = None) -> str:
        """Return the URL of ``database``; ``port`` is another one, as a proxy's."""
        login = f"{self.user}:{self.password}" if self.password else self.user
        return f"postgresql://{login}@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        """Start it (again) and return when it serves; the first time it makes its files."""
        if not self._data.exists():
            self._init()
        super().start()

    def close(self) -> None:
        """End it at once and remove its files."""
        super().close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def create_database(self, name: str) -> str:
        """Make the empty database ``name`` and return its URL."""
        self.psql(f'CREATE DATABASE "{name}"')
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Remove the database ``name``, whoever is still connected to it."""
        self.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def psql(self, sql: str, database: str = "postgres") -> str:
        """Run ``sql`` in PostgreSQL's own client and return its rows, columns split by "|"."""
        command = [str(need("psql")), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        done = subprocess.run(
            [*command, "-d", self.dsn(database), "-c", sql],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _launch(self, port: int) -> Process:
        settings = [
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self.folder}",
            "log_min_messages=log",
            "logging_collector=off",
            *self._options,
        ]
        arguments = [part for setting in settings for part in ("-c", setting)]
        return Process(
            [str(need("postgres")), "-D", str(self._data), "-p", str(port), *arguments],
            user=self._as,
            folder=self.folder,
            environment={"LC_ALL": "C.UTF-8"},
        )

    def _serves(self, line: str) -> bool:
        return "database system is ready to accept connections" in line

    def _init(self) -> None:
        login = self.folder / "password"
        login.write_text(f"{self.password or 'unused'}\n")
        if self._as is not None:
            account = pwd.getpwnam(self._as)
            for path in (self.folder, login):
                os.chown(path, account.pw_uid, account.pw_gid)
        done = subprocess.run(
            [
                str(need("initdb")),
                *("-D", str(self._data), "-U", self.user, "--pwfile", str(login)),
                *("--auth", "scram-sha-256" if self.password else "trust"),
                *("-E", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions"),
            ],
            cwd=self.folder,
            user=self._as,
            extra_groups=None if self._as is None else [],
            capture_output=True,
            text=True,
            timeout=_INITDB_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        login.unlink()


def _unprivileged() -> str | None:
    """Return whom it has to run as; None: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return unavailable("PostgreSQL refuses root, and there is no user postgres or nobody")
