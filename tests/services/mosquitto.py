"""A real Mosquitto for one test, which can be killed, stopped in its tracks and brought back."""

import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from tests.services.process import Process
from tests.services.programs import need
from tests.services.server import Server


class Mosquitto(Server):
    """A broker on 127.0.0.1 with a persistent store in ``folder``.

    ``options`` are lines of mosquitto.conf after the listener's (``allow_anonymous false``,
    ``cafile …``); ``allow_anonymous true`` unless they say otherwise. Every method but ``seen``
    returns within milliseconds.
    """

    title: ClassVar[str] = "mosquitto"

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        super().__init__(folder)
        self._options = list(options)

    @property
    def url(self) -> str:
        """Where it listens, without TLS."""
        return f"mqtt://127.0.0.1:{self.port}"

    async def save(self) -> None:
        """Write sessions and messages to disk now, so that a ``kill`` does not lose them."""
        process = self._running()
        before = len(process.output)
        process.signal(signal.SIGUSR1)
        await process.said("Saving in-memory database", after=before)
        with socket.create_connection(("127.0.0.1", self.port)):  # answered after it has saved
            await process.said("New connection", after=before)

    def _launch(self, port: int) -> Process:
        return Process([str(need("mosquitto")), "-v", "-c", str(self._configure(port))])

    def _serves(self, line: str) -> bool:
        return line.endswith(" running")

    def _configure(self, port: int) -> Path:
        lines = [
            "per_listener_settings false",
            "persistence true",
            f"persistence_location {self.folder}/",
            "autosave_interval 1800",
            "set_tcp_nodelay true",
            "max_queued_messages 0",
            f"listener {port} 127.0.0.1",
            *self._options,
        ]
        if not any(option.startswith("allow_anonymous") for option in self._options):
            lines.append("allow_anonymous true")
        if os.geteuid() == 0:
            lines.append("user root")  # else it changes to a user that cannot write the folder
        path = self.folder / "mosquitto.conf"
        path.write_text("\n".join(lines) + "\n")
        return path
