"""The sd_notify protocol: readiness, stopping, and a watchdog fed by the event loop itself.

Source: sd_notify(3) and sd_watchdog_enabled(3). Nothing here needs systemd's library.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)


class ServiceNotifier:
    """Tell the service manager how the process is; without one, every call does nothing.

    A message that cannot be sent is logged and otherwise ignored: the manager's socket is local and
    takes datagrams at once, and a gateway that works must not stop over a lost status line.
    """

    def __init__(self, address: str = "", *, watchdog_s: float = 0.0) -> None:
        """Keep what to talk to.

        Args:
            address: $NOTIFY_SOCKET, a path, or ``@name`` in the abstract namespace; "" is nobody.
            watchdog_s: the manager restarts a process that stays silent for so long; 0 is never.
        """
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_s = watchdog_s
        self._socket: socket.socket | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID as systemd sets them."""
        usec = environ.get("WATCHDOG_USEC", "")
        meant = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog_s = int(usec) / 1_000_000 if meant and usec.isdecimal() else 0.0
        return cls(environ.get("NOTIFY_SOCKET", ""), watchdog_s=watchdog_s)

    def __enter__(self) -> Self:
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.settimeout(0)  # non-blocking
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @property
    def watched(self) -> bool:
        """Whether the manager expects ``run``'s pings."""
        return self._watchdog_s > 0 and self._address != ""

    def ready(self, status: str) -> None:
        """All listeners are open."""
        self._send(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """The stop has begun."""
        self._send("STOPPING=1\nSTATUS=stopping")

    async def run(self) -> None:
        """Ping at half the watchdog's period, for ever.

        A task of the event loop: when the loop is blocked the pings stop, and the manager restarts
        the process. A dependency that is down does not stop them.
        """
        while True:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 2)

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as exc:
            log.warning("service manager not told: message=%s error=%s", message, exc)
