"""The doctor on real Kafka, Redis and PostgreSQL: well, away, standing still, refusing."""

import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import services
from gateway.config.model import Config, KafkaStream, PostgresRecords, RedisState
from gateway.core.findings import Finding, Level, clock_finding
from tests.cli.command import gateway, run
from tests.services import need
from tests.services.kafka import Kafka
from tests.services.postgres import Postgres
from tests.services.redis import Redis

PORTS = ("http.port=0", "bus.port=0")


def stream(server: Kafka | str, prefix: str) -> tuple[str, ...]:
    servers = server if isinstance(server, str) else server.servers
    return ("stream.backend=kafka", f"stream.servers={servers}", f"stream.prefix={prefix}")


def state(url: str, prefix: str = "doctor") -> tuple[str, ...]:
    return ("state.backend=redis", f"state.url={url}", f"state.prefix={prefix}")


def records(dsn: str) -> tuple[str, ...]:
    return ("records.backend=postgres", f"records.dsn={dsn}")


def examine(folder: Path, *sets: str) -> subprocess.CompletedProcess[str]:
    words = [part for item in (*PORTS, *sets) for part in ("--set", item)]
    return run("doctor", "--json", *words, cwd=folder)


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    """Return the findings by name; whatever is not well must say what to do."""
    found = {row["what"]: row for row in json.loads(done.stdout)["findings"]}
    assert all(row["advice"] for row in found.values() if row["level"] != "OK")
    return found


def until_ready(url: str, timeout_s: float = 40.0) -> None:
    end, body = time.monotonic() + timeout_s, b""
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except urllib.error.HTTPError as answer:
            body = answer.read()
            time.sleep(0.1)
    raise AssertionError(f"not ready: {body!r}")


def test_all_are_well_and_nothing_is_changed(
    tmp_path: Path, kafka: Kafka, redis_server: Redis, postgres: Postgres, postgres_database: str
) -> None:
    name = f"doctor-{uuid.uuid4().hex}"
    sets = (
        *stream(kafka, name),
        *state(redis_server.url, name),
        *records(postgres_database),
    )
    for _ in range(2):  # the second finds what the first left: nothing
        done = examine(tmp_path, *sets)
        assert done.returncode == 0, done.stdout
        told = rows(done)
        assert f"{name}.pose" in told["Kafka topics"]["found"]
        assert "may be made" in told["Kafka topics"]["found"]
        assert "is made at the start" in told["PostgreSQL tables"]["found"]
        assert "standalone, version " in told["Redis"]["found"]
        assert told["Redis rights"]["level"] == "OK"
        assert "UTF8" in told["PostgreSQL"]["found"]
        assert {"Redis clock", "PostgreSQL clock", "Kafka", "Kafka address"} <= told.keys()
    with gateway(tmp_path, *sets) as (running, url, _):
        until_ready(url)
        told = rows(done := examine(tmp_path, *sets))
        assert done.returncode == 0, done.stdout
        assert told["Kafka topics"]["found"] == f"{name}.* are there, 6 of them"
        assert told["PostgreSQL tables"]["found"] == "of schema 1"
        assert running.stop() == 0
    database = postgres_database.rpartition("/")[2]
    postgres.psql("UPDATE edge_gateway.store SET schema = 99", database)
    done = examine(tmp_path, *records(postgres_database))
    assert done.returncode == 1  # not away: it needs another program, or another database
    assert "of schema 99" in rows(done)["PostgreSQL tables"]["found"]
    assert "newer version" in rows(done)["PostgreSQL tables"]["advice"]


