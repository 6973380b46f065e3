"""Topics ``<prefix>.<label of the kind>``: their names, and seeing to it that they are there."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiokafka.protocol.admin import CreateTopicsRequest
from aiokafka.protocol.metadata import MetadataRequest

from gateway.config.model import KafkaStream
from gateway.core.errors import Unavailable
from gateway.core.kinds import LABEL, Kind
from gateway.stream.kafka.codes import Code, name
from gateway.stream.kafka.security import DEPENDENCY

KINDS: Final = (Kind.POSE, Kind.SENSOR, Kind.STATE, Kind.EVENT, Kind.DEAD, Kind.CANARY)
"""Kinds that have a topic; what a box tells its robots (connections, acks) stays on the box."""

Ask = Callable[[Any], Awaitable[Any]]
"""Sends a request of aiokafka.protocol to a broker and returns the response."""


def topic_of(prefix: str, kind: int) -> str:
    """Return the topic of a kind: ``smartair.pose``."""
    return f"{prefix}.{LABEL[kind]}"


def topics(prefix: str) -> dict[str, int]:
    """Return every topic with its kind, in the order of KINDS."""
    return {topic_of(prefix, kind): int(kind) for kind in KINDS}


async def metadata(ask: Ask, prefix: str) -> Any:
    """Return aiokafka's MetadataResponse about our topics; asking never makes the broker add one.

    Every topic in it is there or has an ``error_code``.
    """
    return await ask(MetadataRequest(list(topics(prefix)), allow_auto_topic_creation=False))


def missing(answer: Any) -> list[str]:
    """Return the topics of a MetadataResponse that do not exist.

    Raises:
        Unavailable: we may not see one of them.
    """
    absent: list[str] = []
    for code, topic, *_ in answer.topics:
        if code == Code.TOPIC_AUTHORIZATION_FAILED:
            raise _wrong(f"does not show us the topic {topic}: allow our user DESCRIBE and WRITE")
        if code == Code.INVALID_TOPIC:
            raise _wrong(f"takes no topic named {topic}: choose another stream.prefix")
        if code == Code.UNKNOWN_TOPIC_OR_PARTITION:
            absent.append(topic)
    return absent


async def create(ask: Ask, config: KafkaStream, absent: list[str]) -> None:
    """Make the topics ``absent``, or say that they are needed.

    Args:
        ask: goes to the controller.
    Raises:
        Unavailable: they could not be made, or are not ours to make; says what to do.
    """
    if not config.create_topics:
        raise _wrong(
            f"has no topic {', '.join(absent)}: create it, or set stream.create_topics to true"
        )
    wanted = [
        (topic, config.partitions, config.replication, list[Any](), list[Any]()) for topic in absent
    ]
    request = CreateTopicsRequest(wanted, round(config.timeout_s * 1000), validate_only=False)
    answer = await ask(request)
    for topic, code, text in answer.topic_errors:
        if code in (Code.NONE, Code.TOPIC_ALREADY_EXISTS):  # another box was faster
            continue
        if code in (Code.TOPIC_AUTHORIZATION_FAILED, Code.CLUSTER_AUTHORIZATION_FAILED):
            advice = "allow our user CREATE, or create it and set stream.create_topics to false"
            raise _wrong(f"does not let us create the topic {topic}: {advice}")
        raise _wrong(f"did not create the topic {topic}: {text or name(code)}")


def _wrong(text: str) -> Unavailable:
    return Unavailable(f"Kafka {text}", dependency=DEPENDENCY)
