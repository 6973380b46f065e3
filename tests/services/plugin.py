"""The pytest plugin: real servers as fixtures, each on a free port in a folder of its own."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.proxy import Proxy
from tests.services.kafka import Kafka
from tests.services.kafka_jars import need_jars, provide_jars
from tests.services.mosquitto import Mosquitto
from tests.services.postgres import Postgres
from tests.services.programs import USED, Missing, announce_with, need, provide
from tests.services.redis import Redis

_in_front_of_kafka: dict[Kafka, Proxy] = {}


@pytest.hookimpl(trylast=True)  # after pytest has made its reporter
def pytest_configure(config: pytest.Config) -> None:
    """Say what is installed on the terminal, not in a test's captured output."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    capture = config.pluginmanager.getplugin("capturemanager")
    if reporter is None or capture is None:
        return

    def write_line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.write_line(text)

    announce_with(write_line)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Install up front where nothing may be skipped, so that no test pays for it."""
    if os.environ.get("EDGE_REQUIRE_SERVICES") != "1" or session.config.option.collectonly:
        return
    try:
        for name in USED:
            provide(name)
        provide_jars()
    except Missing as missing:
        raise pytest.UsageError(f"EDGE_REQUIRE_SERVICES=1: {missing}") from None


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """Return a running broker of this test alone: anonymous, persistent, on 127.0.0.1."""
    need("mosquitto")
    with Mosquitto(tmp_path / "mosquitto") as broker:
        yield broker


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Return the Redis that all tests share: use a key prefix of your own, do not end it."""
    need("redis-server")
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Redis]:
    """Return a running Redis of this test alone, which keeps what it acknowledged over a kill."""
    need("redis-server")
    with Redis(tmp_path / "redis", durable=True) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return the PostgreSQL that all tests share: use ``postgres_database``, do not end it."""
    need("postgres")
    with Postgres(durable=False) as server:
        yield server


@pytest.fixture
def postgres_database(postgres: Postgres) -> Iterator[str]:
    """Return the URL of an empty database of this test alone; it is dropped afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """Return a running PostgreSQL of this test alone, which may be killed."""
    need("postgres")
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Return the Kafka that all tests share: topics of your own prefix, do not end it."""
    need("java")
    need_jars()
    folder = tmp_path_factory.mktemp("kafka")
    with Proxy() as proxy, Kafka(folder, proxy_port=proxy.port) as broker:
        proxy.aim("127.0.0.1", broker.proxied_port)
        _in_front_of_kafka[broker] = proxy
        yield broker
        del _in_front_of_kafka[broker]


@pytest.fixture
def kafka_proxy(kafka: Kafka) -> Iterator[Proxy]:
    """Return the proxy before the shared Kafka, for clients of ``kafka.proxied_servers``."""
    proxy = _in_front_of_kafka[kafka]
    yield proxy
    proxy.pass_()
    proxy.reset()


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Kafka]:
    """Return a running Kafka of this test alone, which may be killed."""
    need("java")
    need_jars()
    with Kafka(tmp_path / "kafka") as broker:
        yield broker
