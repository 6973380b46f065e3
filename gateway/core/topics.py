"""The robots' topic tree: ``<prefix>/<site>/<robot>/<kind>``, and the gateway's canary in it."""

import re
from dataclasses import dataclass
from typing import Final

from gateway.core.kinds import Kind

ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

_KINDS: Final[dict[str, Kind]] = {
    "pose": Kind.POSE,
    "sensor": Kind.SENSOR,
    "state": Kind.STATE,
    "event": Kind.EVENT,
    "connection": Kind.CONNECTION,
    "cmd/ack": Kind.ACK,
}
_CANARY: Final = "canary"


@dataclass(frozen=True, slots=True)
class Route:
    """What a topic means. ``kind`` None: not one of ours, carried for its subscribers only.

    ``reason`` is set for a topic in our tree that fits nothing: its messages are dead letters.
    """

    kind: Kind | None
    robot: str = ""
    reason: str = ""


def parse(topic: str, *, prefix: str, site: str, box: str = "") -> Route:
    """Return what ``topic`` means to the gateway ``box`` of ``site``.

    Its own canaries are messages like those of a robot; another box's, or what a device sends under
    that name, fit nothing.
    """
    if not topic.startswith(prefix + "/"):
        return Route(None)
    parts = topic[len(prefix) + 1 :].split("/", 2)
    if len(parts) != 3:
        return Route(None, reason="UNKNOWN_TOPIC")
    topic_site, robot, tail = parts
    if ID.fullmatch(robot) is None:
        return Route(None, reason="BAD_ROBOT_ID")
    if topic_site != site:
        return Route(None, robot, reason="WRONG_SITE")
    if tail == "cmd":
        return Route(None, robot)  # to the robot, not from it
    if tail == _CANARY and robot == box:
        return Route(Kind.CANARY, box)
    kind = _KINDS.get(tail)
    return Route(None, robot, reason="UNKNOWN_TOPIC") if kind is None else Route(kind, robot)


def canary_topic(*, prefix: str, site: str, box: str) -> str:
    """Return where the gateway ``box`` sends its canaries to, and hears them."""
    return f"{prefix}/{site}/{box}/{_CANARY}"


def filters(*, prefix: str, site: str, box: str = "") -> list[str]:
    """Return the topic filters that cover everything robots of ``site`` send.

    With ``box`` also its own canaries, and no other box's.
    """
    robots = [f"{prefix}/{site}/+/{tail}" for tail in _KINDS]
    return [*robots, canary_topic(prefix=prefix, site=site, box=box)] if box else robots
