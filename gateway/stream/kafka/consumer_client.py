"""The connections of one member of the consumer group."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.util import create_task

METADATA_S: Final = 30.0  # new topics and partitions are seen after it
ANSWER_S: Final = 2.0  # what a broker gets to answer when asked whether it is there
END_S: Final = 2.0  # what a cancelled task gets to end


class Client(AIOKafkaClient):  # type: ignore[misc]  # aiokafka comes without types
    """Knows when a broker answered last, and makes no connection after ``shut``."""

    def __init__(self, *, security: Mapping[str, Any], **arguments: Any) -> None:
        super().__init__(**security, **arguments)
        self._security = security
        self._heard_at = time.monotonic()
        self._shut = False

    async def meet(self) -> None:
        """Learn who the brokers are; ``bootstrap``, which would hide why it could not.

        Raises:
            KafkaError, OSError, TimeoutError: the server cannot be used, or did not answer.
        """
        host, port, _ = self.hosts[0]
        connection = await create_conn(
            host,
            port,
            client_id=self._client_id,
            request_timeout_ms=self._request_timeout_ms,
            **self._security,
        )
        try:
            self.cluster.update_metadata(await connection.send(MetadataRequest([])))
        finally:
            connection.close()
        self._sync_task = create_task(self._md_synchronizer())

    async def send(
        self, node_id: Any, request: Any, *, group: Any = ConnectionGroup.DEFAULT
    ) -> Any:
        """Return the answer."""
        answer = await super().send(node_id, request, group=group)
        self._heard_at = time.monotonic()
        return answer

    async def _get_conn(
        self, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False
    ) -> Any:
        if self._shut:
            return None
        connection = await super()._get_conn(node_id, group=group, no_hint=no_hint)
        if self._shut and connection is not None:  # in the meantime
            connection.close()
            return None
        return connection

    @property
    def silent_s(self) -> float:
        """Seconds since a broker answered anything."""
        return time.monotonic() - self._heard_at

    async def answers(self) -> bool:
        """Ask a broker; return whether it answers."""
        node = self.get_random_node()
        if node is None:
            return False
        try:
            async with asyncio.timeout(ANSWER_S):
                await self.send(node, MetadataRequest([]))
        except (KafkaError, OSError, TimeoutError):
            return False
        return True

    def shut(self) -> None:
        """Drop every connection at once; whoever waits for an answer gets an error."""
        self._shut = True
        for connection in self._conns.values():
            writer = connection._writer  # noqa: SLF001 - close() would wait for a dead peer
            if writer is not None:
                writer.transport.abort()
            connection.close()


async def end(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel ``tasks`` and wait for them; what they raise is of no interest any more."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    if ending:
        done, _ = await asyncio.wait(ending, timeout=END_S)
        for task in done:
            if not task.cancelled():
                task.exception()
