"""What the robots of a measurement send: the pose and sensor payloads of docs/api.md.

All payloads of a kind have the same length, so that packet ``i`` of a buffer is found by
multiplication. Sequence numbers therefore start at FIRST_SEQ and have seven digits.
"""

from typing import Final

PREFIX: Final = "smartair/v1/home"
FIRST_SEQ: Final = 1_000_000
LAST_SEQ: Final = 9_999_999


def robot(number: int) -> str:
    """Return the id of robot ``number``, 0 to 9999."""
    return f"robot-{number:04d}"


def topic(number: int, kind: str = "pose") -> str:
    """Return where robot ``number`` publishes."""
    return f"{PREFIX}/{robot(number)}/{kind}"


def pose(seq: int, ts: int) -> bytes:
    """Return a pose of 138 bytes, different for every ``seq``; ``ts`` is Unix ms."""
    step = seq % 8_000
    return (
        b'{"ts":%d,"seq":%d,"map":"f1","x":1%d.%03d,"y":2%d.%03d,"theta":1.%04d,'
        b'"vx":0.250,"vy":0.000,"omega":0.1%03d,"localized":true}'
        % (ts, seq, step // 1000, step % 1000, step // 1000, step % 1000, step, step % 1000)
    )


def sensor(seq: int, ts: int) -> bytes:
    """Return an air reading of 121 bytes; ``ts`` is Unix ms."""
    step = seq % 1000
    return (
        b'{"ts":%d,"seq":%d,"pm1":4.1,"pm25":1%d.%d,"pm10":18.2,"co2":1%03d,'
        b'"tvoc":120,"temp":21.5,"rh":40.5,"room":"living"}'
        % (ts, seq, step // 100, step % 10, step)
    )
