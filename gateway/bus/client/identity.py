"""Who the gateway is to the broker: address, login, certificates."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.config.model import ConfigError, MqttBus

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


class Unusable(Exception):
    """A file of the configuration cannot be used now; the message names the key, not the file."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker is."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """What proves who we are. ``repr`` hides the password."""

    user: str | None
    password: str | None
    tls: ssl.SSLContext | None

    def __repr__(self) -> str:
        return f"Login(user={self.user!r})"


def parse_address(url: str) -> Address:
    """Return where ``bus.url`` points.

    Raises:
        ConfigError: it is not mqtt://host[:port] or mqtts://host[:port].
    """
    wanted = "bus.url: expected mqtt://host:1883 or mqtts://host:8883"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{wanted}: {error}") from error
    if parts.username is not None or parts.password is not None:
        raise ConfigError("bus.url: no login here; use bus.user and bus.password_file")
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ConfigError(f"{wanted}, found {url!r}")
    return Address(parts.hostname, port or _PORTS[parts.scheme], tls=parts.scheme == "mqtts")


def load_login(config: MqttBus, *, tls: bool) -> Login:
    """Read the secrets and certificates; blocking, call it in a worker thread.

    Read at every connect, so that a renewed file is used without a restart.

    Raises:
        Unusable: a file is missing, unreadable or not what it should be.
    """
    password = None
    if config.user and config.password_file:
        try:
            password = Path(config.password_file).read_text("utf-8").rstrip("\r\n")
        except OSError as error:
            raise Unusable(f"bus.password_file: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise Unusable("bus.password_file: not UTF-8") from error
    return Login(config.user or None, password, _context(config) if tls else None)


def _context(config: MqttBus) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise Unusable(f"bus.ca_file: {error.strerror or 'not certificates'}") from error
    if config.cert_file:
        try:
            context.load_cert_chain(config.cert_file, config.key_file or None, _no_password)
        except (OSError, ssl.SSLError) as error:
            what = error.strerror or "not a certificate and its key"
            raise Unusable(f"bus.cert_file, bus.key_file: {what}") from error
    return context


def _no_password() -> str:
    """Answer for an encrypted key: without this, OpenSSL would ask on the terminal."""
    return ""
