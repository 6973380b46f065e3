"""/api/events as server-sent events, and /api/coordinates."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from gateway.config.model import Live as LiveConfig
from gateway.core.kinds import Kind
from gateway.core.payloads import Event, Sensor
from tests.live.rig import Rig, pose, running


@asynccontextmanager
async def opened(
    rig: Rig, query: str = "", *, last_id: str = ""
) -> AsyncIterator[aiohttp.ClientResponse]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with (
        aiohttp.ClientSession() as session,
        session.get(rig.url + "/api/events" + query, headers=headers) as response,
    ):
        yield response


async def block(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Return the fields of the next event; a comment has the field ''."""
    fields: dict[str, str] = {}
    async with asyncio.timeout(10):
        while (line := (await response.content.readline()).decode()) != "\n":
            assert line, "the stream ended"
            name, _, value = line.rstrip("\n").partition(":")
            fields[name] = value.removeprefix(" ")
    return fields


def happen(rig: Rig, code: str) -> None:
    rig.live.publish([(Kind.EVENT, "r1", Event(code=code), 1, 1)])


async def test_headers_retry_and_events() -> None:
    async with running() as rig, opened(rig) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store, no-transform"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert await block(response) == {"retry": "2000"}
        happen(rig, "STUCK")
        event = await block(response)
        assert (event["id"], event["event"]) == (f"{rig.live.epoch}-1", "event")
        assert f'"id":"{event["id"]}"' in event["data"]
        assert '"code":"STUCK"' in event["data"]


async def test_last_event_id_resumes() -> None:
    async with running() as rig:
        for i in range(5):
            happen(rig, f"E{i}")
        async with opened(rig, last_id=f"{rig.live.epoch}-3") as response:
            assert await block(response) == {"retry": "2000"}
            codes = [await block(response) for _ in range(2)]
            assert ['"E3"' in codes[0]["data"], '"E4"' in codes[1]["data"]] == [True, True]
            happen(rig, "E5")
            assert '"E5"' in (await block(response))["data"]


async def test_a_position_that_is_lost_is_a_reset_first() -> None:
    async with running(LiveConfig(event_history=2)) as rig:
        for i in range(5):
            happen(rig, f"E{i}")
        async with opened(rig, last_id=f"{rig.live.epoch}-1") as response:
            assert await block(response) == {"retry": "2000"}
            reset = await block(response)
            assert (reset["event"], reset["id"]) == ("reset", f"{rig.live.epoch}-5")
        async with opened(rig, last_id=reset["id"]) as response:
            assert await block(response) == {"retry": "2000"}
            happen(rig, "NEXT")
            assert '"NEXT"' in (await block(response))["data"]


async def test_chosen_types_and_robots() -> None:
    async with running() as rig, opened(rig, "?types=sensor&robotId=a") as response:
        await block(response)
        happen(rig, "NOT_ASKED")
        rig.live.publish([(Kind.SENSOR, name, Sensor(co2=400), 1, 1) for name in ("b", "a")])
        assert '"robotId":"a"' in (await block(response))["data"]


async def test_heartbeat() -> None:
    async with running(LiveConfig(heartbeat_s=0.5)) as rig, opened(rig) as response:
        await block(response)
        assert await block(response) == {"": ""}


async def test_a_reader_whose_queue_is_full_is_disconnected_and_resumes() -> None:
    async with running(LiveConfig(event_queue=4)) as rig:
        async with opened(rig) as response:
            await block(response)
            for i in range(200):  # more than is sent in one go
                happen(rig, f"E{i}")
            got = []
            with pytest.raises(AssertionError, match="ended"):
                while True:
                    got.append(await block(response))
        assert rig.live.figures()["event_readers_disconnected"] == 1
        assert len(got) < 200
        last_id = got[-1]["id"] if got else f"{rig.live.epoch}-0"
        async with opened(rig, last_id=last_id) as response:
            await block(response)
            for _ in range(200 - len(got)):
                got.append(await block(response))
        assert [event["id"] for event in got] == [f"{rig.live.epoch}-{n + 1}" for n in range(200)]


@pytest.mark.parametrize("query", ["?types=nonsense", "?robotId=no%20spaces"])
async def test_a_bad_choice_is_a_problem(query: str) -> None:
    async with running() as rig, opened(rig, query) as response:
        assert response.status == 400
        assert (await response.json(content_type=None))["code"] == "INVALID"


async def test_too_many_streams_is_503() -> None:
    async with running(LiveConfig(clients=1)) as rig, opened(rig) as first:
        await block(first)
        async with opened(rig) as second:
            assert second.status == 503
            assert second.headers["Retry-After"]


async def test_coordinates_are_the_newest_poses() -> None:
    async with running() as rig, aiohttp.ClientSession() as session:
        rig.live.publish([pose("a", 1, 1), pose("b", 1, 2), pose("a", 2, 3)])
        async with session.get(rig.url + "/api/coordinates") as response:
            body = await response.json()
        assert (body["epoch"], body["offset"]) == (rig.live.epoch, 3)
        assert [(item["id"], item["seq"]) for item in body["poses"]] == [("a", 3), ("b", 2)]
