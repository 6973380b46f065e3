"""One thing that happened, and who wants to hear of it."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import asdict

from gateway.core.errors import InvalidInput
from gateway.core.kinds import Kind

TYPE: Final[dict[int, str]] = {
    Kind.SENSOR: "sensor",
    Kind.STATE: "state",
    Kind.EVENT: "event",
    Kind.CONNECTION: "state",
}
TYPES: Final = frozenset({"sensor", "state", "event", "schedule", "map", "alert"})

_encode: Final = msgspec.json.Encoder().encode


class Happening:
    """One event; its bytes are made once, when the first reader needs them."""

    __slots__ = ("_head", "_json", "data", "number", "robot", "rts", "ts", "type")

    def __init__(self, number: int, type_: str, robot: str | None, data: Any, ts: int, rts: int):
        self.number = number
        self.type = type_
        self.robot = robot
        self.data = data
        self.ts = ts
        self.rts = rts
        self._json: bytes | None = None

    def json(self, epoch: str) -> bytes:
        """Return the event as a JSON object: docs/live.md."""
        if self._json is None:
            head: dict[str, Any] = {
                "type": self.type,
                "id": f"{epoch}-{self.number}",
                "robotId": self.robot,
                "ts": self.ts,
                "rts": self.rts,
            }
            self._json = _encode({**head, **self._facts()})
        return self._json

    def _facts(self) -> Mapping[str, Any]:
        if isinstance(self.data, Mapping):
            return self.data
        facts = asdict(self.data)
        del facts["ts"]  # that of the head counts
        match type(self.data).__name__:
            case "Sensor":
                return {name: value for name, value in facts.items() if value is not None}
            case "Connection":
                return {"connection": facts.pop("state"), **facts}
            case _:
                return facts

    def as_sse(self, epoch: str) -> bytes:
        """Return the event for an SSE stream."""
        head = f"id: {epoch}-{self.number}\nevent: {self.type}\ndata: ".encode()
        return head + self.json(epoch) + b"\n\n"


class Choice(msgspec.Struct, frozen=True, gc=False):
    """What a reader wants to hear of; None: everything."""

    types: frozenset[str] | None = None
    robots: frozenset[str] | None = None

    @classmethod
    def of(cls, types: Iterable[str] | None, robots: Iterable[str] | None) -> "Choice":
        """Return the choice; an empty list is everything.

        Raises:
            InvalidInput: there is no such type.
        """
        chosen = frozenset(types or ())
        if unknown := chosen - TYPES:
            raise InvalidInput(f"no such type: {min(unknown)[:64]}", path="types")
        return cls(chosen or None, frozenset(robots or ()) or None)

    def pick(self, items: Iterable[Happening]) -> list[Happening]:
        """Return those of ``items`` that are meant."""
        types, robots = self.types, self.robots
        return [
            item
            for item in items
            if (types is None or item.type in types) and (robots is None or item.robot in robots)
        ]
