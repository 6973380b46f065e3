"""Sessions that outlive connections, takeover, wills, keep-alive, the end of the server."""

import asyncio
from typing import Any

import pytest

from gateway.bus.open import address, open_bus
from gateway.config.model import EmbeddedBus
from gateway.core.mqtt import text
from tests.bus.server_rig import (
    VERSIONS,
    Raw,
    Taker,
    ack,
    client,
    connect,
    publish,
    reached,
    server,
    subscribed,
    unsubscribe,
)

NONE = {4: b"", 5: b"\0"}


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_kept_session_delivers_what_was_missed(version: int) -> None:
    async with server() as on:
        async with client(on, "c", version, clean=False, expiry_s=60) as raw:
            await subscribed(raw, ("q0", 0), ("q1", 1), ("q2", 2), version=version)
        await reached(lambda: on.status().clients == 0)
        for topic in ("q0", "q1", "q2"):
            await on.publish(topic, b"x", qos=2)
        async with client(on, "c", version, present=True, clean=False, expiry_s=60) as raw:
            none = NONE[version]
            assert await raw.packet() == (0x32, text("q1") + b"\0\1" + none + b"x")
            assert await raw.packet() == (0x34, text("q2") + b"\0\2" + none + b"x")
            await raw.in_step()
            raw.send(b"\xe0\0")
            await raw.closed()
        async with client(on, "c", version, present=True, clean=False, expiry_s=60) as raw:
            again = 0x3A, text("q1") + b"\0\1" + none + b"x"
            assert await raw.packet() == again
            assert await raw.packet() == (0x3C, text("q2") + b"\0\2" + none + b"x")
            raw.send(ack(0x40, 1), ack(0x50, 2))
            assert await raw.packet() == (0x62, b"\0\2")
        async with client(on, "c", version, present=True, clean=False, expiry_s=60) as raw:
            assert await raw.packet() == (0x62, b"\0\2")  # PUBREL again, not PUBLISH
            raw.send(ack(0x70, 2))
            await raw.in_step()
        assert on.figures()["queued"] == 0
        async with client(on, "c", version, clean=True) as raw:
            await on.publish("q1", b"x")
            await raw.in_step()
        assert on.figures()["subscriptions"] == 0


async def test_what_is_sent_again_keeps_to_a_smaller_receive_maximum() -> None:
    more: dict[str, Any] = {"clean": False, "expiry_s": 60}
    async with server() as on:
        async with client(on, "c", 5, **more) as raw:
            await subscribed(raw, ("a", 1), version=5)
            for n in range(3):
                await on.publish("a", b"%d" % n)
                await raw.packet()
        async with client(on, "c", 5, present=True, receive_max=1, **more) as raw:
            for n in range(3):
                assert await raw.packet() == (0x3A, text("a") + bytes((0, n + 1, 0)) + b"%d" % n)
                await raw.in_step()
                raw.send(ack(0x40, n + 1))
            await on.publish("a", b"3")
            assert await raw.packet() == (0x32, text("a") + b"\0\4\0" + b"3")


async def test_the_queue_of_an_absent_client_drops_the_oldest() -> None:
    async with server(queue_messages=3) as on:
        async with client(on, "c", clean=False) as raw:
            await subscribed(raw, ("a", 1))
        await reached(lambda: on.status().clients == 0)
        for n in range(5):
            await on.publish("a", b"%d" % n)
        assert on.figures()["dropped_queue_full"] == 2
        async with client(on, "c", present=True, clean=False) as raw:
            for n in (2, 3, 4):
                assert (await raw.packet())[1][-1:] == b"%d" % n
        async with client(on, "c", clean=True):
            assert on.figures()["dropped_session_ended"] == 3


async def test_sessions_end() -> None:
    async with server(sessions=2, connect_s=0.1) as on:
        for n in range(4):
            async with client(on, f"kept-{n}", clean=False):
                pass
            await reached(lambda: on.status().clients == 0)
        assert on.figures()["sessions"] == 2  # the longest away went first
        async with (
            client(on, "kept-0", clean=True),
            client(on, "kept-3", present=True, clean=False),
        ):
            pass
        async with client(on, "short", 5, clean=False, expiry_s=1) as raw:
            await subscribed(raw, ("a", 1), version=5)
        await reached(lambda: on.figures()["subscriptions"] == 0)


async def test_disconnect_may_shorten_or_lengthen_a_session() -> None:
    async with server() as on:
        async with client(on, "c", 5, expiry_s=60) as raw:
            raw.send(b"\xe0\x07\0\x05\x11\0\0\0\0")
            await raw.closed()
        assert on.figures()["sessions"] == 0


@pytest.mark.parametrize("version", VERSIONS)
async def test_takeover(version: int) -> None:
    taker = Taker()
    async with server(taker) as on:
        will = ("w", b"lost", 1, False)
        async with client(on, "c", version, clean=False, expiry_s=60, will=will) as old:
            await subscribed(old, ("a", 1), version=version)
            async with client(on, "c", version, present=True, clean=False, expiry_s=60) as new:
                told = await old.closed()
                assert told[2:3] == (b"\x8e" if version == 5 else b"")
                assert on.status().clients == 1
                await on.publish("a", b"x")
                assert (await new.packet())[0] == 0x32
        assert taker.items == [("w", b"lost")]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_the_will_of_a_client_that_is_gone(version: int, qos: int) -> None:
    taker = Taker()
    async with server(taker) as on, client(on, "s", version) as sub:
        await subscribed(sub, ("w", 2), version=version)
        async with client(on, "c", version, will=("w", b"lost", qos, True)):
            pass
        head, body = await sub.packet()
        assert head == 0x30 | qos << 1
        assert body.endswith(b"lost")
        assert on.figures()["retained"] == 1
        assert taker.items == [("w", b"lost")]


