"""Sentinel, cluster and TLS: what they promise, seen through redis-py."""

import asyncio
from pathlib import Path

from redis.asyncio import Redis as Client
from redis.asyncio.cluster import RedisCluster as ClusterClient
from redis.asyncio.sentinel import Sentinel as SentinelClient

from tests.services import need
from tests.services.certificates import make_certificates
from tests.services.process import free_port
from tests.services.redis import Redis, RedisTls
from tests.services.redis_cluster import RedisCluster
from tests.services.redis_sentinel import RedisSentinel


async def test_the_replica_takes_over_when_the_master_is_killed(tmp_path: Path) -> None:
    need("redis-server")
    with RedisSentinel(tmp_path, password="a", sentinel_password="b") as watched:
        places = [("127.0.0.1", sentinel.port) for sentinel in watched.sentinels]
        finder = SentinelClient(  # type: ignore[no-untyped-call]
            places, sentinel_kwargs={"password": "b"}, password="a"
        )
        async with finder.master_for(watched.service) as client:
            await client.set("a", "1")
            assert await client.wait(1, 20_000) == 1  # the replica has it
            first, second = watched.instances
            assert watched.master() is first
            first.kill()
            await asyncio.to_thread(watched.wait_for_master, second)
        async with finder.master_for(watched.service) as client:
            assert await client.get("a") == b"1"
        for sentinel_client in finder.sentinels:
            await sentinel_client.aclose()


async def test_a_cluster_serves_all_keys_again_after_a_node_was_killed(tmp_path: Path) -> None:
    need("redis-server")
    with RedisCluster(tmp_path, password="a") as cluster:
        async with ClusterClient("127.0.0.1", cluster.nodes[0].port, password="a") as client:
            for number in range(30):
                await client.set(f"{number}", number)
        kept = 0
        cluster.nodes[1].kill()
        await asyncio.to_thread(cluster.nodes[1].start)
        await asyncio.to_thread(cluster.wait_until_served)
        async with ClusterClient("127.0.0.1", cluster.nodes[0].port, password="a") as client:
            for number in range(30):
                kept += await client.exists(f"{number}")
        assert 0 < kept < 30  # the node that was killed kept nothing


async def test_a_tls_port_speaks_to_clients_with_a_certificate(tmp_path: Path) -> None:
    need("redis-server")
    pem = make_certificates(tmp_path / "pem")
    tls = RedisTls(pem.ca, pem.cert, pem.key, free_port(), mutual=True)
    with Redis(tmp_path / "redis", tls=tls) as server:
        async with Client.from_url(
            server.tls_url,
            ssl_ca_certs=str(pem.ca),
            ssl_certfile=str(pem.client_cert),
            ssl_keyfile=str(pem.client_key),
        ) as client:
            assert await client.ping()
