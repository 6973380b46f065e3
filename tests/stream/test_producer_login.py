"""The producer's way in: TLS, SASL, and what it says when they are wrong."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config.model import KafkaStream
from gateway.core.errors import Unavailable
from gateway.stream.open import open_stream
from tests.services import need
from tests.services.certificates import make_certificates
from tests.services.kafka import Kafka, KafkaLogin
from tests.stream.producer_rig import BOX, SITE, config, insist, message, read, until

PASSWORD = "hush-hush-1234"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kafka, Path]]:
    """Return a broker that wants TLS and a login, and the authority of its certificate."""
    need("java")
    folder = tmp_path_factory.mktemp("strict")
    pem = make_certificates(folder / "pem")
    login = KafkaLogin({"edge": PASSWORD}, ca=pem.ca, cert=pem.cert, key=pem.key)
    with Kafka(folder / "kafka", login=login) as broker:
        yield broker, pem.ca


def settings_of(strict: tuple[Kafka, Path], folder: Path, **other: Any) -> KafkaStream:
    """Return a working login, but for ``other``."""
    broker, ca = strict
    secret = folder / "password"
    secret.write_text(f"{PASSWORD}\n")
    right = {"tls": True, "ca_file": str(ca), "sasl": "SCRAM-SHA-512", "user": "edge",
             "password_file": str(secret)}  # fmt: skip
    return config(broker.login_servers, **{**right, **other})


@pytest.mark.parametrize("sasl", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_every_login(
    strict: tuple[Kafka, Path], tmp_path: Path, sasl: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(strict, tmp_path, sasl=sasl)
    with caplog.at_level(logging.DEBUG):
        async with open_stream(settings, site=SITE, box=BOX, group="g") as stream:
            assert stream is not None
            await insist(lambda: stream.producer.send([message(1)]))
    assert [r.seq for r in await read(strict[0].servers, f"{settings.prefix}.pose", 1)] == [1]
    assert PASSWORD not in caplog.text
    assert "aiokafka" not in {record.name.partition(".")[0] for record in caplog.records}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"user": "somebody"}, "refuses our login"),
        ({"sasl": "PLAIN", "user": "somebody"}, "refuses our login"),
        ({"ca_file": ""}, "certificate verify failed"),
        ({"tls": False, "ca_file": ""}, "stream.tls"),
    ],
)
async def test_a_wrong_login_is_named(
    strict: tuple[Kafka, Path],
    tmp_path: Path,
    wrong: dict[str, Any],
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = settings_of(strict, tmp_path, timeout_s=1.0, **wrong)
    async with open_stream(settings, site=SITE, box=BOX, group="g") as stream:
        assert stream is not None
        producer = stream.producer
        await until(lambda: said in producer.status().detail)
        assert not producer.status().connected
        with pytest.raises(Unavailable):
            await producer.send([message(1)])
    assert PASSWORD not in caplog.text


async def test_a_file_that_appears_later(strict: tuple[Kafka, Path], tmp_path: Path) -> None:
    late = tmp_path / "late"
    settings = settings_of(strict, tmp_path, password_file=str(late))
    async with open_stream(settings, site=SITE, box=BOX, group="g") as stream:
        assert stream is not None
        producer = stream.producer
        await until(lambda: "stream.password_file" in producer.status().detail)
        late.write_text(PASSWORD)
        await until(lambda: producer.status().connected)
