"""Opens the bus that edge.toml names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.bus.port import Bus, Sink
from gateway.config.model import EmbeddedBus, MqttBus


@asynccontextmanager
async def open_bus(
    config: EmbeddedBus | MqttBus, sink: Sink, *, site: str, box: str = "", client_id: str = ""
) -> AsyncIterator[Bus]:
    """Hand what devices publish to ``sink`` until the block is left.

    Args:
        site: the box's site id; a client of a broker subscribes to that site's robots only.
        box: this gateway among those of the site; its canaries come to ``sink`` as well.
        client_id: at a broker, if the configuration says none.
    Raises:
        OSError: the embedded server's address cannot be listened on.
    """
    match config:
        case EmbeddedBus():
            from gateway.bus.server.listener import serve

            async with serve(config, sink) as server:
                yield server
        case MqttBus():
            from gateway.bus.client.session import connect

            async with connect(config, sink, site=site, box=box, client_id=client_id) as bus:
                yield bus


def address(bus: Bus) -> str:
    """Return where devices connect to ``bus`` in this process, as a URL; "" if they do not."""
    from gateway.bus.server.listener import EmbeddedServer

    if not isinstance(bus, EmbeddedServer):
        return ""
    host, port = bus.address
    return f"mqtt://[{host}]:{port}" if ":" in host else f"mqtt://{host}:{port}"
