"""Where a gateway answers; where the simulator sends to, and how much."""

import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from gateway.config.model import Config, MqttBus


def gateway_url(config: Config, url: str) -> str:
    """Return where the gateway answers: ``url`` if given by hand, else by its configuration."""
    host = f"[{config.http.host}]" if ":" in config.http.host else config.http.host
    return url.rstrip("/") or f"http://{host}:{config.http.port or 8080}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A broker and the topics on it."""

    host: str
    port: int
    prefix: str
    site: str
    user: str = ""
    password: str = ""
    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    @classmethod
    def of(
        cls, config: Config, *, host: str = "", port: int = 0, prefix: str = "", site: str = ""
    ) -> Self:
        """Return the bus of ``config``; what is given by hand comes first.

        With a host given by hand, the login and the TLS files of ``config`` are not sent to it.
        """
        bus, site = config.bus, site or config.site.id
        prefix = prefix or bus.prefix
        if host:
            return cls(host=host, port=port or 1883, prefix=prefix, site=site)
        if not isinstance(bus, MqttBus):
            return cls(host=bus.host, port=port or bus.port or 1883, prefix=prefix, site=site)
        url = urlsplit(bus.url)
        tls = url.scheme == "mqtts"
        return cls(
            host=url.hostname or "",
            port=port or url.port or (8883 if tls else 1883),
            prefix=prefix,
            site=site,
            user=bus.user,
            password=_secret(bus.password_file),
            tls=tls,
            ca_file=bus.ca_file,
            cert_file=bus.cert_file,
            key_file=bus.key_file,
        )

    def at(self, host: str, port: int) -> Self:
        """Return the same on another address."""
        return replace(self, host=host, port=port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many robots do what, for how long (0 s: until a signal)."""

    robots: int
    hz: float
    qos: int = 0
    duration_s: float = 0.0
    seed: int = 1
    connections: int = 100


def tls_context(target: Target) -> ssl.SSLContext | None:
    """Return how to check the broker and to show who we are; None without TLS."""
    if not target.tls:
        return None
    context = ssl.create_default_context(cafile=target.ca_file or None)
    if target.cert_file:
        context.load_cert_chain(target.cert_file, target.key_file)
    return context


def _secret(file: str) -> str:
    return Path(file).read_text(encoding="utf-8").strip("\r\n") if file else ""