@pytest.mark.parametrize("version", VERSIONS)
async def test_no_will_after_disconnect(version: int) -> None:
    taker = Taker()
    async with server(taker) as on, await Raw.open(on) as raw:
        raw.send(connect("c", version, will=("w", b"lost", 0, False)), b"\xe0\0")
        await raw.closed()
        await reached(lambda: on.status().clients == 0)
        assert taker.items == []


async def test_disconnect_with_will() -> None:
    taker = Taker()
    async with server(taker) as on, client(on, "c", 5, will=("w", b"lost", 0, False)) as raw:
        raw.send(b"\xe0\1\4")
        await raw.closed()
        assert await taker.until(1) == [("w", b"lost")]


async def test_a_delayed_will() -> None:
    taker = Taker()
    more: dict[str, Any] = {
        "expiry_s": 60,
        "clean": False,
        "will": ("w", b"lost", 0, False),
        "will_delay_s": 1,
    }
    async with server(taker, connect_s=0.1) as on:
        async with client(on, "c", 5, **more):
            pass
        await reached(lambda: on.status().clients == 0)
        assert taker.items == []
        async with client(on, "c", 5, present=True, **more):  # back in time: none
            pass
        async with client(on, "ended", 5, **(more | {"expiry_s": 0})):
            pass
        assert await taker.until(1) == [("w", b"lost")]  # the session's end comes first
        assert await taker.until(2) == [("w", b"lost")] * 2  # this one waited its second


@pytest.mark.parametrize("version", VERSIONS)
async def test_keep_alive(version: int) -> None:
    taker = Taker()
    async with server(taker, connect_s=0.2) as on:
        async with client(on, "c", version, keep_alive=1, will=("w", b"", 0, False)) as raw:
            begun = asyncio.get_running_loop().time()
            told = await raw.closed()
            assert told[2:3] == (b"\x8d" if version == 5 else b"")
            assert 1.4 < asyncio.get_running_loop().time() - begun < 10
        assert taker.items == [("w", b"")]


async def test_keep_alive_counts_any_packet() -> None:
    async with server(connect_s=0.2) as on, client(on, keep_alive=1) as raw:
        for _ in range(8):
            await asyncio.sleep(0.3)  # the time is the subject
            raw.send(publish("a", b"x"))
        await raw.in_step()


async def test_keep_alive_while_the_server_does_not_read() -> None:
    async with server(connect_s=0.2) as on, client(on, keep_alive=1) as raw:
        on.pause()
        raw.send(*(publish("a", b"x" * 140, 1, n) for n in range(1, 5_001)))
        (wire,) = on._wires
        await reached(lambda: wire._full)
        await asyncio.sleep(2.5)
        assert on.status().clients == 1
        on.resume()
        assert await raw.packet() == (0x40, b"\0\1")


async def test_the_end_of_the_server() -> None:
    taker = Taker()
    loop = asyncio.get_running_loop()
    async with server(taker) as on:
        five = await Raw.open(on)
        four = await Raw.open(on)
        half = await Raw.open(on)
        five.send(connect("five", 5, will=("w", b"", 0, False)))
        four.send(connect("four", 4, will=("w", b"", 0, False)))
        half.send(b"\x10")
        await five.packet()
        await four.packet()
        begun = loop.time()
    assert loop.time() - begun < 5
    head, body = await five.packet()
    assert (head, body[0]) == (0xE0, 0x8B)
    for raw in (five, four, half):
        assert await raw.closed() == b""
        raw.writer.close()
    assert taker.items == []  # the end of the server is not the end of the robots
    with pytest.raises(ConnectionRefusedError):
        await Raw.open(on)


async def test_the_end_does_not_wait_for_who_does_not_read() -> None:
    loop = asyncio.get_running_loop()
    async with server() as on:
        raw = await Raw.open(on)
        raw.send(connect("c"))
        await raw.packet()
        await subscribed(raw, ("a", 0))
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        while not on.figures()["dropped_slow_client"]:
            await on.publish("a", b"x" * 100_000, qos=0)
            await asyncio.sleep(0)
        begun = loop.time()
    assert loop.time() - begun < 5  # write_s is 30
    raw.writer.transport.abort()


async def test_open_bus() -> None:
    taker = Taker()
    async with open_bus(EmbeddedBus(port=0), taker, site="home") as bus:
        assert bus.status().connected
        where = address(bus)
        assert where.startswith("mqtt://127.0.0.1:")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(where.rpartition(":")[2]))
        async with Raw(reader, writer) as raw:
            raw.send(connect("c"), publish("a", b"x", 1, 1))
            assert (await raw.packet())[0] == 0x20
            assert await raw.packet() == (0x40, b"\0\1")
        assert bus.figures()["received"] == 1
    assert taker.items == [("a", b"x")]


async def test_a_port_that_is_taken() -> None:
    async with server() as on:
        with pytest.raises(OSError, match="in use"):
            async with open_bus(EmbeddedBus(port=on.address[1]), Taker(), site="home"):
                pass


async def test_unsubscribed_topics_do_not_queue() -> None:
    async with server() as on:
        async with client(on, "c", clean=False) as raw:
            await subscribed(raw, ("a", 1), ("b", 1))
            raw.send(unsubscribe(2, "a"))
            await raw.packet()
        await reached(lambda: on.status().clients == 0)
        await on.publish("a", b"x")
        await on.publish("b", b"y")
        async with client(on, "c", present=True, clean=False) as raw:
            assert (await raw.packet())[1] == text("b") + b"\0\1y"
            await raw.in_step()
