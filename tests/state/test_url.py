"""The URLs of state.url, good and bad."""

import pytest

from gateway.config.model import ConfigError, RedisState
from gateway.config.redisurl import RedisUrl, parse_redis_url
from gateway.state.open import open_state

GOOD = {
    "redis://h": RedisUrl("standalone", False, (("h", 6379),), "", 0),
    "redis://h:1/3": RedisUrl("standalone", False, (("h", 1),), "", 3),
    "rediss://[::1]:7/": RedisUrl("standalone", True, (("::1", 7),), "", 0),
    "redis+sentinel://a:1,b/edge/2": RedisUrl(
        "sentinel", False, (("a", 1), ("b", 26379)), "edge", 2
    ),
    "rediss+sentinel://a/edge": RedisUrl("sentinel", True, (("a", 26379),), "edge", 0),
    "redis+cluster://a:1,b:2": RedisUrl("cluster", False, (("a", 1), ("b", 2)), "", 0),
    "rediss+cluster://a/0": RedisUrl("cluster", True, (("a", 6379),), "", 0),
}
BAD = {
    "": "expected",
    "localhost:6379": "expected",
    "http://h": 'the scheme "http"',
    "redis://": "host:port",
    "redis://h:0": "port",
    "redis://h:99999": "port",
    "redis://h:x": "host:port",
    "redis://a,b": "several servers",
    "redis://h/x": "database",
    "redis://h/0/1": "database",
    "redis://h?db=1": "behind",
    "redis://edge:geheim@h": "state.password_file",
    "redis+sentinel://a": "service",
    "redis+sentinel://a/": "service",
    "redis+sentinel://a/ser vice": "service",
    "redis+cluster://a/2": "no databases",
    "redis+cluster://a,,b": "host:port",
}


@pytest.mark.parametrize("url", GOOD)
def test_a_good_url_says_where(url: str) -> None:
    assert parse_redis_url(url) == GOOD[url]


@pytest.mark.parametrize("url", BAD)
async def test_a_bad_url_names_the_key_and_the_part(url: str) -> None:
    with pytest.raises(ValueError, match=BAD[url]) as found:
        parse_redis_url(url)
    assert "geheim" not in str(found.value)
    with pytest.raises(ConfigError, match=r"^state\.url: ") as refused:
        async with open_state(RedisState(url=url)):
            pytest.fail("it opened")
    assert BAD[url] in str(refused.value)
    assert "geheim" not in str(refused.value)
