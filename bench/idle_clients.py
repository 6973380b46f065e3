"""Open streams and hold them: WebSockets, then SSE. Talks with its parent line by line.

Each line on stdin is "ws N", "sse N" or "alive"; each answer on stdout is a number: how many of
that kind are open now, or how many of all are still open.
"""

import argparse
import contextlib
import socket
import sys

from bench.machine import raise_file_limit
from bench.ws_client import Closed, Reader


def event_stream(port: int) -> socket.socket:
    """Return a stream of /api/events after its response head."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    sock.sendall(
        f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        "Accept: text/event-stream\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        part = sock.recv(65_536)
        if not part:
            raise Closed("SSE: closed before the response")
        head += part
    if b" 200 " not in head.splitlines()[0]:
        raise Closed(f"SSE: {head.splitlines()[0].decode('latin-1')}")
    sock.settimeout(0)
    return sock


def alive(sock: socket.socket) -> bool:
    """Return whether the other side has not closed it; takes what came meanwhile."""
    with contextlib.suppress(BlockingIOError):
        while data := sock.recv(65_536):
            if len(data) < 65_536:
                return True
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http", type=int, required=True, help="port")
    port: int = parser.parse_args().http
    raise_file_limit()
    sockets: list[socket.socket] = []
    for line in sys.stdin:
        word, _, number = line.strip().partition(" ")
        if word == "ws":
            opened = [Reader(port, "/ws/coordinates").sock for _ in range(int(number))]
        elif word == "sse":
            opened = [event_stream(port) for _ in range(int(number))]
        else:
            print(sum(alive(sock) for sock in sockets), flush=True)
            continue
        sockets += opened
        print(len(opened), flush=True)


if __name__ == "__main__":
    main()
