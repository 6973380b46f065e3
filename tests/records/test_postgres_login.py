"""Logins and TLS of PostgreSQL history, on a server that insists on both."""

import asyncio
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config.model import ConfigError, PostgresRecords
from gateway.core.errors import Unavailable
from gateway.records.open import open_records
from tests.services import need
from tests.services.certificates import Certificates, make_certificates
from tests.services.postgres import Postgres

PASSWORD = "hunter2-und-ü"


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    """Return certificates in a folder that the server's user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="edge-gateway-tls-"))
    folder.chmod(0o755)
    yield make_certificates(folder / "pem")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[Postgres]:
    """Return a server with TLS that asks for a password."""
    need("postgres")
    files = [f"ssl_cert_file={certificates.cert}", f"ssl_key_file={certificates.key}"]
    made = Postgres(["ssl=on", *files], password=PASSWORD, durable=False)
    if made._as is not None:
        os.chown(certificates.key, pwd.getpwnam(made._as).pw_uid, -1)
    with made:
        yield made


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    return path


def config(
    server: Postgres, query: str, *, password_file: str = "", ca_file: str = ""
) -> PostgresRecords:
    dsn = f"postgresql://edge@localhost:{server.port}/postgres{query}"
    return PostgresRecords(dsn=dsn, password_file=password_file, ca_file=ca_file)


@pytest.mark.parametrize(
    ("query", "trusts", "encrypted"),
    [
        pytest.param("?sslmode=verify-full", True, True, id="verified"),
        pytest.param("?sslmode=verify-ca", True, True, id="authority verified"),
        pytest.param("", True, True, id="ca_file alone verifies"),
        pytest.param("?sslmode=require", False, True, id="encrypted only"),
        pytest.param("?sslmode=prefer", False, True, id="prefer"),
        pytest.param("", False, True, id="nothing said: prefer"),
        pytest.param("?sslmode=disable", False, False, id="off"),
    ],
)
async def test_tls_is_as_sslmode_says(
    server: Postgres,
    certificates: Certificates,
    password_file: Path,
    tmp_path: Path,
    query: str,
    *,
    trusts: bool,
    encrypted: bool,
) -> None:
    ca_file = str(certificates.ca) if trusts else ""
    secret = config(server, query, password_file=str(password_file), ca_file=ca_file)
    async with open_records(secret, tmp_path) as store:
        await store.ping()
        session = store._pool._idle[0]  # type: ignore[attr-defined]
        asked = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert await session.connection.fetchval(asked) is encrypted


async def test_a_certificate_nobody_vouches_for_is_refused(
    server: Postgres, password_file: Path, tmp_path: Path
) -> None:
    wrong = config(server, "?sslmode=verify-full", password_file=str(password_file))
    async with open_records(wrong, tmp_path) as store:
        with pytest.raises(Unavailable, match="not trusted"):
            await store.ping()


async def test_a_server_without_tls_is_refused_where_tls_is_asked_for(
    postgres: Postgres, tmp_path: Path
) -> None:
    async with open_records(config(postgres, "?sslmode=require"), tmp_path) as store:
        with pytest.raises(Unavailable):
            await store.ping()


@pytest.mark.parametrize("wrong", ["", "guessed"])
async def test_a_wrong_password_is_named_and_never_shown(
    server: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    caplog.set_level("DEBUG")
    path = tmp_path / "password"
    path.write_text(wrong)
    async with open_records(config(server, "", password_file=str(path)), tmp_path) as store:
        with pytest.raises(Unavailable, match="refuses the login") as caught:
            await store.ping()
    seen = caplog.text + repr(caught.value) + caught.value.detail
    assert "refuses the login" in seen
    assert "postgresql://" not in seen
    assert not wrong or wrong not in seen


async def test_a_password_file_that_comes_later_is_read(
    server: Postgres, password_file: Path, tmp_path: Path
) -> None:
    later = tmp_path / "later"
    async with open_records(config(server, "", password_file=str(later)), tmp_path) as store:
        with pytest.raises(Unavailable, match="password_file"):
            await store.ping()
        password_file.rename(later)
        store.sever(True)  # look again now
        store.sever(False)
        async with asyncio.timeout(60):
            while True:
                try:
                    await store.ping()
                except Unavailable:
                    await asyncio.sleep(0.02)
                else:
                    return


async def test_a_dsn_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="scheme"):
        async with open_records(PostgresRecords(dsn="mysql://x"), tmp_path):
            pytest.fail("opened")
