"""Opens the stream that edge.toml names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.config.model import KafkaStream, NoStream
from gateway.stream.port import Stream


@asynccontextmanager
async def open_stream(
    config: NoStream | KafkaStream, *, site: str, box: str, group: str
) -> AsyncIterator[Stream | None]:
    """Keep the stream open until the block is left. Never waits for Kafka.

    Args:
        site, box: whose records these are, as the records' headers say.
        group: the consumer group that reads them back.
    Returns:
        None where nothing leaves the box.
    """
    match config:
        case NoStream():
            yield None
        case KafkaStream():
            from gateway.stream.kafka.stream import connect  # optional driver: import when chosen

            async with connect(config, site=site, box=box, group=group) as stream:
                yield stream
