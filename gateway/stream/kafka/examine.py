"""The doctor's look at Kafka: nothing is made, no group is joined, and a gateway may be running."""

import asyncio
from collections.abc import AsyncIterator

from gateway.config.model import KafkaStream
from gateway.core.errors import Unavailable
from gateway.core.findings import Finding, Level
from gateway.stream.kafka.security import Security
from gateway.stream.kafka.session import Session
from gateway.stream.kafka.topics import topics

_ADVICE = "start it, or mend servers, tls, sasl, user and password_file of [stream]"


async def examine(config: KafkaStream) -> AsyncIterator[Finding]:
    """Yield whether the login works, every broker answers, and the topics are there."""
    session = Session(config, Security(config), "edge-gateway-doctor")
    try:
        async with asyncio.timeout(2 * config.timeout_s):
            brokers, absent = await session.look()
    except TimeoutError:
        found = f"no answer within {2 * config.timeout_s:g} s"
        yield Finding(Level.FAIL, "Kafka", found, _ADVICE, service=True)
        return
    except Unavailable as exc:
        yield Finding(Level.FAIL, "Kafka", exc.detail, _ADVICE, service=True)
        return
    finally:
        session.close()
    yield Finding(Level.OK, "Kafka", f"lets us in, {brokers} broker(s) answer")
    names = topics(config.prefix)
    if absent:
        found = f"may be made, at the start of the gateway: {', '.join(absent)}"
    else:
        found = f"{config.prefix}.* are there, {len(names)} of them"
    yield Finding(Level.OK, "Kafka topics", found)
