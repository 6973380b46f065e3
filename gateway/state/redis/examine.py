"""The doctor's look at Redis: who answers, and whether our user may do what the gateway does."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from redis.exceptions import ResponseError

from gateway.config.model import ConfigError, RedisState
from gateway.config.redisurl import RedisUrl, parse_redis_url
from gateway.core.findings import Finding, Level, clock_finding
from gateway.state.redis.dial import Dialer, make_tls
from gateway.state.redis.link import Away, refusal
from gateway.state.redis.names import Names
from gateway.state.redis.pool import Command, script
from gateway.state.redis.scripts import COMPARE_AND_SET
from gateway.state.redis.servers import Servers
from gateway.state.redis.store import servers_of

_OLDEST: Final = 6  # the first that knows ACL users
_LIFE_MS: Final = 10_000  # of the key that is written to try it
_START: Final = "start it, or mend url, user and password_file of [state]"
_ALLOW: Final = "let the user do it: docs/state.md shows an ACL that is enough"


async def examine(config: RedisState) -> AsyncIterator[Finding]:
    """Yield whether it lets us in, its version, what our user may do, and its clock."""
    try:
        url = parse_redis_url(config.url)
        dialer = Dialer(config, url, await asyncio.to_thread(make_tls, config, url))
    except (ValueError, ConfigError) as exc:
        yield Finding(Level.FAIL, "Redis", str(exc), "mend [state]")
        return
    try:
        async for finding in _look(config, url, dialer):
            yield finding
    except Away as away:
        yield Finding(Level.FAIL, "Redis", str(away), _START, service=True)
    finally:
        dialer.close()


async def _look(config: RedisState, url: RedisUrl, dialer: Dialer) -> AsyncIterator[Finding]:
    servers = servers_of(dialer, url, 2)
    await servers.probe()
    (hello,) = await servers.run([Command(b"", ("HELLO",))])
    version = _version(hello)
    if version and int(version.partition(".")[0]) < _OLDEST:
        found, advice = f"version {version}", f"install Redis {_OLDEST} or later"
        yield Finding(Level.FAIL, "Redis", found, advice, service=True)
    else:
        found = f"lets us in, {url.arrangement}, version {version or 'not told'}"
        yield Finding(Level.OK, "Redis", found)
    yield await _rights(config, servers)
    before_s = time.time()
    (told,) = await servers.run([Command(b"", ("TIME",))])
    if isinstance(told, list):
        server_s = int(told[0]) + int(told[1]) / 1e6
        yield clock_finding("Redis clock", server_s - (before_s + time.time()) / 2)


async def _rights(config: RedisState, servers: Servers) -> Finding:
    """Try what the gateway does: a script that writes, reading, deleting, and a message."""
    names = Names(config.prefix, servers.buckets)
    key = names.key(f"doctor-{os.getpid()}")
    channel = names.channel("doctor")
    value = ("", "", "1", b"x", _LIFE_MS)
    tries = {
        "run Lua scripts (EVAL, EVALSHA)": script(COMPARE_AND_SET, (key,), value),
        f"read keys {config.prefix}:*": Command(key, ("GET", key)),
        f"delete keys {config.prefix}:*": Command(key, ("DEL", key)),
        f"use channels {config.prefix}:channel:*": Command(channel, ("PUBLISH", channel, b"x")),
    }
    for what, command in tries.items():
        (reply,) = await servers.run([command])
        if isinstance(reply, ResponseError):
            found = f"does not let us {what}: {refusal(reply)}"
            return Finding(Level.FAIL, "Redis rights", found, _ALLOW, service=True)
    return Finding(Level.OK, "Redis rights", f"Lua, keys and channels under {config.prefix}:")


def _version(hello: Any) -> str:
    """Return "7.0.15" from the flat list that HELLO answers, "" where it is not told."""
    if not isinstance(hello, list):
        return ""
    told = dict(zip(hello[::2], hello[1::2], strict=False))
    version = told.get(b"version", b"").decode("ascii", "replace")
    return version if version[:1].isdecimal() else ""
