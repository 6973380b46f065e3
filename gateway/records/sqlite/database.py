"""The SQLite file: opening, migrating, failing, healing. The only module that sees ``sqlite3``."""

import errno
import logging
import os
import re
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Final, TypeVar

from gateway.config.model import ConfigError
from gateway.core.errors import Unavailable
from gateway.records.rows import DEPENDENCY

log = logging.getLogger(__name__)

Connection = sqlite3.Connection
T = TypeVar("T")

BUSY_MS: Final = 2_000  # another process (sqlite3 on the command line, a backup) holds the lock
CHECK_UP_TO_BYTES: Final = 64 * 2**20  # a whole check reads the file: 0.2 s for this much
WAL_KEEP_BYTES: Final = 64 * 2**20  # a WAL that grew beyond is cut after its checkpoint
STEPS_BETWEEN_LOOKS: Final = 10_000  # virtual machine steps; about a millisecond

_REPLACED: Final = "history is damaged and being replaced"
_MIGRATION: Final = re.compile(r"([0-9]{4})_[a-z0-9_]+\.sql")
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PASSING: Final = {
    sqlite3.SQLITE_BUSY: "history is locked by another process",
    sqlite3.SQLITE_LOCKED: "history is locked",
    sqlite3.SQLITE_FULL: "no space is left for history",
    sqlite3.SQLITE_IOERR: "the disk of history fails",
    sqlite3.SQLITE_CANTOPEN: "the file of history cannot be opened",
    sqlite3.SQLITE_READONLY: "the file of history cannot be written",
    sqlite3.SQLITE_PERM: "the file of history cannot be used",
    sqlite3.SQLITE_NOMEM: "no memory is left for history",
    sqlite3.SQLITE_INTERRUPT: "the question to history took too long",
    sqlite3.SQLITE_PROTOCOL: "history is locked",
}


class NewerDatabase(ConfigError):
    """The file was made by a newer version of this program; using it could destroy it."""


class Database:
    """One file and its state, shared by the threads that use it.

    ``generation`` grows when the file was moved aside because it was corrupt: connections to the
    old one are then opened anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self._suspect = False
        self._lock = threading.Lock()

    def suspect(self, generation: int) -> None:
        """Say that a connection of ``generation`` met corruption: check before the next use."""
        with self._lock:
            self._suspect = self._suspect or generation == self.generation

    def ready(self) -> int:
        """Make the file usable, moving a corrupt one aside; return its generation."""
        with self._lock:
            if self._suspect or self.generation == 0:
                try:
                    self._prepare()
                except sqlite3.DatabaseError as exc:
                    if _primary(exc) not in _CORRUPT:
                        raise
                    log.critical("history is corrupt: %s", exc)
                    self._move_aside()
                    self._prepare()
                self._suspect = False
                self.generation += 1
            return self.generation

    def connect(self) -> Connection:
        """Return a connection in autocommit mode; transactions are begun by hand."""
        connection = sqlite3.connect(
            self.path, isolation_level=None, timeout=BUSY_MS / 1000, cached_statements=256
        )
        try:
            connection.execute("PRAGMA synchronous=FULL")  # NORMAL loses acknowledged commits
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self) -> None:
        new = not self.path.exists()
        with closing(self.connect()) as connection:
            if new:
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            elif self._suspect or self.path.stat().st_size <= CHECK_UP_TO_BYTES:
                _check(connection)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA journal_size_limit={WAL_KEEP_BYTES}")
            _migrate(connection)
        if new:
            _sync_directory(self.path.parent)

    def _move_aside(self) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside = self.path.with_name(f"{self.path.name}.corrupt-{stamp}")
        for suffix in ("", "-wal", "-shm"):  # together, so that they can be looked at together
            with suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").replace(f"{aside}{suffix}")
        _sync_directory(self.path.parent)
        log.critical("moved the corrupt history to %s and start with an empty one", aside)


class Session:
    """One thread's connection: opened when needed, closed after a failure, opened again."""

    def __init__(self, database: Database, *, writes: bool, deadline_s: float) -> None:
        self._database = database
        self._writes = writes
        self._deadline_s = deadline_s
        self._connection: Connection | None = None
        self._generation = 0
        self._until = 0.0

    def close(self) -> None:
        """Close the connection, if one is open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def run(self, work: Callable[[Connection], T]) -> T:
        """Return ``work(connection)``: for the writer one transaction, all or nothing.

        Raises:
            Unavailable: busy, full, failing, too slow, or just found corrupt.
        """
        self._until = time.monotonic() + self._deadline_s
        try:
            connection = self._open()
            if not self._writes:
                return work(connection)
            with _transaction(connection):
                result = work(connection)
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc
        except OSError as exc:
            self.close()
            raise Unavailable(_PASSING[sqlite3.SQLITE_CANTOPEN], dependency=DEPENDENCY) from exc
        if self._generation != self._database.generation:  # committed to a file moved aside
            raise Unavailable(_REPLACED, dependency=DEPENDENCY)
        return result

    def _open(self) -> Connection:
        if self._connection is not None and self._generation == self._database.generation:
            return self._connection
        self.close()
        self._generation = self._database.ready()
        self._connection = self._database.connect()
        self._connection.set_progress_handler(self._late, STEPS_BETWEEN_LOOKS)
        if not self._writes:
            self._connection.execute("PRAGMA query_only=ON")
        return self._connection

    def _late(self) -> bool:
        return time.monotonic() > self._until

    def _failed(self, exc: sqlite3.Error) -> Exception:
        """Return what to raise for ``exc``: Unavailable if it can pass, else itself, a bug."""
        code = _primary(exc)
        if code in _CORRUPT:
            log.error("history met corruption: %s", exc)
            self._database.suspect(self._generation)
            self.close()
            return Unavailable(_REPLACED, dependency=DEPENDENCY)
        if code not in _PASSING:
            return exc
        if code not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_INTERRUPT):
            self.close()  # after a failed write or sync the next try begins from the file alone
        return Unavailable(_PASSING[code], dependency=DEPENDENCY)


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has ended it itself after some failures
            connection.execute("ROLLBACK")
        raise


def _primary(exc: sqlite3.Error) -> int:
    """Return the primary result code (https://sqlite.org/rescode.html); -1 if there is none."""
    code: int = getattr(exc, "sqlite_errorcode", -1)
    return code & 0xFF if code >= 0 else -1


def _check(connection: Connection) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        error = sqlite3.DatabaseError(found)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def _migrate(connection: Connection) -> None:
    """Apply the numbered files that are newer than the database, each in one transaction."""
    have: int = connection.execute("PRAGMA user_version").fetchone()[0]
    steps = migrations()
    if have > len(steps):
        raise NewerDatabase(
            f"history has schema {have}, this program knows {len(steps)}: "
            "install the newer version again, or move the file away"
        )
    for number, sql in enumerate(steps[have:], start=have + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version={number};")
            if number == 1:
                connection.execute("INSERT INTO store VALUES (?)", (secrets.token_hex(8),))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        log.info("history migrated: schema=%d", number)


def migrations() -> list[str]:
    """Return the text of the migrations in order; their numbers have no gap."""
    found = {
        int(match[1]): entry.read_text("utf-8")
        for entry in (files("gateway.records") / "migrations").iterdir()
        if (match := _MIGRATION.fullmatch(entry.name))
    }
    return [found[number] for number in range(1, len(found) + 1)]


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without it
            raise
    finally:
        os.close(handle)
