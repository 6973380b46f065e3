"""The client backend against a real Mosquitto: nothing acknowledged early, nothing lost."""

import asyncio
import json
import sys
from pathlib import Path
from signal import SIGKILL

import aiomqtt
import pytest

from gateway.bus.client.session import connect
from gateway.config.model import ConfigError, MqttBus
from gateway.core.errors import Unavailable
from tests.bus.client_rig import (
    QUICK,
    SITE,
    TOPIC,
    Basket,
    client_bus,
    device,
    eventually,
    mqtt_config,
    publish,
)
from tests.services.mosquitto import Mosquitto
from tests.services.process import Process, free_port


async def test_messages_of_every_qos_arrive_in_order(mosquitto: Mosquitto) -> None:
    basket = Basket()
    sent = [b"%d" % number for number in range(300)]
    async with client_bus(mosquitto.port, basket) as bus:
        assert bus.status().detail == f"mqtt://127.0.0.1:{mosquitto.port}: MQTT 5"
        for qos in (0, 1, 2):
            basket.batches.clear()
            await publish(mosquitto.port, *sent, qos=qos)
            await basket.holds(*sent)
            assert basket.items == [(TOPIC, payload) for payload in sent]
        await eventually(lambda: bus.figures()["acknowledged"] == 2 * len(sent))
        assert bus.figures()["received"] == 3 * len(sent)


async def test_retained_states_come_at_every_connect(mosquitto: Mosquitto) -> None:
    await publish(mosquitto.port, b"here", retain=True)
    for _ in range(2):  # the second time with a session that is there already
        basket = Basket()
        async with client_bus(mosquitto.port, basket):
            await basket.holds(b"here")


async def test_what_was_published_while_away_arrives(mosquitto: Mosquitto) -> None:
    async with client_bus(mosquitto.port, Basket()):
        pass
    await publish(mosquitto.port, b"1", b"2", b"3")
    basket = Basket()
    async with client_bus(mosquitto.port, basket):
        await basket.holds(b"1", b"2", b"3")
    assert basket.payloads == [b"1", b"2", b"3"]


async def test_the_unacknowledged_is_delivered_again(mosquitto: Mosquitto) -> None:
    basket = Basket(acknowledging=False)
    sent = [b"%d" % number for number in range(100)]
    async with client_bus(mosquitto.port, basket):
        for payload in sent:  # one by one, so that they come in several batches
            await publish(mosquitto.port, payload)
            await basket.holds(payload)
            if payload == b"49":
                for batch in basket.batches:
                    batch.acknowledge()
    for batch in basket.batches[50:]:
        batch.acknowledge()  # too late: this must not reach the broker in any way

    again = Basket()
    async with client_bus(mosquitto.port, again):
        await again.holds(*sent[50:])
    assert again.payloads == sent[50:]


async def test_what_a_killed_gateway_had_not_acknowledged_comes_again(
    mosquitto: Mosquitto,
) -> None:
    async with client_bus(mosquitto.port, Basket()):
        pass  # the session is there from now on
    sent = [b"%d" % number for number in range(100)]
    await publish(mosquitto.port, *sent)
    command = [sys.executable, "-m", "tests.bus.client_child", str(mosquitto.port)]
    child = Process(command)
    try:
        await child.said("took 99")
    finally:
        child.end(SIGKILL)
    basket = Basket()
    async with client_bus(mosquitto.port, basket):
        await basket.holds(*sent)
    assert basket.payloads == sent


async def test_a_broker_that_comes_later_is_found(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "mosquitto")
    broker.port = free_port()
    basket = Basket()
    async with client_bus(broker.port, basket, wait=False) as bus:
        await eventually(lambda: "next attempt in" in bus.status().detail)
        assert not bus.status().connected
        assert "away: Connection refused" in bus.status().detail
        with pytest.raises(Unavailable):
            await bus.publish("a/b", b"x")
        with broker:
            await eventually(lambda: bus.status().connected)
            await publish(broker.port, b"late")
            await basket.holds(b"late")


async def test_a_killed_broker_loses_nothing_that_it_had_saved(mosquitto: Mosquitto) -> None:
    basket = Basket(acknowledging=False)
    async with client_bus(mosquitto.port, basket) as bus:
        await publish(mosquitto.port, b"1", b"2")
        await basket.holds(b"1", b"2")
        await mosquitto.save()
        mosquitto.kill()
        await eventually(lambda: not bus.status().connected)
        for batch in basket.batches:
            batch.acknowledge()  # of a connection that is gone: does nothing
        basket.batches.clear()
        basket.acknowledging = True
        mosquitto.start()
        await basket.holds(b"1", b"2")
        await publish(mosquitto.port, b"3")
        await basket.holds(b"3")
        assert bus.figures()["connects"] == 2
        assert bus.figures()["sessions_lost"] == 0


async def test_a_forgotten_session_is_noticed(mosquitto: Mosquitto) -> None:
    async with client_bus(mosquitto.port, Basket()) as bus:
        mosquitto.kill()  # without having saved
        mosquitto.start()
        await eventually(lambda: bus.figures()["connects"] == 2)
        assert bus.figures()["sessions_lost"] == 1


async def test_a_hung_broker_is_left_and_found_again(mosquitto: Mosquitto) -> None:
    basket = Basket()
    loop = asyncio.get_running_loop()
    async with client_bus(mosquitto.port, basket, keepalive_s=5, timeout_s=1.0) as bus:
        mosquitto.freeze()
        begun = loop.time()
        await eventually(lambda: not bus.status().connected)
        assert loop.time() - begun < 15  # 6 s; TCP alone would take minutes
        assert "no sign of life" in bus.status().detail
        mosquitto.thaw()
        await eventually(lambda: bus.status().connected)
        await publish(mosquitto.port, b"thawed")
        await basket.holds(b"thawed")


