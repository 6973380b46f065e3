"""The doctor on Kafka, Redis and PostgreSQL, as far as the configuration names them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final

from gateway.cli.version import installed
from gateway.config.model import Config, KafkaStream, PostgresRecords, RedisState
from gateway.config.postgresurl import parse as parse_dsn
from gateway.config.redisurl import parse_redis_url
from gateway.core.findings import Finding, Level

DRIVERS: Final = {"kafka": "aiokafka", "redis": "redis", "postgres": "asyncpg"}
_REACH_S: Final = 3.0  # to resolve a name, and to connect
_ALL_S: Final = 20.0  # one service, whatever it does

_Address = tuple[str, int]


def kafka(config: Config) -> Iterator[Finding]:
    """Whether the stream's Kafka lets us in and has our topics, or lets us make them."""
    stream = config.stream
    if not isinstance(stream, KafkaStream):
        return
    servers = [server.strip().rpartition(":") for server in stream.servers.split(",")]
    places = [(host.strip("[]"), int(port)) for host, _, port in servers]
    driver = _driver("kafka")
    yield driver
    if driver.level is Level.OK:
        from gateway.stream.kafka.examine import examine

        yield from _visit("Kafka", "stream.servers", places, examine(stream))


def redis(config: Config) -> Iterator[Finding]:
    """Whether the state's Redis lets us in and do what we have to."""
    state = config.state
    if not isinstance(state, RedisState):
        return
    driver = _driver("redis")
    yield driver
    if driver.level is Level.OK:
        from gateway.state.redis.examine import examine

        places = parse_redis_url(state.url).hosts
        yield from _visit("Redis", "state.url", places, examine(state))


def postgres(config: Config) -> Iterator[Finding]:
    """Whether the history's PostgreSQL lets us in, and whether its tables are ours."""
    records = config.records
    if not isinstance(records, PostgresRecords):
        return
    driver = _driver("postgres")
    yield driver
    if driver.level is Level.OK:
        from gateway.records.postgres.examine import examine

        hosts = parse_dsn(records.dsn).hosts
        places = [place for place in hosts if not place[0].startswith("/")]  # a Unix socket
        yield from _visit("PostgreSQL", "records.dsn", places, examine(records))


def _driver(extra: str) -> Finding:
    package = DRIVERS[extra]
    what = f"{extra} driver"
    if version := installed(package):
        return Finding(Level.OK, what, f"{package} {version}")
    advice = f"pip install 'edge-gateway[{extra}]'"
    return Finding(Level.FAIL, what, f"{package} is not installed", advice)


def _visit(
    name: str, key: str, places: Iterable[_Address], examination: AsyncIterator[Finding]
) -> list[Finding]:
    """Return what there is to say of the addresses and, if one answers, of the service."""
    return asyncio.run(_look(name, key, list(places), examination))


async def _look(
    name: str, key: str, places: list[_Address], examination: AsyncIterator[Finding]
) -> list[Finding]:
    findings: list[Finding] = []
    if places:
        findings.append(await _addresses(name, key, places))
        if findings[0].level is Level.FAIL:
            return findings
    try:
        async with asyncio.timeout(_ALL_S):
            async for finding in examination:
                findings.append(finding)
    except TimeoutError:
        found, advice = f"no answer within {_ALL_S:g} s", f"look at its log, and at {key}"
        findings.append(Finding(Level.FAIL, name, found, advice, service=True))
    return findings


async def _addresses(name: str, key: str, places: list[_Address]) -> Finding:
    """Return whether the addresses can be connected to; one is enough to go on."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_trouble(*place)) for place in places]
    troubles = [task.result() for task in tasks]
    told = [f"{host}:{port} {trouble or 'answers'}"
            for (host, port), trouble in zip(places, troubles, strict=True)]  # fmt: skip
    what, found = f"{name} address", ", ".join(told)
    if not any(troubles):
        return Finding(Level.OK, what, found)
    level = Level.FAIL if all(troubles) else Level.WARN
    return Finding(level, what, found, f"start it, or mend {key}", service=True)


async def _trouble(host: str, port: int) -> str:
    try:
        async with asyncio.timeout(_REACH_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"does not answer within {_REACH_S:g} s (a firewall?)"
    except (socket.gaierror, UnicodeError):
        return "cannot be resolved"
    except OSError as exc:
        return "refuses" if isinstance(exc, ConnectionRefusedError) else f"{exc.strerror or exc}"
    writer.transport.abort()
    return ""
