"""What the backends of history share: rows from columns, and where a page begins."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Final

from gateway.core.errors import InvalidInput
from gateway.records.port import DeadLetterRow

NO_SEQ: Final = -1  # stands for "the robot sent none": part of a key cannot be NULL
DAY_MS: Final = 86_400_000
DEPENDENCY: Final = "records"
CUT: Final = "history is cut off by a drill"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of what did not fit is kept; the oldest go first."""

    dead_letters: int
    dead_letter_bytes: int


def bytes_of(letter: DeadLetterRow) -> int:
    """Return what ``letter`` counts towards the bound."""
    return len(letter.payload) + len(letter.topic.encode()) + len(letter.detail.encode())


def cursor_of(first: int, second: int) -> str:
    """Return the cursor of the page that begins after (``first``, ``second``)."""
    return urlsafe_b64encode(f"{first}.{second}".encode()).decode().rstrip("=")


def position_of(cursor: str) -> tuple[int, int]:
    """Return what ``cursor`` was made of. Raises InvalidInput if it is not one of ours."""
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        first, second = text.split(".")
        position = int(first), int(second)
    except ValueError as exc:
        raise InvalidInput("the cursor is not one of ours", path="?cursor") from exc
    if cursor_of(*position) != cursor or max(map(abs, position)) >= 2**63:
        raise InvalidInput("the cursor is not one of ours", path="?cursor")
    return position
