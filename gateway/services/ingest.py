"""From the devices' bus to the live view and the journal: the hot path.

One call per socket read. Per message: a dictionary look-up for the topic, one validating decode,
two list appends. No await, no task, no logging per message; what does not fit becomes a dead letter
in the same journal, in its turn, so it is as durable as the rest and stalls nothing.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any, Final, NoReturn

import msgspec

from gateway.bus.port import Batch
from gateway.core.deadletter import MAX_KEPT_PAYLOAD, DeadLetter
from gateway.core.deadletter import encode as encode_dead
from gateway.core.kinds import LABEL, Kind
from gateway.core.payloads import (
    MAX_PAYLOAD_BYTES,
    Canary,
    CommandAck,
    Connection,
    Event,
    Payload,
    Pose,
    Sensor,
    State,
)
from gateway.core.readings import has_metric
from gateway.core.topics import ID, parse
from gateway.journal.port import Entry, Journal
from gateway.services.ledger import Line

DAY_MS: Final = 86_400_000  # a device clock further off than this is not believed
MAX_ROUTES: Final = 100_000  # topics remembered; beyond it the cache starts again
_SLOTS: Final = 16  # Kind is < 16
_OTHER: Final = 0  # topics that are not in the robots' tree

Decode = Callable[[bytes], Any]
Update = tuple[int, str, Payload, int, int]


def _misplaced(reason: str, _payload: bytes) -> NoReturn:
    _refuse(reason, "no such topic in the robots' tree of this site")


_decode_pose: Final = msgspec.json.Decoder(Pose).decode
_is_id: Final = lru_cache(maxsize=10_000)(ID.fullmatch)  # the same few maps, again and again


def _pose(payload: bytes) -> Pose:
    value: Pose = _decode_pose(payload)
    name = value.map
    if name is not None and _is_id(name) is None:
        raise msgspec.ValidationError(f"Expected `str` matching {ID.pattern!r} - at `$.map`")
    return value


_decode_sensor: Final = msgspec.json.Decoder(Sensor).decode


def _sensor(payload: bytes) -> Sensor:
    value: Sensor = _decode_sensor(payload)
    if not has_metric(value):
        raise msgspec.ValidationError("no metric in the reading - at `$`")
    return value


DECODERS: Final[dict[int, Decode]] = {
    Kind.POSE: _pose,
    Kind.SENSOR: _sensor,
    Kind.STATE: msgspec.json.Decoder(State).decode,
    Kind.EVENT: msgspec.json.Decoder(Event).decode,
    Kind.CONNECTION: msgspec.json.Decoder(Connection).decode,
    Kind.ACK: msgspec.json.Decoder(CommandAck).decode,
    Kind.CANARY: msgspec.json.Decoder(Canary).decode,
}
_CANARY: Final = int(Kind.CANARY)
_RETAINED: Final = {int(Kind.STATE), int(Kind.CONNECTION)}  # an empty payload clears them


class _Misfit(Exception):
    """The verdict on one message; caught where the message is handled."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _refuse(reason: str, detail: str) -> NoReturn:
    raise _Misfit(reason, detail)


# What a decoder says of bad bytes; RecursionError: JSON nested by the thousand.
_BAD: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, _Misfit)


