"""The classic Python way, as a peer: aiomqtt subscriber to aiohttp WebSockets, JSON in between.

One task reads the broker; each message is decoded, wrapped as a pose message and sent to every
reader in turn. No durability, no resume, no conflation. Prints "listening <port>" when it is ready.
"""

import argparse
import json
from typing import Any

import aiomqtt
import uvloop
from aiohttp import web

from bench.payloads import PREFIX

readers: set[web.WebSocketResponse] = set()


async def coordinates(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    readers.add(socket)
    try:
        async for _ in socket:
            pass
    finally:
        readers.discard(socket)
    return socket


async def forward(client: aiomqtt.Client) -> None:
    async for message in client.messages:
        payload = message.payload
        if not isinstance(payload, bytes):
            continue
        pose: dict[str, Any] = json.loads(payload)
        pose["id"] = message.topic.value.rsplit("/", 2)[1]
        text = json.dumps({"type": "pose", "poses": [pose]})
        for socket in list(readers):
            try:
                await socket.send_str(text)
            except ConnectionResetError:
                readers.discard(socket)


async def serve(mqtt: int) -> None:
    app = web.Application()
    app.router.add_get("/ws/coordinates", coordinates)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiomqtt.Client("127.0.0.1", mqtt, max_queued_incoming_messages=0) as client:
        await client.subscribe(f"{PREFIX}/+/pose", qos=1)
        print("listening", runner.addresses[0][1], flush=True)
        await forward(client)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mqtt", type=int, required=True, help="port of the broker")
    args = parser.parse_args()
    uvloop.run(serve(args.mqtt))


if __name__ == "__main__":
    main()
