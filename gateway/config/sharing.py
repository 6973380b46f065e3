"""What must fit each other in the sections that reach beyond the box."""

from collections.abc import Iterator
from typing import Final

from gateway.config import postgresurl
from gateway.config.model import (
    Config,
    KafkaStream,
    MemoryState,
    NoStream,
    PostgresRecords,
    RedisState,
    SqliteRecords,
)
from gateway.config.redisurl import parse_redis_url
from gateway.config.wording import show
from gateway.core.units import size_bytes

Found = Iterator[tuple[str, str]]
"""(key, what is wrong with it)"""

_TLS_FILES: Final = ("ca_file", "cert_file", "key_file")


def unchosen(config: Config) -> Found:
    """Keys of a backend that was not chosen: somebody expects them to do something."""
    if isinstance(config.records, SqliteRecords) and config.records.dsn:
        yield "records.dsn", 'is for PostgreSQL: set records.backend to "postgres", or leave it out'
    if isinstance(config.state, MemoryState) and config.state.url:
        yield "state.url", 'is for Redis: set state.backend to "redis", or leave it out'
    if isinstance(config.stream, NoStream):
        if config.stream.servers:
            yield (
                "stream.servers",
                'is for Kafka: set stream.backend to "kafka", or leave it out',
            )
        if config.stream.prefix != "smartair":
            yield (
                "stream.prefix",
                'is for Kafka: set stream.backend to "kafka", or leave it at "smartair"',
            )


def stream(config: Config) -> Found:
    """[stream] for Kafka."""
    kafka = config.stream
    if not isinstance(kafka, KafkaStream):
        return
    yield from _servers(kafka.servers)
    yield from _pair("stream", kafka.cert_file, kafka.key_file)
    if not kafka.tls:
        for name in _TLS_FILES:
            if getattr(kafka, name):
                yield f"stream.{name}", "needs TLS: set stream.tls to true"
    login = {"user": kafka.user, "password_file": kafka.password_file}
    for name, value in login.items():
        if kafka.sasl and not value:
            yield f"stream.{name}", f"is missing: sasl = {show(kafka.sasl)} needs it"
        if value and not kafka.sasl:
            yield (
                f"stream.{name}",
                'needs stream.sasl: set "PLAIN", "SCRAM-SHA-256" or "SCRAM-SHA-512"',
            )
    if kafka.replication == 0:
        yield "stream.replication", "expected 1 to 10, or -1 for what the brokers are set to"
    if size_bytes(kafka.batch_bytes) > size_bytes(kafka.max_record_bytes):
        yield (
            "stream.batch_bytes",
            f"expected at most max_record_bytes ({kafka.max_record_bytes}): brokers measure a "
            f"batch by it, found {show(kafka.batch_bytes)}",
        )


def _servers(servers: str) -> Found:
    expected = 'expected "host:9092", several with commas between'
    for server in servers.split(","):
        host, colon, port = server.strip().rpartition(":")
        if not (host and colon and port.isdecimal() and 0 < int(port) < 65_536) or "/" in host:
            yield "stream.servers", f"{expected}, found {show(servers)}"
            return


def redis(config: Config) -> Found:
    """[state] for Redis."""
    state = config.state
    if not isinstance(state, RedisState):
        return
    try:
        url = parse_redis_url(state.url)
    except ValueError as exc:
        yield "state.url", str(exc)
        return
    yield from _pair("state", state.cert_file, state.key_file)
    if not url.tls:
        for name in _TLS_FILES:
            if getattr(state, name):
                yield f"state.{name}", "needs TLS: write state.url with rediss"
    if state.sentinel_password_file and url.arrangement != "sentinel":
        yield (
            "state.sentinel_password_file",
            "is for Sentinels: write state.url with redis+sentinel://",
        )


def postgres(config: Config) -> Found:
    """[records] for PostgreSQL."""
    if isinstance(config.records, PostgresRecords):
        yield from postgresurl.problems(config.records)


def _pair(section: str, cert_file: str, key_file: str) -> Found:
    if bool(cert_file) != bool(key_file):
        missing, given = ("key_file", "cert_file") if cert_file else ("cert_file", "key_file")
        yield f"{section}.{missing}", f"is missing: a client certificate needs it beside {given}"
