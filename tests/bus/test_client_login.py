"""Who the client backend is to a real Mosquitto: passwords, certificates, and their absence."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.bus.client.session import connect
from gateway.config.model import MqttBus
from tests.bus.client_rig import QUICK, SITE, Basket, eventually
from tests.services import need
from tests.services.mosquitto import Mosquitto

PASSWORD = "correct horse"


def _certificate(folder: Path, name: str, *, issuer: str = "", san: str = "") -> None:
    """Make ``name``.pem and ``name``.key: an authority of its own, or issued by ``issuer``."""
    openssl = str(need("openssl"))
    key, request, made = (str(folder / f"{name}.{end}") for end in ("key", "csr", "pem"))
    subject = ["-newkey", "rsa:2048", "-nodes", "-keyout", key, "-subj", f"/CN={name}"]
    if not issuer:
        command = [openssl, "req", "-x509", *subject, "-days", "2", "-out", made]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return
    command = [openssl, "req", *subject, "-out", request]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={san}\n" if san else "")
    authority = ["-CA", f"{folder}/{issuer}.pem", "-CAkey", f"{folder}/{issuer}.key"]
    command = [openssl, "x509", "-req", "-in", request, *authority, "-CAcreateserial"]
    command += ["-days", "2", "-extfile", str(extensions), "-out", made]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ca, other-ca, server (for 127.0.0.1) and client."""
    folder = tmp_path_factory.mktemp("certificates")
    _certificate(folder, "ca")
    _certificate(folder, "other-ca")
    _certificate(folder, "server", issuer="ca", san="IP:127.0.0.1")
    _certificate(folder, "client", issuer="ca")
    return folder


@pytest.fixture
def tls_broker(tmp_path: Path, certificates: Path) -> Iterator[Mosquitto]:
    """Return a broker that speaks TLS only and wants a client certificate."""
    options = [
        f"cafile {certificates}/ca.pem",
        f"certfile {certificates}/server.pem",
        f"keyfile {certificates}/server.key",
        "require_certificate true",
    ]
    with Mosquitto(tmp_path / "mosquitto", options) as broker:
        yield broker


@pytest.fixture
def login_broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """Return a broker that knows the user ``gateway`` only."""
    users = tmp_path / "users"
    command = [str(need("mosquitto_passwd")), "-c", "-b", str(users), "gateway", PASSWORD]
    subprocess.run(command, check=True, timeout=10)
    options = ["allow_anonymous false", f"password_file {users}"]
    with Mosquitto(tmp_path / "mosquitto", options) as broker:
        yield broker


async def test_tls_with_a_client_certificate(tls_broker: Mosquitto, certificates: Path) -> None:
    config = MqttBus(
        url=f"mqtts://127.0.0.1:{tls_broker.port}",
        ca_file=str(certificates / "ca.pem"),
        cert_file=str(certificates / "client.pem"),
        key_file=str(certificates / "client.key"),
    )
    basket = Basket()
    async with connect(config, basket, site=SITE, backoff=QUICK) as bus:
        await eventually(lambda: bus.control.connected)
        assert bus.status().connected
        for number in range(50):  # both connections, both directions
            await bus.publish("smartair/v1/home/r1/pose", b"%d" % number)
        await basket.holds(*(b"%d" % number for number in range(50)))


@pytest.mark.parametrize(
    ("ca", "own", "reason"),
    [
        ("other-ca.pem", "client", "certificate verify failed"),
        ("", "client", "certificate verify failed"),
        ("ca.pem", "", ""),  # TLS 1.3 tells the client only later, in words of its own
        ("missing.pem", "client", "bus.ca_file: No such file"),
        ("ca.pem", "missing", "bus.cert_file, bus.key_file: No such file"),
    ],
)
async def test_tls_that_cannot_be(
    tls_broker: Mosquitto, certificates: Path, ca: str, own: str, reason: str
) -> None:
    config = MqttBus(
        url=f"mqtts://127.0.0.1:{tls_broker.port}",
        ca_file=str(certificates / ca) if ca else "",
        cert_file=str(certificates / f"{own}.pem") if own else "",
        key_file=str(certificates / f"{own}.key") if own else "",
    )
    async with connect(config, Basket(), site=SITE, backoff=QUICK) as bus:
        await eventually(lambda: bus.figures()["failures"] >= 2)
        assert not bus.status().connected
        assert reason in bus.status().detail
        assert str(certificates) not in bus.status().detail


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_user_and_password(
    login_broker: Mosquitto, tmp_path: Path, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    config = MqttBus(
        url=login_broker.url,
        user="gateway",
        password_file=str(secret),
        protocol="5" if protocol == "5" else "3.1.1",
    )
    with caplog.at_level("DEBUG"):
        async with connect(config, Basket(), site=SITE, backoff=QUICK) as bus:
            await eventually(lambda: "refused: " in bus.status().detail)
            assert not bus.status().connected
            secret.write_text(PASSWORD + "\n")  # read again at every attempt
            await eventually(lambda: bus.control.connected)
            assert bus.status().connected
    assert PASSWORD not in caplog.text
    assert str(tmp_path) not in bus.status().detail


async def test_a_missing_password_file_is_named_by_its_key(mosquitto: Mosquitto) -> None:
    config = MqttBus(url=mosquitto.url, user="gateway", password_file="/nowhere/secret")
    async with connect(config, Basket(), site=SITE, backoff=QUICK) as bus:
        await eventually(lambda: "bus.password_file: No such file" in bus.status().detail)
