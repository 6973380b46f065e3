"""What the kernel knows of a connection's far end. Linux; elsewhere nothing is known.

Sources: ``struct tcp_info`` in linux/tcp.h (its fields only ever grow at the end), tcp(7).
"""

import asyncio
import fcntl
import socket
import struct
import termios
from typing import Final, NamedTuple

_INFO_BYTES: Final = 232
_ACKED_AT: Final = 120  # tcpi_bytes_acked, u64
_MIN_RTT_AT: Final = 148  # tcpi_min_rtt, u32, µs
_WINDOW_AT: Final = 228  # tcpi_snd_wnd, u32, since Linux 5.4
_ZERO: Final = b"\0\0\0\0"


class FarEnd(NamedTuple):
    """The state of one connection."""

    queued: int  # bytes written that the far kernel has not acknowledged
    acked: int  # bytes it has acknowledged since the connection began
    window: int  # bytes it said it would take, when it last said something
    rtt_s: float  # the shortest round trip so far


def look(transport: asyncio.BaseTransport) -> FarEnd | None:
    """Return what is known, None for anything but a TCP socket of this machine's kernel."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        queued = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, _ZERO))[0]
    except OSError:
        return None  # closed meanwhile: its connection_lost is on the way
    if len(raw) < _INFO_BYTES:
        return None
    return FarEnd(
        queued,
        struct.unpack_from("Q", raw, _ACKED_AT)[0],
        struct.unpack_from("I", raw, _WINDOW_AT)[0],
        _seconds(struct.unpack_from("I", raw, _MIN_RTT_AT)[0]),
    )


def _seconds(micros: int) -> float:
    return 0.0 if micros == 0xFFFF_FFFF else micros / 1e6  # all ones: not measured yet


def keep_little_in_flight(transport: asyncio.BaseTransport, *, send_buffer: int) -> None:
    """Let the kernel hold no more than about ``send_buffer`` bytes that were not sent yet.

    What waits in the kernel cannot be replaced by something newer.
    """
    _set(transport, socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    _set(transport, socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, send_buffer // 2)


def give_up_after(transport: asyncio.BaseTransport, seconds: float) -> None:
    """Let the kernel end the connection if sent data stays unacknowledged for ``seconds``."""
    _set(transport, socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(seconds * 1000)))


_TCP_NOTSENT_LOWAT: Final = 25  # linux/tcp.h; the socket module names it from 3.12 on only


def _set(transport: asyncio.BaseTransport, level: int, option: int, value: int) -> None:
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return  # the connection is gone already; its loss is reported elsewhere
