"""What ``why`` answers."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from gateway.core.kinds import LABEL
from gateway.core.times import Instant, rfc3339
from gateway.services.why_exceptions import STALE, Missed

Passage = Literal["delivered", "waiting", "stale", "refused", "unknown"]
Fate = Literal["delivered", "waiting", "stale", "refused", "unknown", "dead-letter"]

_WORST: Final[tuple[Passage, ...]] = ("waiting", "refused", "stale", "unknown", "delivered")


class WhyPassage(Struct, frozen=True):
    """A hop of one message: when it had passed (null: not, or not known), ms after its arrival."""

    hop: str
    verdict: Passage
    at: Instant | None = None
    ms: int | None = None
    reason: str = ""


class WhyMessage(Struct, frozen=True):
    """A message: device time, arrival, record in the journal, its way, and what became of it."""

    kind: str
    ts: Instant
    rts: Instant
    seq: int | None
    offset: int
    verdict: Fate
    reason: str
    hops: list[WhyPassage]


class WhyHop(Struct, frozen=True):
    """A hop now, of all robots: messages that wait there, and what is wrong with it.

    ``dropped``: messages that the journal had no more room for before this hop had them.
    """

    hop: str
    ok: bool
    waiting: int
    dropped: int
    reason: str


class WhyException(Struct, frozen=True):
    """A message that the live view did not show."""

    kind: str
    ts: Instant
    rts: Instant
    seq: int | None
    verdict: Passage
    reason: str


class WhySummary(Struct, frozen=True):
    """Messages by kind and by verdict, and all of it in a sentence."""

    kinds: dict[str, int]
    verdicts: dict[str, int]
    text: str


class Why(Struct, frozen=True, rename={"from_": "from"}):
    """The last minutes of a robot, newest first. ``truncated``: there was more in them."""

    robot: str
    from_: Instant
    to: Instant
    truncated: bool
    summary: WhySummary
    hops: list[WhyHop]
    messages: list[WhyMessage]
    exceptions: list[WhyException]


def worst(hops: Sequence[WhyPassage]) -> tuple[Fate, str]:
    for verdict in _WORST:
        for hop in hops:
            if hop.verdict == verdict:
                return verdict, f"{hop.hop}: {hop.reason}" if verdict != "delivered" else ""
    raise AssertionError("a message has at least one hop")


def verdict_of(miss: Missed) -> Passage:
    return "stale" if miss.verdict == STALE else "refused"


def reason_of(miss: Missed) -> str:
    if miss.verdict != STALE:
        return "the live view holds as many robots as it can"
    known = "" if miss.known_seq < 0 else f", seq {miss.known_seq}"
    return f"not newer than what was known: {rfc3339(miss.known_ts)}{known}"


def exception_of(miss: Missed) -> WhyException:
    return WhyException(
        kind=LABEL.get(miss.kind, str(miss.kind)),
        ts=rfc3339(miss.ts),
        rts=rfc3339(miss.rts),
        seq=None if miss.seq < 0 else miss.seq,
        verdict=verdict_of(miss),
        reason=reason_of(miss),
    )


def summary_of(messages: Sequence[WhyMessage]) -> WhySummary:
    kinds = Counter(message.kind for message in messages)
    verdicts = Counter[str](message.verdict for message in messages)
    if not messages:
        text = "nothing was received from it"
    elif verdicts["delivered"] == len(messages):
        text = f"all {len(messages)} messages were delivered"
    else:
        rest = ", ".join(f"{count} {name}" for name, count in verdicts.most_common())
        newest = next(message for message in messages if message.verdict != "delivered")
        text = f"{len(messages)} messages: {rest}; the newest of them {newest.reason}"
    return WhySummary(dict(kinds), dict(verdicts), text)
