"""Install and check what the tests use: ``python -m tests.services [--keep] [PROGRAM…]``.

Without names it installs everything, starts the four servers once and says how long that took;
with ``--keep`` they run until Ctrl-C, for working by hand.
"""

import contextlib
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from tests.services.kafka import Kafka
from tests.services.kafka_jars import jars_place, provide_jars, version
from tests.services.mosquitto import Mosquitto
from tests.services.postgres import Postgres
from tests.services.programs import PROGRAMS, USED, Missing, find, provide, say
from tests.services.redis import Redis
from tests.services.server import Server

_KEEP = "--keep"
_BESIDE = {"http.port": "8081", "bus.port": "1884", "data.dir": "data/two"}

S = TypeVar("S", bound=Server)


def main(arguments: list[str]) -> int:
    """Do as the arguments say; return 1 when something is missing, 2 when they are wrong."""
    names = [argument for argument in arguments if argument != _KEEP]
    unknown = sorted(set(names) - set(PROGRAMS))
    if unknown or (names and _KEEP in arguments):
        say(f"unknown: {', '.join(unknown or [_KEEP])}; known: {_KEEP}, {', '.join(PROGRAMS)}")
        return 2
    missing = [name for name in names or USED if not _provided(name, find, provide)]
    if names:
        return 1 if missing else 0
    if not _provided(f"Apache Kafka {version()}", _jars_here, lambda _: provide_jars()):
        missing.append("kafka")
    if missing:
        say(f"not started, because something is missing: {', '.join(missing)}")
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the servers too
    try:
        _run_all(keep=_KEEP in arguments)
    except KeyboardInterrupt:
        say("ended")
    except (pytest.skip.Exception, pytest.fail.Exception, RuntimeError) as error:
        say(str(error))
        return 1
    return 0


def _provided(
    name: str, here: Callable[[str], Path | None], provided: Callable[[str], Path]
) -> bool:
    begun = time.monotonic()
    found = here(name)
    try:
        path = provided(name)
    except Missing as why:
        say(f"{name}: MISSING: {why}")
        return False
    how = "found" if found else f"installed in {time.monotonic() - begun:.0f} s"
    say(f"{name}: {path} ({how})")
    return True


def _jars_here(_: str) -> Path | None:
    place = jars_place()
    return place if place.is_dir() else None


def _run_all(*, keep: bool) -> None:
    """Start the four servers, and end them: at once, or (``keep``) at a Ctrl-C."""
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-gateway-")))

        def started(server: S) -> S:
            first = time.monotonic()
            stack.enter_context(server)
            say(f"{server.title}: serves after {time.monotonic() - first:.1f} s")
            return server

        mosquitto = started(Mosquitto(folder / "mosquitto"))
        redis = started(Redis(folder / "redis", durable=True))
        postgres = started(Postgres())
        dsn = postgres.create_database("edge")
        kafka = started(Kafka(folder / "kafka"))
        say(f"all four serve after {time.monotonic() - begun:.1f} s")
        if not keep:
            return
        settings = {
            "bus.backend": "mqtt",
            "bus.url": mosquitto.url,
            "records.backend": "postgres",
            "records.dsn": dsn,
            "state.backend": "redis",
            "state.url": redis.url,
            "stream.backend": "kafka",
            "stream.servers": kafka.servers,
        }
        say(f"Mosquitto   {mosquitto.url}")
        say(f"PostgreSQL  {dsn}")
        say(f"Redis       {redis.url}")
        say(f"Kafka       {kafka.servers}")
        say("one gateway on all of them (leave out the pairs that you do not want):")
        say(_make_run(settings))
        say("or two boxes, each the MQTT server of its own robots, that share the rest:")
        shared = {key: value for key, value in settings.items() if not key.startswith("bus.")}
        say(_make_run({"site.box": "one", "data.dir": "data/one", **shared}))
        say(_make_run({"site.box": "two", **_BESIDE, **shared}))
        say("they keep nothing when they end: Ctrl-C")
        while True:
            signal.pause()


def _make_run(settings: Mapping[str, str]) -> str:
    chosen = " ".join(f"--set {key}={shlex.quote(value)}" for key, value in settings.items())
    return f"make run ARGS={shlex.quote(chosen)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
