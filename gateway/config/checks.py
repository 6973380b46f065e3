"""What no type can say: keys that must fit each other, this machine, and what exists by now."""

import ipaddress
import os
import stat
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.config import sharing
from gateway.config.bind import Problem
from gateway.config.model import (
    Config,
    EmbeddedBus,
    MqttBus,
)
from gateway.config.wording import nearest, show
from gateway.core.units import size_bytes

Found = Iterator[tuple[str, str]]
"""(key, what is wrong with it)"""

_SECRETS: Final = ("password_file", "key_file")


def problems(config: Config, where: Callable[[str], str]) -> list[Problem]:
    """Return what is wrong with ``config``; ``where`` says in which line a key was written."""
    checks = (
        _not_yet, _auth, _site, _bus, _journal,
        sharing.unchosen, sharing.stream, sharing.redis, sharing.postgres, _files,
    )  # fmt: skip
    return [Problem(where(key), key, text) for check in checks for key, text in check(config)]


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a listener on ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _not_yet(config: Config) -> Found:
    """Keys whose name is fixed, but whose feature is not there: refused, not ignored."""
    reserved = {
        "tls.hostname": (config.tls.hostname, "", "HTTPS"),
        "tls.cert_file": (config.tls.cert_file, "", "HTTPS"),
        "tls.key_file": (config.tls.key_file, "", "HTTPS"),
        "limits.enabled": (config.limits.enabled, False, "the limiter"),
        "filter.mode": (config.filter.mode, "off", "the request filter"),
        "upstream": (config.upstream, {}, "proxying to upstreams"),
        "route": (config.route, (), "a route table"),
    }
    for key, (value, default, feature) in reserved.items():
        if value != default:
            advice = "remove it" if default in ({}, ()) else f"leave it out or at {show(default)}"
            yield key, f"{feature} is not available in this version: {advice}"


def _auth(config: Config) -> Found:
    if config.auth.mode == "required":
        yield (
            "auth.mode",
            '"required" is not available in this version, logins do not exist yet: '
            'set "off" and keep every listener on loopback',
        )
        return
    listeners = {"http.host": config.http.host}
    if isinstance(config.bus, EmbeddedBus):
        listeners["bus.host"] = config.bus.host
    for key, host in listeners.items():
        if not is_loopback(host):
            yield (
                key,
                f'expected a loopback address while auth.mode is "off", found {show(host)}: '
                'set "127.0.0.1", so that nobody else on the network gets in without a login',
            )


def _site(config: Config) -> Found:
    name = config.site.timezone
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        hint = nearest(name, zoneinfo.available_timezones())
        yield (
            "site.timezone",
            f'expected an IANA time zone as "Asia/Seoul", found {show(name)}{hint}',
        )


def _bus(config: Config) -> Found:
    bus = config.bus
    levels = bus.prefix.split("/")
    if not all(levels) or any(c in bus.prefix for c in "+#\0") or bus.prefix.startswith("$"):
        yield (
            "bus.prefix",
            'expected topic levels as "smartair/v1", without wildcards, an empty level or a '
            f"leading $, found {show(bus.prefix)}",
        )
    if not isinstance(bus, MqttBus):
        return
    yield from _bus_url(bus)
    if bool(bus.cert_file) != bool(bus.key_file):
        missing, given = ("key_file", "cert_file") if bus.cert_file else ("cert_file", "key_file")
        yield f"bus.{missing}", f"is missing: a client certificate needs it beside {given}"
    if bus.password_file and not bus.user:
        yield "bus.user", "is missing: password_file is sent with a user name only"


def _bus_url(bus: MqttBus) -> Found:
    expected = 'expected "mqtt://host:1883" or "mqtts://host:8883"'
    try:
        url = urlsplit(bus.url)
        port = url.port
    except ValueError as exc:
        yield "bus.url", f"{expected}: {exc}"
        return
    if url.username is not None or url.password is not None:
        yield "bus.url", "holds a login: put the name in bus.user, the password in password_file"
    elif url.scheme not in ("mqtt", "mqtts") or not url.hostname or port == 0:
        yield "bus.url", f"{expected}, found {show(bus.url)}"
    elif url.path not in ("", "/") or url.query or url.fragment:
        yield "bus.url", f"{expected}, with nothing behind the port, found {show(bus.url)}"
    elif url.scheme == "mqtt":
        for key in ("ca_file", "cert_file", "key_file"):
            if getattr(bus, key):
                yield f"bus.{key}", "needs TLS: write bus.url with mqtts://"


def _journal(config: Config) -> Found:
    journal = config.journal
    if size_bytes(journal.segment_bytes) * 2 > size_bytes(journal.max_bytes):
        yield (
            "journal.max_bytes",
            f"expected at least two segments ({journal.segment_bytes} each), "
            f"found {show(journal.max_bytes)}",
        )


def _files(config: Config) -> Found:
    sections = {
        "tls": config.tls,
        "bus": config.bus,
        "records": config.records,
        "state": config.state,
        "stream": config.stream,
    }
    named = {
        f"{section}.{name}": getattr(values, name)
        for section, values in sections.items()
        for name in values.__struct_fields__
        if name.endswith("_file")
    }
    for key, name in named.items():
        if name:
            yield from _file(key, Path(name), secret=key.endswith(_SECRETS))


def _file(key: str, path: Path, *, secret: bool) -> Found:
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        yield key, f"{path}: {exc.strerror}"
        return
    if not stat.S_ISREG(mode):
        yield key, f"{path}: expected a file"
    elif not os.access(path, os.R_OK):
        yield key, f"{path}: this user may not read it"
    elif secret and mode & stat.S_IROTH:
        yield key, f"{path}: everybody on this machine can read this secret: chmod 600 {path}"
