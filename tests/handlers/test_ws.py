"""/ws/coordinates and /ws/events over real sockets."""

import asyncio
import math
from collections.abc import AsyncIterator

import aiohttp
import pytest

from gateway.config.model import Live as LiveConfig
from gateway.core.kinds import Kind
from gateway.core.payloads import Connection, Event, Pose, Sensor, State
from tests.live.rig import Client, Rig, pose, running, seqs


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as opened:
        yield opened


async def test_a_snapshot_and_then_poses(rig: Rig) -> None:
    rig.live.publish([pose("r1", 1_000, 1)])
    client = await rig.connect()
    snapshot = await client.until("snapshot")
    assert snapshot["epoch"] == rig.live.epoch
    assert snapshot["offset"] == 1
    assert seqs([snapshot]) == [1]
    rig.live.publish([pose("r1", 1_001, 2)])
    frame = await client.until("pose")
    assert frame["offset"] == 2
    assert frame["poses"] == [
        {"id": "r1", "mapId": "f1", "x": 1.5, "y": -2.25, "theta": 0.5, "vx": 0.0, "vy": 0.0,
         "omega": 0.0, "localized": True, "battery": None, "state": None, "ts": 1_001,
         "rts": 1_001, "seq": 2}
    ]  # fmt: skip
    client.close()


async def test_theta_is_normalised_and_state_joins_the_pose(rig: Rig) -> None:
    client = await rig.connect()
    await client.until("snapshot")
    turned = Pose(x=0, y=0, theta=3 * math.pi / 2)
    rig.live.publish([(Kind.STATE, "r1", State(state="cleaning", battery=87), 5, 5)])
    rig.live.publish([(Kind.POSE, "r1", turned, 6, 6)])
    (seen,) = (await client.until("pose"))["poses"]
    assert seen["theta"] == pytest.approx(-math.pi / 2)
    assert (seen["battery"], seen["state"], seen["mapId"]) == (87.0, "cleaning", None)
    rig.live.publish([(Kind.STATE, "r1", State(state="docked", battery=88), 7, 7)])
    (seen,) = (await client.until("pose"))["poses"]  # the pose is old, what is shown is not
    assert (seen["battery"], seen["state"], seen["ts"]) == (88.0, "docked", 6)
    client.close()


async def test_poses_of_one_tick_share_a_frame_with_the_newest_of_each_robot(rig: Rig) -> None:
    client = await rig.connect()
    await client.until("snapshot")
    rig.live.publish([pose("r1", 1, 1), pose("r2", 1, 10), pose("r1", 2, 2)])
    frame = await client.until("pose")
    assert (frame["offset"], seqs([frame])) == (3, [2, 10])
    client.close()


async def test_robots_chosen_by_query_and_by_subscribe(rig: Rig) -> None:
    rig.live.publish([pose("a", 1, 1), pose("b", 1, 2), pose("c", 1, 3)])
    client = await rig.connect("/ws/coordinates?robotId=a,b")
    assert seqs([await client.until("snapshot")]) == [1, 2]
    await client.send({"op": "subscribe", "robots": ["c"]})
    assert seqs([await client.until("snapshot")]) == [3]
    rig.live.publish([pose("a", 2, 4), pose("c", 2, 5)])
    assert seqs([await client.until("pose")]) == [5]
    await client.send({"op": "subscribe"})
    assert seqs([await client.until("snapshot")]) == [4, 2, 5]
    rig.live.publish([pose("a", 3, 6)])
    assert seqs([await client.until("pose")]) == [6]
    client.close()


async def gap(rig: Rig, client: Client, count: int) -> tuple[str, int]:
    """Cut ``client``, let ``count`` poses pass, return the position to resume from."""
    snapshot = await client.until("snapshot")
    rig.live.publish([pose("r1", 1, 1)])
    frame = await client.until("pose")
    client.close()
    for i in range(count):
        rig.live.publish([pose("r1", 2 + i, 2 + i)])
    return snapshot["epoch"], frame["offset"]


async def test_resume_sends_every_pose_of_the_gap() -> None:
    async with running(LiveConfig(history=1_000)) as rig:
        epoch, offset = await gap(rig, await rig.connect(), 900)
        client = await rig.connect()
        await client.until("snapshot")
        await client.send({"op": "resume", "epoch": epoch, "offset": offset})
        resumed = await client.until("resumed")
        assert resumed == {"type": "resumed", "recovered": True, "epoch": epoch, "offset": 901}
        got: list[int] = []
        while len(got) < 900:
            frame = await client.until("pose")
            got += seqs([frame])
            assert frame["offset"] == got[-1]
        assert got == list(range(2, 902))  # none missing, none twice, in order
        rig.live.publish([pose("r1", 5_000, 5_000)])
        assert seqs([await client.until("pose")]) == [5_000]
        client.close()


