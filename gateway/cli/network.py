"""The doctor on ports and on the broker."""

import asyncio
import errno
import http.client
import os
import socket
from collections.abc import Iterator
from typing import Final

from gateway.config.model import Config, EmbeddedBus, MqttBus
from gateway.core.findings import Finding, Level

_TIMEOUT_S: Final = 3.0


def ports(config: Config) -> Iterator[Finding]:
    """Whether the listeners can open, or a gateway already has them open."""
    http_host, http_port = config.http.host, config.http.port
    running = _is_gateway(http_host, http_port)
    yield _port("port HTTP", "http.port", http_host, http_port, running=running)
    if isinstance(config.bus, EmbeddedBus):
        bus = config.bus
        yield _port("port MQTT", "bus.port", bus.host, bus.port, running=running)


def taken(config: Config) -> list[str]:
    """Return why listeners cannot open, one sentence each."""
    listeners = {"http.port": (config.http.host, config.http.port)}
    if isinstance(config.bus, EmbeddedBus):
        listeners["bus.port"] = (config.bus.host, config.bus.port)
    findings = [_port(key, key, *place, running=False) for key, place in listeners.items()]
    return [f"{f.what}: {f.found}: {f.advice}" for f in findings if f.level is Level.FAIL]


def bind_error(host: str, port: int) -> int:
    """Return 0 when a listener could open on ``host`` and ``port``, else the errno of why not."""
    if port == 0:
        return 0
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            return exc.errno or errno.EADDRNOTAVAIL
    return 0


def _port(what: str, key: str, host: str, port: int, *, running: bool) -> Finding:
    place = f"{host}:{port}" if port else f"{host}, a free port"
    code = bind_error(host, port)
    if code == 0:
        return Finding(Level.OK, what, f"{place} is free" if port else place)
    if code == errno.EADDRINUSE and running:
        return Finding(Level.OK, what, f"{place} is open: a gateway runs")
    advice = {
        errno.EADDRINUSE: f"another program has it (ss -ltnp): stop it, or --set {key}=PORT",
        errno.EACCES: f"--set {key}=PORT above 1023, or run it by the systemd unit",
    }.get(code, f"--set {key.replace('port', 'host')}=ADDRESS of this machine")
    return Finding(Level.FAIL, what, f"{place}: {os.strerror(code)}", advice)


def _is_gateway(host: str, port: int) -> bool:
    """Return whether something answers /livez there."""
    if port == 0:
        return False
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def broker(config: Config) -> Iterator[Finding]:
    """Whether the broker takes our login, if one is configured."""
    if not isinstance(config.bus, MqttBus):
        return
    import aiomqtt

    try:
        asyncio.run(_log_in(config))
    except (aiomqtt.MqttError, OSError) as exc:
        advice = "start it, or mend bus.url, bus.user and bus.password_file"
        yield Finding(Level.FAIL, "broker", f"{config.bus.url}: {exc}", advice, service=True)
    else:
        yield Finding(Level.OK, "broker", f"{config.bus.url} takes us")


async def _log_in(config: Config) -> None:
    import aiomqtt

    from gateway.cli.target import Target, tls_context

    target = Target.of(config)
    async with aiomqtt.Client(
        target.host,
        target.port,
        username=target.user or None,
        password=target.password or None,
        identifier=f"edge-gateway-doctor-{os.getpid()}",  # the gateway's own would throw it out
        tls_context=tls_context(target),
        timeout=_TIMEOUT_S,
    ):
        return
