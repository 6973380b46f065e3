"""The end of the live view: every stream is told, and none holds the stop up."""

import asyncio
import time

import aiohttp

from gateway.config.model import Live as LiveConfig
from tests.live.rig import Client, now_ms, pose, running


async def test_stop_with_500_open_streams() -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        async with running() as rig:
            sockets = [await rig.connect() for _ in range(240)]
            sockets += [await rig.connect("/ws/events") for _ in range(10)]
            streams = [await session.get(rig.url + "/api/events") for _ in range(250)]
            rig.live.publish([pose("r", now_ms(), 1)])
            assert rig.live.readers == 500
            told = [asyncio.ensure_future(end_of(client)) for client in sockets]  # noqa: TID251
            stopping = time.monotonic()
            await rig.live.close()
            assert time.monotonic() - stopping < 2.0
            assert {await code for code in told} == {1001}
        assert time.monotonic() - stopping < 3.0
        for stream in streams:
            assert (await stream.read()).endswith(b"retry: 1000\n\n")


async def end_of(client: Client) -> int | None:
    async for _ in client.messages():
        pass
    return client.closed_with


async def test_stop_is_quick_when_clients_say_goodbye() -> None:
    async with running() as rig, aiohttp.ClientSession() as session:
        socket = await session.ws_connect(rig.url + "/ws/coordinates")
        assert (await socket.receive_json())["type"] == "snapshot"
        closing = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            group.create_task(rig.live.close())
            message = await socket.receive()
        assert asyncio.get_running_loop().time() - closing < 0.5
        assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 1001)


async def test_nobody_joins_a_view_that_is_closing() -> None:
    async with running(LiveConfig()) as rig:
        await rig.live.close()
        late = await rig.connect()
        assert [message async for message in late.messages()] == []
        assert late.closed_with == 1013
        late.close()