async def test_resume_beyond_the_history_says_so_and_sends_a_snapshot() -> None:
    async with running(LiveConfig(history=100)) as rig:
        epoch, offset = await gap(rig, await rig.connect(), 1_000)
        client = await rig.connect(f"/ws/coordinates?epoch={epoch}&offset={offset}")
        assert (await client.until("resumed"))["recovered"] is False
        assert seqs([await client.until("snapshot")]) == [1_001]
        client.close()


async def test_what_was_promised_arrives_although_the_history_moves_on() -> None:
    async with running(LiveConfig(history=512)) as rig:
        epoch, offset = await gap(rig, await rig.connect(), 500)
        client = await rig.connect(f"/ws/coordinates?epoch={epoch}&offset={offset}")
        for i in range(2_000):  # more than the history holds, before the client reads anything
            rig.live.publish([pose("other", i + 1, 10_000 + i)])
        assert (await client.until("resumed"))["recovered"] is True
        got: list[int] = []
        while len(got) < 500:
            got += [seq for seq in seqs([await client.until("pose")]) if seq < 10_000]
        assert got == list(range(2, 502))
        client.close()


async def test_without_anybody_who_could_resume_there_is_no_history(rig: Rig) -> None:
    rig.live.publish([pose("a", 1, 1)])
    rig.live.publish([pose("a", 2, 2)])
    client = await rig.connect(f"/ws/coordinates?epoch={rig.live.epoch}&offset=1")
    assert (await client.until("resumed"))["recovered"] is False
    assert [item["seq"] for item in (await client.until("snapshot"))["poses"]] == [2]


async def test_resume_of_chosen_robots_sends_theirs_only(rig: Rig) -> None:
    rig.live.snapshot_json()  # from here on somebody has an offset
    rig.live.publish([pose(robot, 1, 1) for robot in "ab"])
    rig.live.publish([pose(robot, 2, 2) for robot in "ab"])
    path = f"/ws/coordinates?robotId=b&epoch={rig.live.epoch}&offset=1"
    client = await rig.connect(path)
    assert (await client.until("resumed"))["recovered"] is True
    frame = await client.until("pose")
    assert [(item["id"], item["seq"]) for item in frame["poses"]] == [("b", 1), ("b", 2)]
    client.close()


@pytest.mark.parametrize(
    "position", [("another", 0), (None, 5), (None, 2**62)], ids=["epoch", "ahead", "far ahead"]
)
async def test_a_position_that_is_not_ours_is_not_recovered(
    rig: Rig, position: tuple[str | None, int]
) -> None:
    rig.live.publish([pose("r1", 1, 1)])
    client = await rig.connect()
    await client.until("snapshot")
    await client.send(
        {"op": "resume", "epoch": position[0] or rig.live.epoch, "offset": position[1]}
    )
    assert (await client.until("resumed"))["recovered"] is False
    assert seqs([await client.until("snapshot")]) == [1]
    client.close()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '"x"', '{"op":"shout"}', '{"op":"resume","epoch":"e"}', '{"op":"subscribe",'
     '"robots":["no spaces"]}', '{"op":"resume","epoch":"e","offset":-1}', '{"op":"subscribe",'
     '"robots":null,"more":1}'],
)  # fmt: skip
async def test_a_message_that_makes_no_sense_is_answered_and_the_socket_stays(
    rig: Rig, text: str
) -> None:
    client = await rig.connect()
    await client.until("snapshot")
    await client.send_frame(0x1, text.encode())
    answer = await client.until("error")
    assert answer["code"] == "INVALID"
    assert answer["detail"]
    rig.live.publish([pose("r1", 1, 1)])
    assert await client.until("pose")
    client.close()


async def test_a_ping_is_answered(rig: Rig) -> None:
    client = await rig.connect()
    await client.until("snapshot")
    await client.send_frame(0x9, b"are you there")
    data = await asyncio.get_running_loop().sock_recv(client.sock, 100)
    assert data.endswith(b"\x8a\x0dare you there")
    client.close()


@pytest.mark.parametrize(
    ("payload", "times", "code"), [(b"x" * 70_000, 1, 1009), (b"{}", 60, 1008), (b"\xff", 1, 1007)]
)
async def test_abuse_ends_with_its_code(rig: Rig, payload: bytes, times: int, code: int) -> None:
    client = await rig.connect()
    await client.until("snapshot")
    for _ in range(times):
        await client.send_frame(0x1, payload)
    async for _ in client.messages():
        if client.closed_with:
            break
    assert client.closed_with == code
    client.close()


