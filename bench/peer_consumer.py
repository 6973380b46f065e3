"""A subscriber on aiomqtt that counts poses: what the classic Python service does per message.

Prints "ready" when it is subscribed, then one JSON object when ``--count`` messages came: lastAt
(CLOCK_MONOTONIC) and messages.
"""

import argparse
import json
import time

import aiomqtt
import msgspec
import uvloop

from bench.payloads import PREFIX


async def consume(port: int, count: int) -> None:
    decode = msgspec.json.Decoder(dict).decode
    seen = 0
    async with aiomqtt.Client("127.0.0.1", port, max_queued_incoming_messages=0) as client:
        await client.subscribe(f"{PREFIX}/+/pose", qos=1)
        print("ready", flush=True)
        async for message in client.messages:
            if isinstance(message.payload, bytes):
                decode(message.payload)
                seen += 1
            if seen >= count:
                break
        print(json.dumps({"messages": seen, "lastAt": time.monotonic()}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="of the broker")
    parser.add_argument("--count", type=int, required=True)
    args = parser.parse_args()
    uvloop.run(consume(args.port, args.count))


if __name__ == "__main__":
    main()
