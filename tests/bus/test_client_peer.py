"""The client backend against a broker that refuses, repeats, dawdles and breaks the protocol."""

import asyncio
from collections.abc import Awaitable, Callable

import mqtt5
import pytest

from gateway.core.errors import Unavailable
from tests.bus.client_peer import (
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBREC,
    SUBSCRIBE,
    Talk,
    message,
    peer,
)
from tests.bus.client_rig import TOPIC, Basket, client_bus, eventually


async def test_connect_asks_for_a_kept_session() -> None:
    seen: list[mqtt5.ConnectPacket] = []

    async def script(talk: Talk) -> None:
        packet, _ = mqtt5.read(memoryview(bytes((CONNECT, len(talk.connect))) + talk.connect))
        assert isinstance(packet, mqtt5.ConnectPacket)
        seen.append(packet)

    changes = {"session_expiry_s": 77, "receive_maximum": 9, "topic_aliases": 3}
    async with peer(script) as port, client_bus(port, Basket(), wait=False, **changes):
        await eventually(lambda: bool(seen))
    assert seen[0].client_id == "edge-gateway-home"
    assert not seen[0].clean_start
    assert seen[0].session_expiry_interval == 77
    assert seen[0].receive_max == 9
    assert seen[0].topic_alias_max == 3
    assert seen[0].keep_alive == 30


@pytest.mark.parametrize("answer", [b"\x20\x03\x00\x84\x00", b"\x20\x02\x00\x01", b""])
async def test_a_broker_that_refuses_5_is_asked_in_3(answer: bytes) -> None:
    basket = Basket(acknowledging=False)

    async def refuse(talk: Talk) -> None:
        assert talk.connect[6] == 5
        await talk.send(answer)
        talk.close()

    async def serve(talk: Talk) -> None:
        await talk.accept(version=4)
        await talk.send(
            message(b"0", qos=0, version=4),
            message(b"1", 11, version=4),
            message(b"2", 12, version=4),
            message(b"3", 13, qos=2, version=4),
            message(b"1", 14, version=4),
        )
        await basket.holds(b"0", b"1", b"2", b"3")
        assert basket.items[1] == (TOPIC, b"1")
        await eventually(lambda: bus.status().detail.endswith("MQTT 3.1.1"))
        for batch in basket.batches:
            batch.acknowledge()
        assert await talk.ids(PUBACK, 3) == [11, 12, 14]
        assert await talk.ids(PUBREC, 1) == [13]
        await talk.send(b"\x62\x02\x00\x0d")
        assert await talk.ids(PUBCOMP, 1) == [13]

    async with peer(refuse, serve) as port, client_bus(port, basket, wait=False) as bus:
        await eventually(lambda: bus.figures()["failures"] == 1)  # the script is through


async def test_with_protocol_5_there_is_no_other() -> None:
    async def refuse(talk: Talk) -> None:
        await talk.send(b"\x20\x03\x00\x84\x00")

    async with peer(refuse) as port, client_bus(port, Basket(), wait=False, protocol="5") as bus:
        await eventually(lambda: "refused MQTT 5: UNSUPPORTED" in bus.status().detail)


async def test_acknowledgements_wait_for_the_sink_and_keep_their_order() -> None:
    basket = Basket(acknowledging=False)

    async def script(talk: Talk) -> None:
        await talk.accept()
        await talk.send(*(message(b"a%d" % number, number) for number in range(1, 301)))
        await basket.holds(b"a300")
        await talk.send(b"\xd0\x00", message(b"b", 301), message(b"c", qos=0))
        await basket.holds(b"b", b"c")
        for batch in basket.batches:
            batch.acknowledge()
        assert await talk.ids(PUBACK, 301) == list(range(1, 302))

    async with peer(script) as port, client_bus(port, basket, wait=False) as bus:
        await eventually(lambda: bus.figures()["failures"] == 1)
        assert bus.figures()["acknowledged"] == 301