async def test_one_reader_too_many_is_told_to_try_later() -> None:
    async with running(LiveConfig(clients=1)) as rig:
        first = await rig.connect()
        await first.until("snapshot")
        second = await rig.connect()
        assert [message async for message in second.messages()] == []
        assert second.closed_with == 1013
        first.close()
        second.close()


async def test_bad_query_is_refused_before_the_handshake(rig: Rig) -> None:
    async with aiohttp.ClientSession() as session:
        for query in ("robotId=no%20spaces", "epoch=e&offset=x"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{rig.url}/ws/coordinates?{query}")
            assert refused.value.status == 400


async def test_events_of_all_types_in_order(rig: Rig) -> None:
    client = await rig.connect("/ws/events")
    rig.live.publish(
        [
            (Kind.SENSOR, "r1", Sensor(pm25=12.5, co2=600, seq=4), 10, 11),
            (Kind.STATE, "r1", State(state="error", error="stuck"), 12, 13),
            (Kind.EVENT, "r1", Event(code="STUCK", level="warning", room="k"), 14, 15),
            (Kind.CONNECTION, "r1", Connection(state="lost"), 1, 16),
        ]
    )
    rig.live.announce("alert", None, {"code": "DISK_FULL"}, ts=17)
    got = [await client.until(type_) for type_ in ("sensor", "state", "event", "state", "alert")]
    head = {"robotId": "r1"}
    ids = [f"{rig.live.epoch}-{n}" for n in range(1, 6)]
    assert [event.pop("id") for event in got] == ids
    assert got[0] == head | {"type": "sensor", "ts": 10, "rts": 11, "pm25": 12.5, "co2": 600.0,
                             "seq": 4}  # fmt: skip
    assert got[1] == head | {"type": "state", "ts": 12, "rts": 13, "state": "error",
                             "battery": None, "fan": None, "filter": None,
                             "error": "stuck"}  # fmt: skip
    assert got[2] == head | {"type": "event", "ts": 14, "rts": 15, "code": "STUCK",
                             "level": "warning", "x": None, "y": None, "room": "k"}  # fmt: skip
    assert got[3] == head | {"type": "state", "ts": 1, "rts": 16, "connection": "lost",
                             "fw": None, "model": None}  # fmt: skip
    assert got[4] == {"type": "alert", "robotId": None, "ts": 17, "rts": 17, "code": "DISK_FULL"}
    client.close()


async def test_events_chosen_by_query_and_by_subscribe(rig: Rig) -> None:
    client = await rig.connect("/ws/events?types=event&robotId=a")
    happened = [
        (int(Kind.EVENT), robot, Event(code=code), 1, 1)
        for robot, code in (("b", "NOT_ASKED"), ("a", "ASKED"))
    ]
    await joined(rig, 1)
    rig.live.publish([*happened, (Kind.SENSOR, "a", Sensor(co2=500), 1, 1)])
    assert (await client.until("event"))["code"] == "ASKED"
    await client.send({"op": "subscribe", "types": ["sensor"]})
    await client.send({"op": "subscribe", "types": ["nonsense"]})
    assert (await client.until("error"))["detail"] == "no such type: nonsense"
    rig.live.publish([*happened, (Kind.SENSOR, "b", Sensor(co2=501), 2, 2)])
    assert (await client.until("sensor"))["co2"] == 501.0
    client.close()


async def joined(rig: Rig, count: int) -> None:
    async with asyncio.timeout(5):
        while rig.live.readers < count:  # noqa: ASYNC110 - a handshake on the same loop
            await asyncio.sleep(0)


async def test_events_resume_after_the_last_id() -> None:
    async with running(LiveConfig(event_history=3)) as rig:
        for i in range(5):
            rig.live.publish([(Kind.EVENT, "r", Event(code=f"E{i}"), i, i)])
        client = await rig.connect(f"/ws/events?lastEventId={rig.live.epoch}-3")
        assert [(await client.until("event"))["code"] for _ in range(2)] == ["E3", "E4"]
        client.close()
        for last_id in (f"{rig.live.epoch}-1", "other-4", f"{rig.live.epoch}-9", "nonsense"):
            client = await rig.connect(f"/ws/events?lastEventId={last_id}")
            assert (await client.until("reset"))["epoch"] == rig.live.epoch
            client.close()