class Ingest:
    """The bus's sink.

    Promise: ``batch.acknowledge`` is called when every message of the batch is durable (or was
    counted as not for the journal), in the order of the batches. Browsers see a message at once.
    """

    def __init__(
        self,
        journal: Journal,
        publish: Callable[[list[Update]], int],
        *,
        prefix: str,
        site: str,
        now_ms: Callable[[], int],
        box: str = "",
        heard: Callable[[int, int], None] | None = None,
    ) -> None:
        """``heard`` is told id and journal offset of every canary of ``box``; "": there are none.

        They go into the journal like all else, and not to ``publish``.
        """
        self._journal = journal
        self._publish = publish
        self._prefix = prefix
        self._site = site
        self._box = box
        self._heard = heard
        self._now_ms = now_ms
        self._routes: dict[str, tuple[int, str, Decode | None]] = {}
        self._mqtt = [Line() for _ in range(_SLOTS)]
        self._log = [Line() for _ in range(_SLOTS)]
        self._rest = Line()
        self.taken = 0  # batches of the bus

    def take(self, batch: Batch) -> None:
        """Take what one socket read held; see the class."""
        self.taken += 1
        rts = self._now_ms()
        low, high = rts - DAY_MS, rts + DAY_MS
        routes = self._routes
        entries: list[Entry] = []
        updates: list[Update] = []
        fits: dict[int, int] = {}
        dead = 0
        for topic, payload in batch.items:
            route = routes.get(topic)
            if route is None:
                route = self._route(topic)
            kind, robot, decode = route
            if decode is None:  # not ours: carried for its subscribers only
                self._aside(kind)
                continue
            try:
                if len(payload) > MAX_PAYLOAD_BYTES:
                    _refuse("TOO_LARGE", f"{len(payload)} bytes; {MAX_PAYLOAD_BYTES} fit")
                value = decode(payload)
            except _BAD as exc:
                if not payload and kind in _RETAINED:  # clears a retained message: nothing to keep
                    self._aside(kind)
                    continue
                code, entry = _dead(topic, payload, exc, rts, robot)
                self._mqtt[kind].entered += 1
                self._mqtt[kind].dropped[code] += 1
                entries.append(entry)
                dead += 1
                continue
            ts = value.ts
            if ts is None or ts < low or ts > high:
                ts = rts
            elif ts.__class__ is float:
                ts = int(ts)
            fits[kind] = fits.get(kind, 0) + 1
            entries.append((kind, robot, ts, payload))
            updates.append((kind, robot, value, ts, rts))
        canary = _CANARY in fits
        if canary:
            updates = [update for update in updates if update[0] != _CANARY]
        if updates:
            self._publish(updates)
        logged = {**fits, int(Kind.DEAD): dead} if dead else fits
        _enter(self._mqtt, fits)
        _enter(self._log, logged)

        def durable() -> None:
            _leave(self._mqtt, fits)
            _leave(self._log, logged)
            batch.acknowledge()

        first = self._journal.append(entries, rts, durable)
        if canary and self._heard is not None:
            for offset, entry in enumerate(entries, first):
                if entry[0] == _CANARY:
                    self._heard(DECODERS[_CANARY](entry[3]).id, offset)

    def _aside(self, kind: int) -> None:
        """Count a message that the journal does not keep."""
        self._mqtt[kind].entered += 1
        self._mqtt[kind].delivered += 1

    def _route(self, topic: str) -> tuple[int, str, Decode | None]:
        parsed = parse(topic, prefix=self._prefix, site=self._site, box=self._box)
        kind = _OTHER if parsed.kind is None else int(parsed.kind)
        decode = DECODERS.get(kind)
        if parsed.reason:
            decode = partial(_misplaced, parsed.reason)
        route = (kind, parsed.robot, decode)
        if len(self._routes) >= MAX_ROUTES:
            self._routes.clear()
        self._routes[topic] = route
        return route

    def submit(self, readings: Iterable[tuple[str, Sensor]], then: Callable[[], None]) -> int:
        """Take readings that came by REST; their ``ts`` counts however old it is.

        ``then`` is called when all are durable. Returns the journal offset after the last of them.
        """
        rts = self._now_ms()
        entries: list[Entry] = []
        updates: list[Update] = []
        for robot, reading in readings:
            ts = rts if reading.ts is None else int(reading.ts)
            entries.append((Kind.SENSOR, robot, ts, msgspec.json.encode(reading)))
            updates.append((Kind.SENSOR, robot, reading, ts, rts))
        self._publish(updates)
        count = len(entries)
        rest, logged = self._rest, {int(Kind.SENSOR): count}
        rest.entered += count
        rest.pending += count
        _enter(self._log, logged)

        def durable() -> None:
            _leave(self._log, logged)
            rest.pending -= count
            rest.delivered += count
            then()

        return self._journal.append(entries, rts, durable) + count

    def bury(self, topic: str, robot: str, code: str, detail: str, payload: bytes) -> None:
        """Put a record that a later hop will never take among the dead letters, in its turn."""
        rts, logged = self._now_ms(), {int(Kind.DEAD): 1}
        known = robot if ID.fullmatch(robot) else ""
        letter = DeadLetter(topic, code, detail[:512], payload[:MAX_KEPT_PAYLOAD])
        _enter(self._log, logged)
        entry: Entry = (Kind.DEAD, known, rts, encode_dead(letter))
        self._journal.append([entry], rts, partial(_leave, self._log, logged))

    def fits(self, topic: str, payload: bytes) -> bool:
        """Return whether a message would be taken now: a dead letter is replayed only then."""
        _, _, decode = self._routes.get(topic) or self._route(topic)
        if decode is None or len(payload) > MAX_PAYLOAD_BYTES:
            return False
        try:
            decode(payload)
        except _BAD:
            return False
        return True

    def lines(self) -> Iterable[tuple[str, str, Line]]:
        """Return the hops ``mqtt`` and ``journal``; readings by REST enter as kind ``rest``."""
        for hop, lines in (("mqtt", self._mqtt), ("journal", self._log)):
            for kind, line in enumerate(lines):
                if line.entered or kind in DECODERS:
                    yield hop, LABEL.get(kind, "other"), line
        if self._rest.entered:
            yield "mqtt", "rest", self._rest


def _dead(topic: str, payload: bytes, exc: Exception, rts: int, robot: str) -> tuple[str, Entry]:
    if isinstance(exc, _Misfit):
        reason = exc.reason
    elif isinstance(exc, msgspec.ValidationError):
        reason = "INVALID"
    else:
        reason = "NOT_JSON"
    letter = DeadLetter(topic, reason, str(exc)[:512], payload[:MAX_KEPT_PAYLOAD])
    return reason, (Kind.DEAD, robot, rts, encode_dead(letter))


def _enter(lines: list[Line], counts: dict[int, int]) -> None:
    for kind, count in counts.items():
        lines[kind].entered += count
        lines[kind].pending += count


def _leave(lines: list[Line], counts: dict[int, int]) -> None:
    for kind, count in counts.items():
        lines[kind].pending -= count
        lines[kind].delivered += count
