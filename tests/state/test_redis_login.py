"""Who the gateway is to Redis: passwords, ACL users, certificates, and their absence."""

import asyncio
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config.model import ConfigError, RedisState
from gateway.core.errors import Unavailable
from gateway.state.open import open_state
from gateway.state.port import Newest, StateStore
from tests.services import need
from tests.services.certificates import Certificates, make_certificates
from tests.services.process import free_port
from tests.services.redis import Redis, RedisTls
from tests.services.redis_sentinel import RedisSentinel
from tests.state.waiting import answers, heard, marked, until

SECRET = "correct-horse"
USER = f"user edge on >{SECRET} ~smartair:* &smartair:* +@all -@dangerous -@admin"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Redis]:
    """Return a server with the ACL user ``edge`` and a default user with a password."""
    need("redis-server")
    with Redis(tmp_path / "redis", password="root-secret", users=[USER]) as server:
        yield server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls_redis(tmp_path: Path, certificates: Certificates) -> Iterator[Redis]:
    """Return a server whose TLS port asks for a client's certificate."""
    need("redis-server")
    c = certificates
    tls = RedisTls(c.ca, c.cert, c.key, free_port(), mutual=True)
    with Redis(tmp_path / "redis", tls=tls) as server:
        yield server


def secret(folder: Path, text: str) -> str:
    path = folder / "secret"
    path.write_text(f"{text}\n")
    return str(path)


async def everything(store: StateStore) -> None:
    """Use every call once."""
    await answers(store)
    await store.ping()
    assert await store.compare_and_set("a", None, b"1", ttl_s=300)
    await store.set("a", b"2", ttl_s=300)
    await store.put_newest("g", [Newest("r", 1, 1, 1, b"1")], ttl_s=300)
    assert dict(await store.newest("g")) == {"r": b"1"}
    assert await store.delete("a")
    async with store.subscribe("c") as subscription:
        await marked(subscription)
        await store.publish("c", b"1")
        assert await heard(subscription, 1) == [b"1"]
    await until(lambda: store.status().connected)


async def test_an_acl_user_without_dangerous_commands_is_enough(
    guarded: Redis, tmp_path: Path
) -> None:
    config = RedisState(
        url=f"redis://127.0.0.1:{guarded.port}/0",
        user="edge",
        password_file=secret(tmp_path, SECRET),
    )
    async with open_state(config) as store:
        await everything(store)


async def test_the_default_user_needs_a_password_only(guarded: Redis, tmp_path: Path) -> None:
    password_file = secret(tmp_path, "root-secret")
    config = RedisState(url=f"redis://127.0.0.1:{guarded.port}/3", password_file=password_file)
    async with open_state(config) as store:
        await everything(store)


async def test_a_key_outside_of_the_acl_is_refused_with_the_reason(
    guarded: Redis, tmp_path: Path
) -> None:
    config = RedisState(
        url=f"redis://127.0.0.1:{guarded.port}/0",
        user="edge",
        password_file=secret(tmp_path, SECRET),
        prefix="other",
    )
    async with open_state(config) as store:
        await until(lambda: store.status().connected)
        with pytest.raises(Unavailable, match="ACL"):
            await store.get("a")
        with pytest.raises(Unavailable, match="ACL"):
            await store.put_newest("g", [Newest("r", 1, 1, 1, b"1")], ttl_s=300)


async def test_a_wrong_password_is_told_but_not_shown_and_a_right_one_heals(
    guarded: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    config = RedisState(
        url=f"redis://127.0.0.1:{guarded.port}/0",
        user="edge",
        password_file=secret(tmp_path, "wrong-staple"),
    )
    async with open_state(config) as store:
        await until(lambda: "login" in store.status().detail)
        with pytest.raises(Unavailable, match="refuses the login") as failure:
            await store.get("a")
        seen = [caplog.text, store.status().detail, repr(failure.value), str(failure.value)]
        assert all("wrong-staple" not in text for text in seen)
        await asyncio.to_thread(secret, tmp_path, SECRET)  # the file is read at each connection
        await everything(store)
    assert SECRET not in caplog.text


async def test_without_a_password_it_says_that_one_is_asked_for(guarded: Redis) -> None:
    async with open_state(RedisState(url=f"redis://127.0.0.1:{guarded.port}/0")) as store:
        await until(lambda: "login" in store.status().detail)
        with pytest.raises(Unavailable):
            await store.get("a")


async def test_a_password_file_that_is_gone_is_named_by_its_key(guarded: Redis) -> None:
    config = RedisState(url=f"redis://127.0.0.1:{guarded.port}/0", password_file="/nowhere/secret")
    async with open_state(config) as store:
        await until(lambda: "password file" in store.status().detail)
        assert "/nowhere" not in store.status().detail


async def test_tls_with_a_client_certificate(tls_redis: Redis, certificates: Certificates) -> None:
    config = RedisState(
        url=tls_redis.tls_url,
        ca_file=str(certificates.ca),
        cert_file=str(certificates.client_cert),
        key_file=str(certificates.client_key),
    )
    async with open_state(config) as store:
        await everything(store)
        store.sever(True)
        store.sever(False)
        await answers(store)


@pytest.mark.parametrize(
    ("with_ca", "url", "reason"),
    [
        (False, "rediss", "certificate is not accepted"),
        (True, "rediss", "TLS failed|connection"),
        (True, "redis", "connection"),
    ],
)
async def test_tls_that_does_not_fit_is_told(
    tls_redis: Redis, certificates: Certificates, with_ca: bool, url: str, reason: str
) -> None:
    assert tls_redis.tls is not None
    config = RedisState(
        url=f"{url}://localhost:{tls_redis.tls.port}/0",
        ca_file=str(certificates.ca) if with_ca else "",
        timeout_s=1.0,
    )
    async with open_state(config) as store:
        await until(lambda: "not asked" not in store.status().detail)
        assert not store.status().connected
        assert re.search(reason, store.status().detail)
        with pytest.raises(Unavailable):
            await store.get("a")


@pytest.mark.parametrize("key", ["ca_file", "cert_file"])
async def test_a_certificate_that_cannot_be_used_stops_the_start(
    tmp_path: Path, certificates: Certificates, key: str
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for path in (str(broken), str(tmp_path / "missing.pem")):
        config = RedisState(
            url="rediss://127.0.0.1",
            ca_file=path if key == "ca_file" else str(certificates.ca),
            cert_file=path if key == "cert_file" else "",
            key_file=str(certificates.client_key),
        )
        with pytest.raises(ConfigError, match=rf"^state\.{key}"):
            async with open_state(config):
                pytest.fail("it opened")


async def test_sentinels_have_a_password_of_their_own(tmp_path: Path) -> None:
    need("redis-server")
    sentinel_file = tmp_path / "sentinel-secret"
    sentinel_file.write_text("sentinel-horse")
    servers = RedisSentinel(
        tmp_path / "servers", password=SECRET, sentinel_password="sentinel-horse"
    )
    with servers:
        config = RedisState(
            url=servers.url,
            password_file=secret(tmp_path, SECRET),
            sentinel_password_file=str(sentinel_file),
        )
        async with open_state(config) as store:
            await everything(store)
