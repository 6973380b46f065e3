"""One life of our connections to a Kafka cluster: made fresh, and given up at the first doubt."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from aiokafka.conn import AIOKafkaConnection, CloseReason, collect_hosts
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

from gateway.config.model import KafkaStream
from gateway.core.errors import Unavailable
from gateway.stream.kafka import topics
from gateway.stream.kafka.codes import Code, name
from gateway.stream.kafka.security import DEPENDENCY, Security

log = logging.getLogger(__name__)

_CREATED_S: Final = 0.2  # pause before looking whether new topics have leaders
_ACKS_ALL: Final = -1
_ANSWERS_BEFORE: Final = 0.8  # part of timeout_s which a broker may wait for its replicas


class Refused(Unavailable):
    """The login or the certificate is wrong: no use in trying again at once."""


class Outcome(NamedTuple):
    """What a broker said to one batch."""

    code: int
    detail: str


class _Connection(AIOKafkaConnection):  # type: ignore[misc]  # aiokafka has no types
    """Ends at once when closed: what a dead link still holds would never be flushed."""

    def close(self, reason: CloseReason | None = None, exc: BaseException | None = None) -> Any:
        if self._writer is not None:
            self._writer.transport.abort()
        return super().close(reason, exc)


class Session:
    """Connections to the leaders of our partitions.

    Whatever fails in it (Unavailable) leaves it unusable: ``close`` it and open another.
    """

    def __init__(self, config: KafkaStream, security: Security, client_id: str) -> None:
        self._config = config
        self._security = security
        self._client_id = client_id
        self._arguments: dict[str, Any] = {}
        self._nodes: dict[int, _Connection] = {}
        self._addresses: dict[int, tuple[str, int]] = {}
        self._dialled: set[_Connection] = set()
        self._quiet_until: dict[int, float] = {}  # by node, as a quota of the broker wants it
        self._closed = False
        self.cluster = ""
        self.identity: tuple[int, int] | None = None
        """A producer id and its epoch, where one was asked for."""
        self.partitions: dict[str, int] = {}
        self.leaders: dict[tuple[str, int], int] = {}
        self.lost = asyncio.Event()
        """Set when a connection broke or a leader moved."""

    async def open(self) -> None:
        """Connect to the leaders of every topic; makes topics that are missing.

        Raises:
            Unavailable: says why not.
        """
        self._arguments = await self._security.arguments()
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._config.timeout_s
        first = await self._first()
        while True:
            answer = await self._ask(first, topics.metadata_request(self._config.prefix))
            self._addresses = {node: (host, port) for node, host, port, _ in answer.brokers}
            absent = topics.missing(answer)
            if absent:
                at = await self._node(answer.controller_id)
                request = topics.create_request(self._config, absent)
                topics.check_created(await self._ask(at, request))
            elif not (leaderless := self._learn(answer)):
                break
            elif loop.time() > give_up_at:
                raise _unavailable(f"Kafka has no leader for {leaderless[0]}")
            await asyncio.sleep(_CREATED_S)
        for node in set(self.leaders.values()):
            await self._node(node)
        if first not in self._nodes.values():
            self._end(first)

    async def look(self) -> tuple[int, list[str]]:
        """Return how many brokers there are, all of which answered, and which topics are missing.

        Makes nothing, but asks whether missing topics could be made.

        Raises:
            Unavailable: says what is wrong.
        """
        self._arguments = await self._security.arguments()
        first = await self._first()
        answer = await self._ask(first, topics.metadata_request(self._config.prefix))
        self._addresses = {node: (host, port) for node, host, port, _ in answer.brokers}
        for node in self._addresses:
            await self._node(node)
        absent = topics.missing(answer)
        if absent:
            request = topics.create_request(self._config, absent, pretend=True)
            topics.check_created(await self._ask(await self._node(answer.controller_id), request))
        elif leaderless := self._learn(answer):
            raise _unavailable(f"Kafka has no leader for {leaderless[0]}")
        return len(self._addresses), absent

    async def producer_id(self) -> tuple[int, int]:
        """Return a new producer id and its epoch. Raises Unavailable."""
        at = await self._node(next(iter(self._nodes)))
        answer = await self._ask(at, InitProducerIdRequest(None, 0))
        if answer.error_code == Code.CLUSTER_AUTHORIZATION_FAILED:
            raise _unavailable("Kafka does not let us write: allow our user IDEMPOTENT_WRITE")
        if answer.error_code:
            raise _unavailable(f"Kafka gives no producer id: {name(answer.error_code)}")
        return answer.producer_id, answer.producer_epoch

    async def produce(
        self, node: int, batches: Iterable[tuple[str, int, bytes]]
    ) -> dict[tuple[str, int], Outcome]:
        """Send sealed batches, one of each partition, and return what the broker says to each.

        Raises:
            Unavailable: no answer; whether they were taken is not known.
        """
        by_topic: dict[str, list[tuple[int, bytes]]] = {}
        for topic, partition, wire in batches:
            by_topic.setdefault(topic, []).append((partition, wire))
        wait_ms = round(self._config.timeout_s * 1000 * _ANSWERS_BEFORE)
        request = ProduceRequest(None, _ACKS_ALL, wait_ms, list(by_topic.items()))
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._quiet_until.get(node, 0.0) - loop.time())
        answer = await self._ask(await self._node(node), request)
        if answer.throttle_time_ms:
            self._quiet_until[node] = loop.time() + answer.throttle_time_ms / 1000
        return {
            (topic, partition): Outcome(code, name(code))
            for topic, results in answer.topics
            for partition, code, *_ in results
        }

    async def probe(self) -> None:
        """Return when every broker that we need answered. Raises Unavailable."""
        now = asyncio.get_running_loop().time()
        for node in set(self.leaders.values()):
            if self._quiet_until.get(node, 0.0) > now:
                continue  # it answers nothing while its quota holds
            await self._ask(await self._node(node), ApiVersionRequest())

    def brokers(self) -> int:
        """Return how many brokers we are connected to."""
        return len(self._nodes)

    def close(self) -> None:
        """Drop every connection now; requests that wait raise Unavailable."""
        self._closed = True
        for connection in list(self._dialled):
            self._end(connection)
        self._nodes.clear()

    async def _first(self) -> _Connection:
        wrong: Unavailable | None = None
        for host, port, _ in collect_hosts(self._config.servers):
            try:
                return await self._dial(host, port)
            except Unavailable as exc:
                wrong = exc
        raise wrong or _unavailable("stream.servers names no server")

    async def _node(self, node: int) -> _Connection:
        connection = self._nodes.get(node)
        if connection is not None and connection.connected():
            return connection
        if node not in self._addresses:
            raise _unavailable(f"Kafka's broker {node} is not among those it names")
        host, port = self._addresses[node]
        for spare in self._dialled:  # the first one is that of a broker, most of the time
            if (spare.host, spare.port) == (host, port) and spare.connected():
                self._nodes[node] = spare
                return spare
        connection = self._nodes[node] = await self._dial(host, port)
        return connection

    async def _dial(self, host: str, port: int) -> _Connection:
        if self._closed:
            raise _unavailable("the connection to Kafka was closed")
        connection = _Connection(
            host,
            port,
            client_id=self._client_id,
            request_timeout_ms=self._config.timeout_s * 1000,
            on_close=self._on_close,
            **self._arguments,
        )
        self._dialled.add(connection)
        try:
            await connection.connect()
        except BaseException as exc:
            self._end(connection)
            if not isinstance(exc, Exception):
                raise
            raise explain(exc, f"{host}:{port}", greeted=False) from exc
        if self._closed:
            self._end(connection)
            raise _unavailable("the connection to Kafka was closed")
        return connection

    async def _ask(self, connection: _Connection, request: Any) -> Any:
        try:
            return await connection.send(request)
        except Exception as exc:  # its parser meets whatever a stranger sends
            raise explain(exc, f"{connection.host}:{connection.port}") from exc

    def _learn(self, answer: Any) -> list[str]:
        """Take over what metadata says; return the partitions that have no leader."""
        self.cluster = getattr(answer, "cluster_id", None) or ""
        self.leaders.clear()
        for _, topic, _, partitions in answer.topics:
            self.partitions[topic] = len(partitions)
            for _, partition, leader, *_ in partitions:
                self.leaders[topic, partition] = leader
        return [topic for topic, size in self.partitions.items() if not size] + [
            f"{topic}[{partition}]"
            for (topic, partition), leader in self.leaders.items()
            if leader not in self._addresses
        ]

    def _on_close(self, connection: _Connection, _: CloseReason | None) -> None:
        if connection in self._dialled:  # it was not us who ended it
            self._dialled.discard(connection)
            self.lost.set()

    def _end(self, connection: _Connection) -> None:
        self._dialled.discard(connection)
        connection.close(reason=CloseReason.SHUTDOWN)


def explain(exc: Exception, where: str, *, greeted: bool = True) -> Unavailable:
    """Return ``exc`` of aiokafka or the network as one sentence without secrets.

    Args:
        greeted: the broker had already talked to us.
    """
    if isinstance(exc, Unavailable):
        return exc
    if isinstance(exc, SaslAuthenticationFailed):
        return Refused(
            f"Kafka at {where} refuses our login: check stream.user and stream.password_file",
            dependency=DEPENDENCY,
        )
    if isinstance(exc, UnsupportedSaslMechanismError):
        return Refused(
            f"Kafka at {where} does not take this login: check stream.sasl", dependency=DEPENDENCY
        )
    if isinstance(exc, TimeoutError):
        return _unavailable(f"Kafka at {where} does not answer")
    if isinstance(exc, KafkaConnectionError) and isinstance(exc.__cause__, Exception):
        exc = exc.__cause__
    if isinstance(exc, EOFError | ConnectionResetError) and not greeted:
        advice = "if it is up, check stream.tls and stream.sasl"
        return _unavailable(f"Kafka at {where} closed the connection at once; {advice}")
    if isinstance(exc, EOFError):
        return _unavailable(f"Kafka at {where} closed the connection")
    if isinstance(exc, OSError):
        return _unavailable(f"Kafka at {where} cannot be reached: {exc.strerror or exc}")
    if isinstance(exc, KafkaError):
        return _unavailable(f"Kafka at {where}: {exc}")
    log.warning("unexpected answer: where=%s", where, exc_info=exc)
    return _unavailable(f"what answers at {where} is not Kafka, or wants TLS: {type(exc).__name__}")


def _unavailable(detail: str) -> Unavailable:
    return Unavailable(detail, dependency=DEPENDENCY)
