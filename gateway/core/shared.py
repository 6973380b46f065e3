"""What boxes tell each other through the state: bytes under a key, and on the channel.

The groups of newest values are named after their kind (``LABEL``), the key is the robot.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from gateway.core.kinds import Kind

CHANNEL: Final = "live"  # every value that became the newest, and every event
NEWEST: Final = frozenset({Kind.POSE, Kind.SENSOR, Kind.STATE})  # kinds with a newest value
TTL_S: Final = 7 * 86_400.0  # a robot not heard of for so long is not shown at a start any more


class Shared(Struct, frozen=True, gc=False, array_like=True):
    """One message of a robot. Times in Unix ms; ``ts`` as its first box believed it."""

    kind: int
    robot: str
    ts: int
    rts: int
    box: str  # which took it in; "" for a record that somebody else put into the stream
    payload: bytes  # as received


_encoder: Final = msgspec.msgpack.Encoder()
_one: Final = msgspec.msgpack.Decoder(Shared)
_many: Final = msgspec.msgpack.Decoder(list[Shared])


def encode(value: Shared) -> bytes:
    """Return what stands under a key."""
    return _encoder.encode(value)


def decode(data: bytes) -> Shared:
    """Return the value of a key. Raises msgspec.DecodeError for anything else."""
    return _one.decode(data)


def encode_all(values: Sequence[Shared]) -> bytes:
    """Return a message for CHANNEL."""
    return _encoder.encode(values)


def decode_all(data: bytes) -> list[Shared]:
    """Return the values of a message of CHANNEL. Raises msgspec.DecodeError for anything else."""
    return _many.decode(data)
