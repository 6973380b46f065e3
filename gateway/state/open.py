"""Opens the shared state that edge.toml names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.config.model import ConfigError, MemoryState, RedisState
from gateway.state.memory import MemoryStateStore
from gateway.state.port import StateStore


@asynccontextmanager
async def open_state(config: MemoryState | RedisState) -> AsyncIterator[StateStore]:
    """Keep the state open until the block is left; a server that is away does not stop the start.

    Raises:
        ConfigError: the URL or a file that it needs cannot be used, or the driver is missing.
    """
    match config:
        case MemoryState():
            yield MemoryStateStore()
        case RedisState():
            try:  # an optional driver: imported when chosen
                from gateway.state.redis.store import connect
            except ModuleNotFoundError as exc:
                if exc.name not in ("redis", "hiredis"):
                    raise
                raise ConfigError(
                    "state.backend: \"redis\" needs a driver: pip install 'edge-gateway[redis]'"
                ) from exc
            async with connect(config) as store:
                yield store
