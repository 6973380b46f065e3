"""Sizes and ages as edge.toml writes them."""

import re
from typing import Final

_SIZE: Final = re.compile(r"([1-9][0-9]*)\s*(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?")
_AGE: Final = re.compile(r"([1-9][0-9]*)\s*(s|m|h|d)")
_BYTES: Final = {
    None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def size_bytes(text: str) -> int:
    """Return ``"1GiB"`` in bytes. Raises ValueError for anything else."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"not a size: {text!r}")
    return int(match[1]) * _BYTES[match[2]]


def age_s(text: str) -> int:
    """Return ``"7d"`` in seconds. Raises ValueError for anything else."""
    match = _AGE.fullmatch(text)
    if match is None:
        raise ValueError(f"not an age: {text!r}")
    return int(match[1]) * _SECONDS[match[2]]
