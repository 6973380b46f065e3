"""A gateway of a selftest's own, where none runs: the same configuration, another process."""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import IO, Final, NamedTuple

from gateway.cli.network import bind_error
from gateway.cli.options import complain
from gateway.config.model import Config, EmbeddedBus

_START_S: Final = 20.0
_STOP_S: Final = 10.0
_TAIL: Final = 2_000  # characters of its log that are shown when it does not start
_OURS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")  # meant for this process


class Started(NamedTuple):
    """Where the child listens; ``mqtt`` is "off" where devices connect to a broker."""

    http: str
    mqtt: str


class DidNotStart(Exception):
    """Its log says why."""


@asynccontextmanager
async def own_gateway(config: Config, words: Sequence[str]) -> AsyncIterator[Started]:
    """Run a gateway for the length of the block.

    Args:
        words: the options --config and --set of this command, which are its options too.
    Raises:
        DidNotStart: with what it said.
    """
    options = [*words, *_free_ports(config)]
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway",
            "run",
            *options,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={name: value for name, value in os.environ.items() if name not in _OURS},
            start_new_session=True,  # Ctrl-C is ours: it is stopped at the end
        )
        try:
            yield await _listening(process, log)
        finally:
            await _stop(process)


async def _listening(process: asyncio.subprocess.Process, log: IO[bytes]) -> Started:
    line = b""
    if process.stdout is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_S):
                line = await process.stdout.readline()
    said = dict(item.partition("=")[::2] for item in line.decode().split()[1:])
    if "http" not in said:
        log.seek(0)
        raise DidNotStart(log.read().decode("utf-8", "replace")[-_TAIL:].strip())
    return Started(said["http"], said["mqtt"])


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_ports(config: Config) -> list[str]:
    """Return options that take free ports instead of those that are in use."""
    options: list[str] = []
    if bind_error(config.http.host, config.http.port):
        complain(f"port {config.http.port} is in use: the selftest takes a free one for HTTP")
        options += ["--set", "http.port=0"]
    bus = config.bus
    if isinstance(bus, EmbeddedBus) and bind_error(bus.host, bus.port):
        complain(f"port {bus.port} is in use: the selftest takes a free one for MQTT")
        options += ["--set", "bus.port=0"]
    return options
