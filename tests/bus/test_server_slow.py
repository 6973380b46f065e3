"""Clients that do not read: what they may cost, and that the others do not notice."""

import asyncio
import socket

import pytest

from tests.bus.server_rig import (
    Raw,
    client,
    connect,
    reached,
    server,
    subscribed,
)


async def _stuffed(sub: Raw) -> None:
    """Take nothing from the socket any more."""
    sub.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(0)


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_subscriber_that_does_not_read_costs_a_bounded_queue(qos: int) -> None:
    async with (
        server(queue_bytes=100_000, queue_messages=50, write_s=60) as on,
        client(on, "slow", 5) as slow,
        client(on, "fast", 5) as fast,
    ):
        await subscribed(slow, ("a", qos), version=5)
        await subscribed(fast, ("a", 0), version=5)
        await _stuffed(slow)
        count = 0
        reason = "dropped_queue_full" if qos else "dropped_slow_client"
        while not on.figures()[reason]:
            await on.publish("a", b"x" * 10_000, qos=qos)
            assert (await fast.packet())[0] == 0x30  # untouched by the slow one
            count += 1
            assert count < 5_000
        waiting = max(wire._waiting() for wire in on._wires)
        assert waiting < 200_000
        if qos:
            assert on.figures()["queued"] < 50 + 1_024


async def test_a_client_that_accepts_nothing_is_cut_off() -> None:
    async with server(write_s=0.2, queue_bytes=100_000) as on, client(on, "slow") as slow:
        await subscribed(slow, ("a", 0))
        await _stuffed(slow)
        async with asyncio.timeout(20):
            while on.status().clients:
                await on.publish("a", b"x" * 10_000)
                await asyncio.sleep(0)
        assert on.figures()["dropped_slow_client"]


async def test_a_client_that_sends_and_does_not_read_is_not_read_either() -> None:
    """Its answers must not pile up: it is choked, and goes on when it reads again."""
    pings = 1_000_000
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)  # else it takes megabytes unread
    async with server(queue_bytes=50_000) as on:
        sock.connect(on.address)
        async with Raw(*await asyncio.open_connection(sock=sock)) as deaf:
            deaf.send(connect("deaf"))
            await deaf.packet()
            await _stuffed(deaf)
            for _ in range(100):
                deaf.send(b"\xc0\0" * (pings // 100))
            (wire,) = on._wires
            await reached(lambda: wire._choked)
            assert wire._waiting() < 1_000_000
            deaf.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert await deaf.reader.readexactly(2 * pings) == b"\xd0\0" * pings
