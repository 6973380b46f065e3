"""The Redis that other tests rely on does what they rely on."""

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis as Client
from redis.exceptions import NoPermissionError
from redis.exceptions import TimeoutError as NoAnswer

from tests.services import need
from tests.services.redis import Redis


async def test_the_shared_server_answers(redis_server: Redis) -> None:
    async with Client.from_url(redis_server.url) as client:
        await client.set("services:a", "1")
        assert await client.get("services:a") == b"1"


async def test_what_was_acknowledged_survives_a_kill(own_redis: Redis) -> None:
    async with Client.from_url(own_redis.url) as client:
        await client.set("a", "1")
    port = own_redis.port
    own_redis.kill()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", port)
    own_redis.start()
    assert own_redis.port == port
    async with Client.from_url(own_redis.url) as client:
        assert await client.get("a") == b"1"


async def test_a_frozen_server_is_silent_until_thawed(own_redis: Redis) -> None:
    async with Client.from_url(own_redis.url, retry=None, socket_timeout=0.2) as client:
        await client.set("a", "1")
        own_redis.freeze()
        with pytest.raises(NoAnswer):
            await client.get("a")
        own_redis.thaw()
    async with Client.from_url(own_redis.url) as client:
        assert await client.get("a") == b"1"


async def test_users_have_their_rights_only(tmp_path: Path) -> None:
    need("redis-server")
    users = ["user edge on >secret ~edge:* &edge:* +@all -@dangerous"]
    with Redis(tmp_path / "redis", password="root's", users=users) as server:
        async with Client(port=server.port, username="edge", password="secret") as client:
            await client.set("edge:a", "1")
            with pytest.raises(NoPermissionError):
                await client.set("other", "1")
        async with Client.from_url(server.url) as client:
            assert await client.get("edge:a") == b"1"
