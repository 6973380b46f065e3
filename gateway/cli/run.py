"""``edge-gateway run``: the process around ``serve``: loop, signals, limits, service manager."""

import asyncio
import errno
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Final

import uvloop

from gateway.aio.sdnotify import ServiceNotifier
from gateway.aio.supervisor import Supervisor
from gateway.cli.logs import logging_to_stderr
from gateway.cli.options import BAD_CONFIG, FAILED, complain
from gateway.config.model import Config, ConfigError
from gateway.main import Listening, serve

log = logging.getLogger(__name__)

_GC_THRESHOLDS: Final = (100_000, 10, 10)
"""With the default of 700 allocations, or with 10,000, most messages are looked at while they wait
for the disk: 11 % of the loop under load went there. With 100,000 most are gone by then, and a
young collection takes about 3 ms. What lives from the start on is frozen."""

_ADDRESS_ERRORS: Final = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)


def run(config: Config, environ: Mapping[str, str]) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""

    async def main(ready: asyncio.Event) -> None:
        def on_ready(where: Listening) -> None:
            ready.set()
            announce(where)

        await serve_until_signal(config, environ, on_ready)

    return guarded(config, environ, main)


def guarded(
    config: Config,
    environ: Mapping[str, str],
    main: Callable[[asyncio.Event], Coroutine[None, None, None]],
) -> int:
    """Run ``main`` on uvloop and return the exit code.

    ``main`` sets its event when all listeners are open. What goes wrong before is told in one line
    if a user can mend it (a port in use, a directory that cannot be written); the rest is a bug.
    """
    ready = asyncio.Event()
    with (
        logging_to_stderr(config.log.level, environ),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        try:
            runner.run(main(ready))
        except Exception as exc:
            reason = _mendable(exc)
            if ready.is_set() or reason is None:
                log.critical("gateway failed", exc_info=exc)
                return FAILED
            complain(_explained(reason, config))
            return BAD_CONFIG if isinstance(reason, ConfigError) else FAILED
    return os.EX_OK


async def serve_until_signal(
    config: Config, environ: Mapping[str, str], on_ready: Callable[[Listening], None]
) -> None:
    """Run the gateway until a signal; a second signal ends the process at once."""
    stop = asyncio.Event()
    with ServiceNotifier.from_environ(environ) as manager:

        def on_signal(number: signal.Signals) -> None:
            if stop.is_set():
                os._exit(FAILED)
            log.info("stopping: signal=%s", number.name)
            manager.stopping()
            stop.set()

        def ready(where: Listening) -> None:
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_GC_THRESHOLDS)
            on_ready(where)
            manager.ready(f"listening on {where.http}")

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal, number)
        _raise_file_limit()
        async with Supervisor() as tasks:
            if manager.watched:
                tasks.spawn("watchdog", manager.run)
            await serve(config, stop, ready)


def announce(where: Listening) -> None:
    """Print the line that scripts wait for, and one for people."""
    sys.stdout.write(
        f"listening http={where.http or 'off'} https={where.https or 'off'} "
        f"mqtt={where.mqtt or 'off'}\n"
    )
    sys.stdout.flush()
    log.info("open %s in a browser", where.https or where.http)


def _raise_file_limit() -> None:
    """Allow as many open sockets as this user may have; the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as exc:
            log.warning("open files stay limited: soft=%d hard=%d error=%s", soft, hard, exc)


def _explained(reason: ConfigError | OSError, config: Config) -> str:
    """Return what to do; for an address that cannot be listened on, the doctor knows which."""
    if isinstance(reason, OSError) and reason.errno in _ADDRESS_ERRORS:
        from gateway.cli.network import taken

        if found := taken(config):
            return "\n".join(found)
    return str(reason) or type(reason).__name__


def _mendable(exc: BaseException) -> ConfigError | OSError | None:
    """Return the failure of the machine or of edge.toml; None when anything else went wrong too."""
    if not isinstance(exc, BaseExceptionGroup):
        return exc if isinstance(exc, (ConfigError, OSError)) else None
    reasons = [_mendable(inner) for inner in exc.exceptions]
    return None if None in reasons else reasons[0]