def test_all_are_away(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # held, and nobody listens
        port = closed.getsockname()[1]
        done = examine(
            tmp_path,
            *stream(f"127.0.0.1:{port}", "away"),
            *state("redis://no-such-host.invalid:6379/0"),
            *records(f"postgresql://edge@127.0.0.1:{port}/edge"),
        )
    assert done.returncode == 69, done.stdout
    told = rows(done)
    assert told["Kafka address"]["found"] == f"127.0.0.1:{port} refuses"
    assert "stream.servers" in told["Kafka address"]["advice"]
    assert told["Redis address"]["found"] == "no-such-host.invalid:6379 cannot be resolved"
    assert "state.url" in told["Redis address"]["advice"]
    assert told["PostgreSQL address"]["found"] == f"127.0.0.1:{port} refuses"
    assert not {"Kafka", "Redis", "PostgreSQL"} & told.keys()  # nothing more to say of them


def test_one_server_of_two_is_away(tmp_path: Path, kafka: Kafka) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        other = f"127.0.0.1:{closed.getsockname()[1]}"
        done = examine(tmp_path, *stream(f"{other},{kafka.servers}", "two"))
    assert done.returncode == 0, done.stdout
    told = rows(done)
    assert told["Kafka address"]["level"] == "WARN"
    assert f"{other} refuses" in told["Kafka address"]["found"]
    assert told["Kafka"]["level"] == "OK"


def test_servers_that_take_connections_and_say_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        done = examine(
            tmp_path,
            *stream(place, "silent"),
            "stream.timeout_s=1",
            *state(f"redis://{place}"),
            "state.timeout_s=1",
            *records(f"postgresql://edge@{place}/edge"),
            "records.timeout_s=1",
        )
    assert done.returncode == 69, done.stdout
    told = rows(done)
    assert "does not answer" in told["Kafka"]["found"]
    assert told["Redis"]["found"] == "it does not answer in time"
    assert "did not answer in time" in told["PostgreSQL"]["found"]


def test_a_redis_that_stands_still(tmp_path: Path, own_redis: Redis) -> None:
    os.kill(own_redis.pid, signal.SIGSTOP)
    try:
        done = examine(tmp_path, *state(own_redis.url), "state.timeout_s=1")
    finally:
        os.kill(own_redis.pid, signal.SIGCONT)
    assert done.returncode == 69, done.stdout
    assert rows(done)["Redis"]["found"] == "it does not answer in time"


def test_topics_that_nobody_makes(tmp_path: Path, kafka: Kafka) -> None:
    prefix = f"doctor-{uuid.uuid4().hex}"
    done = examine(tmp_path, *stream(kafka, prefix), "stream.create_topics=false")
    assert done.returncode == 69, done.stdout
    found = rows(done)["Kafka"]["found"]
    assert f"has no topic {prefix}." in found
    assert "create_topics" in found


def test_topics_that_kafka_would_not_make(tmp_path: Path, kafka: Kafka) -> None:
    prefix = f"doctor-{uuid.uuid4().hex}"
    done = examine(tmp_path, *stream(kafka, prefix), "stream.replication=3")  # there is one broker
    assert done.returncode == 69, done.stdout
    assert "did not create the topic" in rows(done)["Kafka"]["found"]


def test_a_redis_user_who_may_not_do_enough(tmp_path: Path) -> None:
    need("redis-server")
    users = [
        "user no-lua on >secret ~edge:* &edge:* +@all -@dangerous -@admin -@scripting",
        "user no-channel on >secret ~edge:* &other:* +@all -@dangerous -@admin",
        "user no-keys on >secret ~other:* &edge:* +@all -@dangerous -@admin",
        "user enough on >secret ~edge:* &edge:* +@all -@dangerous -@admin",
    ]
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    with Redis(tmp_path / "redis", password="root-secret", users=users) as server:
        url = f"redis://127.0.0.1:{server.port}"

        def told(user: str) -> dict[str, dict[str, str]]:
            return rows(
                examine(
                    tmp_path,
                    *state(url, "edge"),
                    f"state.user={user}",
                    f"state.password_file={secret}",
                )
            )

        assert "Lua" in told("no-lua")["Redis rights"]["found"]
        assert "channels" in told("no-channel")["Redis rights"]["found"]
        assert told("no-keys")["Redis rights"]["level"] == "FAIL"
        enough = told("enough")
        assert enough["Redis rights"]["level"] == "OK"
        assert "version" in enough["Redis"]["found"]
        assert "refuses the login" in told("nobody")["Redis"]["found"]


def test_a_postgres_user_who_may_not_do_enough(
    tmp_path: Path, postgres: Postgres, postgres_database: str
) -> None:
    database = postgres_database.rpartition("/")[2]
    role = f"guest_{uuid.uuid4().hex}"
    dsn = postgres_database.replace(f"{postgres.user}@", f"{role}@")
    postgres.psql(f'CREATE ROLE "{role}" LOGIN')
    try:
        found = rows(examine(tmp_path, *records(dsn)))["PostgreSQL tables"]
        assert "may not create the schema" in found["found"]
        postgres.psql("CREATE SCHEMA edge_gateway", database)
        found = rows(examine(tmp_path, *records(dsn)))["PostgreSQL tables"]
        assert "is not ours" in found["found"]
        postgres.psql(f'REVOKE TEMPORARY ON DATABASE "{database}" FROM PUBLIC', database)
        found = rows(examine(tmp_path, *records(dsn)))["PostgreSQL tables"]
        assert "temporary tables" in found["found"]
        missing = f"{postgres_database}-missing"
        assert "does not exist" in rows(examine(tmp_path, *records(missing)))["PostgreSQL"]["found"]
        postgres.psql(f'ALTER DATABASE "{database}" SET default_transaction_read_only = on')
        found = rows(examine(tmp_path, *records(postgres_database)))["PostgreSQL"]
        assert "takes no writes" in found["found"]
    finally:
        postgres.psql(f'ALTER DATABASE "{database}" RESET default_transaction_read_only')
        postgres.psql(f'DROP ROLE "{role}"')


def test_a_driver_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", staticmethod(gone))
    config = Config(
        stream=KafkaStream(servers="127.0.0.1:1"),
        state=RedisState(url="redis://127.0.0.1:1"),
        records=PostgresRecords(dsn="postgresql://edge@127.0.0.1:1/edge"),
    )
    for check, extra in (
        (services.kafka, "kafka"),
        (services.redis, "redis"),
        (services.postgres, "postgres"),
    ):
        assert [*check(config)] == [
            Finding(
                Level.FAIL,
                f"{extra} driver",
                f"{services.DRIVERS[extra]} is not installed",
                f"pip install 'edge-gateway[{extra}]'",
            )
        ]


def test_nothing_is_said_of_what_is_not_configured(tmp_path: Path) -> None:
    told = rows(examine(tmp_path))
    assert not [what for what in told if what.startswith(("Kafka", "Redis", "PostgreSQL"))]


@pytest.mark.parametrize(
    ("ahead_s", "said"), [(0.4, ""), (-0.4, ""), (90.0, "90.0 s ahead"), (-2.5, "2.5 s behind")]
)
def test_clocks_that_differ(ahead_s: float, said: str) -> None:
    finding = clock_finding("clock", ahead_s)
    assert (finding.level is Level.WARN) == bool(said)
    assert said in finding.found
