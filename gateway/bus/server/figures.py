"""What the server counts."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

REASONS: Final = (
    "slow_client",  # QoS 0 for a client that does not read fast enough
    "queue_full",  # QoS 1 and 2, the oldest that waited
    "session_ended",  # QoS 1 and 2 that waited for a client whose session is over
    "paused",  # QoS 0 of a client that left while the server was paused
    "denied",  # not allowed by Access
    "too_large",  # for the client's maximum packet size
    "expired",  # by its message expiry interval
    "retained_full",  # delivered, but not kept
)


@dataclass(slots=True)
class Counts:
    """PUBLISHes since the start: ``received`` from clients and handed to the sink, ``sent`` to
    clients, ``dropped`` by one of REASONS.
    """

    received: int = 0
    sent: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