async def test_packets_cut_at_every_byte_are_put_together() -> None:
    basket = Basket()
    stream = message(b"first", 1) + message(b"x" * 300, 2) + message(b"third", qos=0)

    async def script(talk: Talk) -> None:
        await talk.accept()
        for cut in range(1, len(stream)):
            await talk.send(stream[:cut])
            await asyncio.sleep(0)
            await talk.send(stream[cut:])
            assert await talk.ids(PUBACK, 2) == [1, 2]

    async with peer(script) as port, client_bus(port, basket, wait=False) as bus:
        await eventually(lambda: bus.figures()["failures"] == 1)
    assert basket.payloads == [b"first", b"x" * 300, b"third"] * (len(stream) - 1)


async def test_a_large_message_comes_whole() -> None:
    basket = Basket()
    payload = bytes(range(256)) * 16_384  # 4 MiB

    async def script(talk: Talk) -> None:
        await talk.accept()
        await talk.send(message(payload, 1))
        assert await talk.ids(PUBACK, 1) == [1]

    async with peer(script) as port, client_bus(port, basket):
        await basket.holds(payload)


async def test_topic_aliases_are_resolved_and_forgotten_with_the_connection() -> None:
    basket = Basket()

    def aliased(topic: str, payload: bytes, alias: int) -> bytes:
        return mqtt5.PublishPacket(topic, payload, topic_alias=alias).write()

    async def script(talk: Talk) -> None:
        await talk.accept()
        await talk.send(
            aliased(TOPIC, b"1", 1),
            aliased("other/topic", b"2", 2),
            aliased("", b"3", 1),
            aliased("", b"4", 2),
            aliased("new/topic", b"5", 2),
            aliased("", b"6", 2),
        )
        await basket.holds(b"6")

    async def reuse(talk: Talk) -> None:
        await talk.accept(session_present=True)
        await talk.send(aliased("", b"7", 1))
        await talk.gone()

    async with peer(script, reuse) as port, client_bus(port, basket, wait=False) as bus:
        await eventually(lambda: "topic alias 1 was never set" in bus.status().detail)
    topics = [TOPIC, "other/topic", TOPIC, "other/topic", "new/topic", "new/topic"]
    assert [topic for topic, _ in basket.items] == topics


async def test_qos_2_is_handed_over_once_until_it_is_released() -> None:
    basket = Basket(acknowledging=False)

    async def script(talk: Talk) -> None:
        await talk.accept()
        await talk.send(message(b"a", 1, qos=2), message(b"b", 2, qos=2))
        await basket.holds(b"a", b"b")
        # The connection ends before either is durable.

    async def repeat(talk: Talk) -> None:
        await talk.accept(session_present=True)
        await talk.send(message(b"a", 1, qos=2), message(b"b", 2, qos=2), message(b"c", qos=0))
        await basket.holds(b"c")
        assert basket.payloads == [b"a", b"b", b"c"]
        for batch in basket.batches:
            batch.acknowledge()  # only now PUBREC may leave
        assert await talk.ids(PUBREC, 2) == [1, 2]
        await talk.send(message(b"a", 1, qos=2))  # had the PUBREC been lost
        assert await talk.ids(PUBREC, 1) == [1]
        await talk.send(b"\x62\x02\x00\x01")
        assert await talk.ids(PUBCOMP, 1) == [1]
        await talk.send(message(b"d", 1, qos=2))  # the same id for another message
        await basket.holds(b"d")

    async def forget(talk: Talk) -> None:
        await talk.accept(session_present=False)
        await talk.send(message(b"e", 2, qos=2))  # of a new session: another message
        await basket.holds(b"e")

    async with peer(script, repeat, forget) as port, client_bus(port, basket, wait=False) as bus:
        await eventually(lambda: bus.figures()["failures"] == 3)
        assert bus.figures()["repeated"] == 3
    assert basket.payloads == [b"a", b"b", b"c", b"d", b"e"]


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"\x30\x06\x00\x03a/+\x00", "wildcard"),
        (b"\x30\x03\x00\x00\x00", "empty"),
        (b"\x32\x08\x00\x03a/b\x00\x00\x00", "packet id 0"),
        (b"\x36\x08\x00\x03a/b\x00\x01\x00", "QoS"),
        (b"\x30\x06\x00\x03\xff/b\x00", "UTF-8"),
        (b"\x30\xff\xff\xff\xff\x7f", "remaining length|variable byte"),
        (b"\x30\xff\xff\xff\x7f", "packet of 268435460 bytes"),
        (b"\x20\x03\x00\x00\x00", "second CONNACK"),
        (b"\xc0\x00", "unexpected PingReqPacket"),
        (b"\xe0\x02\x8e\x00", "disconnected by the broker: SESSION_TAKEN_OVER"),
    ],
)
async def test_a_broker_that_breaks_the_protocol_is_left(packet: bytes, reason: str) -> None:
    basket = Basket()
    details: list[str] = []

    async def script(talk: Talk) -> None:
        await talk.accept()
        await talk.send(packet)
        if packet[0] != DISCONNECT:
            await talk.gone()

    async def healed(talk: Talk) -> None:
        details.append(bus.status().detail)
        await talk.accept()
        await talk.send(message(b"good", 1))
        await talk.expect(PUBACK)

    async with peer(script, healed) as port, client_bus(port, basket, wait=False) as bus:
        await basket.holds(b"good")
    assert any(part in details[0] for part in reason.split("|")), details


