"""Opens the stream that edge.toml names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.config.model import ConfigError, KafkaStream, NoStream
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
    Raises:
        ConfigError: the driver is missing.
    """
    match config:
        case NoStream():
            yield None
        case KafkaStream():
            try:  # an optional driver: imported when chosen
                from gateway.stream.kafka.stream import connect
            except ModuleNotFoundError as exc:
                if exc.name not in ("aiokafka", "cramjam"):
                    raise
                raise ConfigError(
                    "stream.backend: \"kafka\" needs a driver: pip install 'edge-gateway[kafka]'"
                ) from exc
            async with connect(config, site=site, box=box, group=group) as stream:
                yield stream
