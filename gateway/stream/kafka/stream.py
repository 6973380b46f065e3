"""Both ways of the ``kafka`` backend, and the tasks that keep them."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from gateway.aio.supervisor import Supervisor
from gateway.config.model import KafkaStream
from gateway.stream.kafka.consumer import KafkaConsumer
from gateway.stream.kafka.producer import KafkaProducer
from gateway.stream.kafka.security import Security

_OURS_TO_SAY: Final = logging.CRITICAL + 1  # aiokafka repeats itself, and at DEBUG shows logins


@asynccontextmanager
async def connect(
    config: KafkaStream, *, site: str, box: str, group: str
) -> AsyncIterator["KafkaPipe"]:
    """Open both ways at once, whether Kafka is there or not, and keep them connected."""
    logging.getLogger("aiokafka").setLevel(_OURS_TO_SAY)
    pipe = KafkaPipe(config, site=site, box=box, group=group)
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(Supervisor())
        tasks.spawn("kafka producer", pipe.producer.run)
        if config.consume:
            await stack.enter_async_context(pipe.consumer)
        yield pipe


class KafkaPipe:
    """See ``port.Stream``. With ``consume = false`` nothing ever comes in."""

    def __init__(self, config: KafkaStream, *, site: str, box: str, group: str) -> None:
        security = Security(config)
        self.producer = KafkaProducer(config, security, site=site, box=box)
        self.consumer = KafkaConsumer(config, security, group=group, box=box)

    def figures(self) -> dict[str, int | float]:
        """See ``port.Stream``: names begin with ``producer_`` or ``consumer_``."""
        mine = self.producer.figures()
        return {f"producer_{name}": value for name, value in mine.items()} | dict(
            self.consumer.figures()
        )

    def sever(self, cut: bool) -> None:  # noqa: FBT001 - a switch
        """See ``port.Stream``."""
        self.producer.sever(cut)
        self.consumer.sever(cut)
