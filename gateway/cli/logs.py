"""Log lines for a terminal or for journald, written by a thread of their own."""

import logging
import os
import queue
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

_WAITING: Final = 10_000  # lines; a stderr that takes nothing costs lines, not time
_FLUSH_S: Final = 1.0  # what is left at the end gets this long
_PRIORITY: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


class _Journald(logging.Formatter):
    """``<6>logger: message``; journald has the time itself. Source: sd-daemon(3)."""

    def format(self, record: logging.LogRecord) -> str:
        mark = f"<{_PRIORITY.get(record.levelname, 6)}>"
        return "\n".join(mark + line for line in super().format(record).splitlines())


class _ThreadHandler(logging.Handler):
    """Hands lines to a thread: the event loop never waits for a terminal or a pipe."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[str | None] = queue.Queue(_WAITING)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what waits, for a second at most: a stderr that is stuck must not stop the stop."""
        try:
            self._lines.put(None, timeout=_FLUSH_S)
        except queue.Full:
            self._dropped += 1
        else:
            self._thread.join(_FLUSH_S)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            lost, self._dropped = self._dropped, 0
            try:
                if lost:
                    sys.stderr.write(f"log lines dropped: count={lost}\n")
                sys.stderr.write(line + "\n")
                sys.stderr.flush()
            except OSError:  # stderr is gone: nowhere is left to say so
                return


@contextmanager
def logging_to_stderr(level: str, environ: Mapping[str, str]) -> Iterator[None]:
    """Send everything from ``level`` up to stderr until the block is left."""
    handler = _ThreadHandler()
    if _is_journald(environ):
        handler.setFormatter(_Journald("%(name)s: %(message)s"))
    else:
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
        )
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def _is_journald(environ: Mapping[str, str]) -> bool:
    """Return whether stderr is the stream that systemd means. Source: systemd.exec(5)."""
    try:
        about = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{about.st_dev}:{about.st_ino}"
