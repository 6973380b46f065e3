"""A message that did not fit, as the payload of a journal record of kind DEAD."""

import msgspec
from msgspec import Struct

MAX_KEPT_PAYLOAD = 65_536  # bytes; a longer payload is cut, and ``detail`` says so


class DeadLetter(Struct, frozen=True, gc=False, array_like=True):
    """Topic and payload as received, why it did not fit (a code) and in what way (a sentence)."""

    topic: str
    reason: str
    detail: str
    payload: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(DeadLetter)


def encode(letter: DeadLetter) -> bytes:
    """Return the record payload."""
    return _encoder.encode(letter)


def decode(payload: bytes) -> DeadLetter:
    """Return the dead letter in a record of kind DEAD.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _decoder.decode(payload)
