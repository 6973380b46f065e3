"""Makes connections, knows the open ones, and can cut them all for a drill."""

import asyncio
import ssl
from typing import Final

from gateway.config.model import ConfigError, RedisState
from gateway.config.redisurl import Address, RedisUrl
from gateway.state.redis.link import Away, Cut, Link, Login

CUT: Final = "it is cut off by a drill"


class Dialer:
    """Opens links with the login and the TLS of the configuration."""

    def __init__(self, config: RedisState, url: RedisUrl, tls: ssl.SSLContext | None) -> None:
        self.timeout_s = config.timeout_s
        self.connects = 0
        self.failures = 0
        self._tls = tls
        self._db = url.db
        self._login = _login(config.user, config.password_file)
        self._sentinel_login = _login("", config.sentinel_password_file)
        self._links: set[Link] = set()
        self._cut = False

    @property
    def open(self) -> int:
        """The number of connections, those that are being made included."""
        return len(self._links)

    async def dial(self, address: Address, *, sentinel: bool = False) -> Link:
        """Return a new connection, logged in. Raises Away, at the latest after ``timeout_s``."""
        if self._cut:
            raise Cut(CUT)
        login, db = (self._sentinel_login, 0) if sentinel else (self._login, self._db)
        link = Link(
            address,
            tls=self._tls,
            login=login,
            db=db,
            timeout_s=self.timeout_s,
            on_end=self._links.discard,
        )
        self._links.add(link)
        try:
            async with asyncio.timeout(self.timeout_s):
                await link.open()
        except TimeoutError as exc:
            self.failures += 1
            raise Away("it does not answer in time") from exc
        except Away:
            self.failures += 1
            raise
        if self._cut:  # while it was being made
            link.abort()
            raise Cut(CUT)
        self.connects += 1
        return link

    def sever(self, cut: bool) -> None:  # noqa: FBT001 - a switch
        """Abort every connection, and make none while ``cut``."""
        self._cut = cut
        if cut:
            self.close()

    def close(self) -> None:
        """Abort every connection."""
        for link in tuple(self._links):
            link.abort()


def make_tls(config: RedisState, url: RedisUrl) -> ssl.SSLContext | None:
    """Return the TLS of ``config``, None if the URL asks for none. Reads files, so it may block.

    Raises:
        ConfigError: a file cannot be used.
    """
    if not url.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=config.ca_file or None)
    except OSError as exc:
        raise ConfigError(f"state.ca_file: {config.ca_file}: {exc.strerror or exc}") from exc
    if config.cert_file:
        try:
            context.load_cert_chain(config.cert_file, config.key_file or None)
        except OSError as exc:
            found = f"{config.cert_file}, {config.key_file}: {exc.strerror or exc}"
            raise ConfigError(f"state.cert_file, state.key_file: {found}") from exc
    return context


def _login(user: str, password_file: str) -> Login | None:
    return Login(user, password_file) if user or password_file else None
