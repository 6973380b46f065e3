"""Topics ``<prefix>.<label of the kind>``: their names, and seeing to it that they are there."""

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


def topic_of(prefix: str, kind: int) -> str:
    """Return the topic of a kind: ``smartair.pose``."""
    return f"{prefix}.{LABEL[kind]}"


def topics(prefix: str) -> dict[str, int]:
    """Return every topic with its kind, in the order of KINDS."""
    return {topic_of(prefix, kind): int(kind) for kind in KINDS}


def metadata_request(prefix: str) -> MetadataRequest:
    """Return the question about our topics; asking it never makes the broker add one.

    Every topic in the answer is there or has an ``error_code``.
    """
    return MetadataRequest(list(topics(prefix)), allow_auto_topic_creation=False)


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


def create_request(
    config: KafkaStream, absent: list[str], *, pretend: bool = False
) -> CreateTopicsRequest:
    """Return the request, for the controller, that makes the topics ``absent``.

    ``pretend``: it only says whether it would.

    Raises:
        Unavailable: they are not ours to make; says what to do.
    """
    if not config.create_topics:
        raise _wrong(
            f"has no topic {', '.join(absent)}: create it, or set stream.create_topics to true"
        )
    wanted = [
        (topic, config.partitions, config.replication, list[Any](), list[Any]()) for topic in absent
    ]
    return CreateTopicsRequest(wanted, round(config.timeout_s * 1000), validate_only=pretend)


def check_created(answer: Any) -> None:
    """Look at a CreateTopicsResponse.

    Raises:
        Unavailable: a topic could not be made; says what to do.
    """
    for topic, code, text in answer.topic_errors:
        if code in (Code.NONE, Code.TOPIC_ALREADY_EXISTS):  # another box was faster
            continue
        if code in (Code.TOPIC_AUTHORIZATION_FAILED, Code.CLUSTER_AUTHORIZATION_FAILED):
            advice = "allow our user CREATE, or create it and set stream.create_topics to false"
            raise _wrong(f"does not let us create the topic {topic}: {advice}")
        raise _wrong(f"did not create the topic {topic}: {text or name(code)}")


def _wrong(text: str) -> Unavailable:
    return Unavailable(f"Kafka {text}", dependency=DEPENDENCY)
