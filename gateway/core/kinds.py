"""The kinds of message that travel the chain. The numbers are on disk: never reuse one."""

import enum
from typing import Final


class Kind(enum.IntEnum):
    """What a journal record holds. ``docs/journal-format.md`` lists the numbers."""

    POSE = 1
    SENSOR = 2
    STATE = 3
    EVENT = 4
    CONNECTION = 5
    ACK = 6
    CANARY = 7  # the gateway's own, to see that every hop carries: gateway.services.canary
    DEAD = 15  # a message that did not fit, with its reason: gateway.core.deadletter


LABEL: Final[dict[int, str]] = {
    Kind.POSE: "pose",
    Kind.SENSOR: "sensor",
    Kind.STATE: "state",
    Kind.EVENT: "event",
    Kind.CONNECTION: "connection",
    Kind.ACK: "ack",
    Kind.CANARY: "canary",
    Kind.DEAD: "dead-letter",
}
"""Names as they stand in the ledger, in metrics and in Kafka topics."""
