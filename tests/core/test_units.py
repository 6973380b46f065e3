"""Sizes and ages as edge.toml writes them."""

import pytest

from gateway.core.units import age_s, size_bytes


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("7B", 7), ("2KiB", 2048), ("1GiB", 2**30), ("3 MB", 3_000_000), ("1TiB", 2**40)],
)
def test_sizes(text: str, value: int) -> None:
    assert size_bytes(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("90s", 90), ("5m", 300), ("2h", 7200), ("7d", 604800)]
)
def test_ages(text: str, value: int) -> None:
    assert age_s(text) == value


@pytest.mark.parametrize("text", ["", "0", "-1GiB", "1.5GiB", "1 gib", "GiB", "1d"])
def test_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        size_bytes(text)


@pytest.mark.parametrize("text", ["", "7", "0d", "1w", "1GiB"])
def test_no_age(text: str) -> None:
    with pytest.raises(ValueError, match="not an age"):
        age_s(text)