async def test_refused_subscriptions_are_named() -> None:
    async def some(talk: Talk) -> None:
        await talk.accept(refused=2)
        await talk.gone()

    async def every(talk: Talk) -> None:
        await talk.accept(refused=6)
        await talk.gone()

    async with peer(some) as port, client_bus(port, Basket()) as bus:
        assert bus.status().detail.endswith(
            "subscriptions refused: smartair/v1/home/+/pose, smartair/v1/home/+/sensor"
        )
    async with peer(every) as port, client_bus(port, Basket(), wait=False) as bus:
        await eventually(lambda: "subscriptions refused" in bus.status().detail)
        assert not bus.status().connected


async def test_a_broker_that_does_not_answer_is_left_in_time() -> None:
    async def deaf(talk: Talk) -> None:
        await talk.gone()

    async def half_deaf(talk: Talk) -> None:
        await talk.send(mqtt5.ConnAckPacket().write())
        await talk.expect(SUBSCRIBE)
        await talk.gone()

    for script, what in ((deaf, "CONNECT"), (half_deaf, "SUBSCRIBE")):
        await _is_left(script, f"no answer to {what} within 0.2 s")


async def _is_left(script: Callable[[Talk], Awaitable[None]], detail: str) -> None:
    async with (
        peer(script) as port,
        client_bus(port, Basket(), wait=False, timeout_s=0.2) as bus,
    ):
        await eventually(lambda: bus.figures()["failures"] >= 1)
        assert detail in bus.status().detail
        with pytest.raises(Unavailable):
            await bus.publish("a/b", b"x")


async def test_the_brokers_own_keep_alive_counts() -> None:
    async def script(talk: Talk) -> None:
        await talk.accept(keepalive_s=1)
        for _ in range(2):
            await talk.expect(PINGREQ)
            await talk.send(b"\xd0\x00")
        await talk.expect(PINGREQ)
        await talk.gone()  # this one stays without an answer

    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with peer(script) as port, client_bus(port, Basket(), timeout_s=0.3) as bus:
        await eventually(lambda: "no sign of life within 0.3 s" in bus.status().detail)
    assert 3 * 0.75 <= loop.time() - begun < 4.0


async def test_while_paused_pings_go_out_and_no_answer_is_counted() -> None:
    basket = Basket()

    async def script(talk: Talk) -> None:
        await talk.accept(keepalive_s=1)
        await eventually(lambda: bus.status().connected)
        bus.pause()
        await talk.send(message(b"waits", 1))
        for _ in range(3):  # 2.25 s, far over the time for an answer
            await talk.expect(PINGREQ)
        assert not basket.batches
        bus.resume()
        assert await talk.ids(PUBACK, 1) == [1]

    async with peer(script) as port, client_bus(port, basket, wait=False, timeout_s=0.3) as bus:
        await basket.holds(b"waits")
        assert bus.figures()["failures"] == 0


async def test_leaving_says_goodbye_and_keeps_the_session() -> None:
    said: list[bytes] = []

    async def script(talk: Talk) -> None:
        await talk.accept()
        said.append(await talk.expect(DISCONNECT))

    async with peer(script) as port, client_bus(port, Basket()):
        pass
    assert said == [b""]  # normal, and no new session expiry
