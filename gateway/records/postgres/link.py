"""One connection to PostgreSQL: where to, as whom, how secret, and how long anything may take."""

import asyncio
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from gateway.config.model import ConfigError, PostgresRecords
from gateway.config.postgresurl import VERIFYING, Target, parse
from gateway.records.postgres.failures import passing, unavailable

log = logging.getLogger(__name__)

Connection = Any
"""asyncpg.Connection, which has no types."""

CONNECT_S: Final = 1.5  # a connection that is lost in a black hole must not delay the healing
LATE_S: Final = 0.5  # the server ends a statement itself; one that says nothing then is gone
SCHEMA: Final = "edge_gateway"  # of our tables: nobody else's names collide with them


@dataclass(slots=True, eq=False)
class Session:
    """A connection and what was prepared on it."""

    connection: Connection
    staged: bool = False  # has the temporary table of writes


class Link:
    """Make connections as the configuration says; the password is read for each."""

    def __init__(self, config: PostgresRecords, name: str) -> None:
        try:
            self.target: Final[Target] = parse(config.dsn)
        except ValueError as exc:
            raise ConfigError(f"records.dsn: {exc}") from exc
        self._config = config
        self._tls: ssl.SSLContext | None = None
        self._ready = False
        self._plain = False  # sslmode=prefer found a server without TLS
        self._settings = _settings(config, name)

    async def open(self) -> Session:
        """Return a new connection; of several hosts to the first that takes writes, else to any.

        Raises:
            Unavailable: no host lets us in.
        """
        if not self._ready:
            self._tls = await asyncio.to_thread(self._context)
            self._ready = True
        password = await asyncio.to_thread(self._password)
        second: Session | None = None
        failed: Exception = ConnectionError("no host")
        for host, port in self.target.hosts:
            try:
                session = await self._open(host, port, password)
            except Exception as exc:
                failed = exc
                if not passing(exc):
                    raise
                continue
            if len(self.target.hosts) == 1 or await _takes_writes(session):
                if second is not None:
                    second.connection.terminate()
                return session
            if second is None:
                second = session
            else:
                session.connection.terminate()
        if second is not None:
            return second
        raise unavailable(passing(failed)) from failed

    async def _open(self, host: str, port: int, password: str) -> Session:
        tls = None if host.startswith("/") or self._plain else self._tls
        try:
            return await self._connect(host, port, password, tls)
        except ConnectionError as exc:
            # asyncpg's own word for "the server has no TLS"; its kin, as refused, are subclasses
            if tls is None or self._sslmode != "prefer" or type(exc) is not ConnectionError:
                raise
        session = await self._connect(host, port, password, None)
        self._plain = True
        return session

    async def _connect(
        self, host: str, port: int, password: str, tls: ssl.SSLContext | None
    ) -> Session:
        # Every argument is given, also the empty ones: the driver looks for what is missing in the
        # environment and in the home folder.
        connection = await asyncpg.connect(
            host=host,
            port=port,
            user=self.target.user,
            password=password,
            database=self.target.database,
            ssl=tls or False,
            timeout=min(CONNECT_S, self._config.timeout_s),
            command_timeout=self._config.timeout_s + LATE_S,
            server_settings=self._settings,
            target_session_attrs="any",
        )
        return Session(connection)

    @property
    def _sslmode(self) -> str:
        return self.target.sslmode or ("verify-full" if self._config.ca_file else "prefer")

    def _context(self) -> ssl.SSLContext | None:
        if self._sslmode == "disable":
            return None
        try:
            context = ssl.create_default_context(cafile=self._config.ca_file or None)
        except OSError as exc:  # ssl.SSLError is one
            raise unavailable("records.ca_file cannot be used") from exc
        context.check_hostname = self._sslmode == "verify-full"
        if self._sslmode not in VERIFYING:
            context.verify_mode = ssl.CERT_NONE
        return context

    def _password(self) -> str:
        if not self._config.password_file:
            return ""
        try:
            return Path(self._config.password_file).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as exc:
            raise unavailable("records.password_file cannot be read") from exc


def _settings(config: PostgresRecords, name: str) -> dict[str, str]:
    limit = max(1, round(config.timeout_s * 1000))
    return {
        "application_name": f"edge-gateway {name}".strip().encode("ascii", "replace").decode()[:63],
        "search_path": SCHEMA,
        "statement_timeout": f"{limit}",
        "lock_timeout": f"{max(1, limit // 2)}",  # of the two the one that says why
        "idle_in_transaction_session_timeout": f"{limit * 2}",  # a frozen box frees its locks
        "synchronous_commit": "on",  # a database may be set to lose acknowledged commits
        "jit": "off",  # compiling costs more than our short questions
    }


async def _takes_writes(session: Session) -> bool:
    try:
        return bool(
            await session.connection.fetchval(
                "SELECT NOT pg_is_in_recovery()"
                " AND current_setting('default_transaction_read_only') = 'off'"
            )
        )
    except Exception as exc:
        session.connection.terminate()
        if not passing(exc):
            raise
        log.info("a host of history answers no question: %s", passing(exc))
        return False