async def test_keep_alive_goes_on_while_reading_is_paused(mosquitto: Mosquitto) -> None:
    basket = Basket()
    async with client_bus(mosquitto.port, basket, keepalive_s=5, timeout_s=1.0) as bus:
        bus.pause()
        bus.pause()
        await publish(mosquitto.port, b"waits")
        for _ in range(3):  # the broker would end it after 7.5 s without a word
            await mosquitto.seen("Received PINGREQ", after=len(mosquitto.output))
        assert bus.status().connected
        assert not basket.batches
        bus.resume()
        bus.resume()
        await basket.holds(b"waits")
        assert bus.figures()["connects"] == 1


async def test_a_connection_lost_while_paused_returns_after_resume(mosquitto: Mosquitto) -> None:
    basket = Basket()
    async with client_bus(mosquitto.port, basket, keepalive_s=5) as bus:
        bus.pause()
        await mosquitto.save()
        mosquitto.kill()
        await eventually(lambda: "waiting for the journal" in bus.status().detail)
        mosquitto.start()
        await publish(mosquitto.port, b"kept")
        assert not basket.batches
        bus.resume()
        await basket.holds(b"kept")


async def test_a_client_that_takes_our_id_does_not_end_us(mosquitto: Mosquitto) -> None:
    basket = Basket()
    async with client_bus(mosquitto.port, basket) as bus:
        thief = device(
            mosquitto.port,
            identifier=f"edge-gateway-{SITE}",
            protocol=aiomqtt.ProtocolVersion.V311,
        )
        with pytest.raises(aiomqtt.MqttError, match="Disconnected"):
            async with thief as client:  # until we take it back
                async with asyncio.timeout(10):
                    await anext(client.messages)
        await eventually(lambda: bus.status().connected)
        await publish(mosquitto.port, b"ours again")
        await basket.holds(b"ours again")


async def test_publish_reaches_a_subscriber(mosquitto: Mosquitto) -> None:
    async with client_bus(mosquitto.port, Basket()) as bus, device(mosquitto.port) as robot:
        await robot.subscribe("smartair/v1/home/r1/cmd", qos=2)
        await eventually(lambda: bus.control.connected)
        for qos in (0, 1, 2):
            await bus.publish("smartair/v1/home/r1/cmd", b"go%d" % qos, qos=qos)
        async with asyncio.timeout(5):
            got = [bytes((await anext(robot.messages)).payload) for _ in range(3)]
        assert got == [b"go0", b"go1", b"go2"]


async def test_publish_to_a_hung_broker_is_unavailable_in_time(mosquitto: Mosquitto) -> None:
    async with client_bus(mosquitto.port, Basket(), timeout_s=0.5) as bus:
        await eventually(lambda: bus.control.connected)
        mosquitto.freeze()
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                await bus.publish("a/b", b"x")
        mosquitto.thaw()


async def test_a_probe_finds_a_hung_broker_long_before_the_keep_alive(mosquitto: Mosquitto) -> None:
    basket = Basket()
    async with client_bus(mosquitto.port, basket, keepalive_s=3600, timeout_s=1.0) as bus:
        await eventually(lambda: bus.control.connected)
        mosquitto.freeze()
        with pytest.raises(Unavailable):
            await bus.probe(TOPIC, b"lost in the silence")
        await eventually(lambda: not bus.status().connected and "away" in bus.status().detail)
        assert not bus.control.connected
        mosquitto.thaw()
        await eventually(lambda: bus.status().connected and bus.control.connected)
        await bus.probe(TOPIC, b"there")
        await basket.holds(b"there")


async def test_birth_and_will_tell_whether_the_gateway_is_there(mosquitto: Mosquitto) -> None:
    async def state(robot: aiomqtt.Client) -> str:
        async with asyncio.timeout(10):
            message = await anext(robot.messages)
        said = json.loads(bytes(message.payload))
        assert said["ts"] > 1_600_000_000_000
        return str(said["state"])

    async with device(mosquitto.port) as watcher:
        await watcher.subscribe("smartair/v1-gateway/home/status", qos=1)
        async with client_bus(mosquitto.port, Basket()) as bus:
            assert await state(watcher) == "online"
            control = f"edge-gateway-{SITE}-control"
            async with device(mosquitto.port, identifier=control):  # ends ours without a word
                assert await state(watcher) == "offline"
            assert await state(watcher) == "online"
            await eventually(lambda: bus.control.connected)
        assert await state(watcher) == "offline"


@pytest.mark.parametrize(
    "url",
    ["http://host", "mqtt://", "mqtt://me:secret@host", "mqtt://host:99999", "mqtt://host/path"],
)
async def test_an_unusable_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"bus\.url"):
        async with connect(MqttBus(url=url), Basket(), site=SITE, backoff=QUICK):
            pass


async def test_a_stop_is_quick_while_the_broker_hangs(mosquitto: Mosquitto) -> None:
    loop = asyncio.get_running_loop()
    async with client_bus(mosquitto.port, Basket()) as bus:
        await eventually(lambda: bus.control.connected)
        mosquitto.freeze()
        begun = loop.time()
    assert loop.time() - begun < 4
    assert mqtt_config(1).timeout_s > 4
