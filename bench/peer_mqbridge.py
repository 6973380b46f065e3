"""mq-bridge (Rust, from PyPI) as a peer: MQTT at QoS 1 from a broker into one Kafka topic.

``acks=all`` and the acknowledgement to the broker only after Kafka's, as the gateway does it.
Prints "listening" when the route runs.
"""

import argparse
import signal
from typing import Any

from mq_bridge import Route

from bench.payloads import PREFIX


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mqtt", type=int, required=True, help="port of the broker")
    parser.add_argument("--kafka", required=True, help="host:port")
    parser.add_argument("--topic", required=True)
    args = parser.parse_args()
    route: dict[str, Any] = {
        "input": {
            "mqtt": {
                "url": f"tcp://127.0.0.1:{args.mqtt}",
                "topic": f"{PREFIX}/+/pose",
                "client_id": "mq-bridge",
                "qos": 1,
                "queue_capacity": 10_000,
                "max_inflight": 10_000,
            }
        },
        "output": {
            "kafka": {
                "url": args.kafka,
                "topic": args.topic,
                "create_topic": False,
                "producer_options": [["acks", "all"], ["compression.codec", "lz4"]],
            }
        },
        "batch_size": 2_000,
    }
    with Route.from_config(route):
        print("listening", flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
