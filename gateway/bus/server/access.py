"""Who may do what on the devices' MQTT server."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Action = Literal["publish", "subscribe"]


@dataclass(frozen=True, slots=True)
class Access:
    """Two questions that are asked synchronously, on the event loop: answer from memory.

    ``may`` is asked once per connection and topic, and again after a change of subscriptions.
    """

    may_connect: Callable[[str, str | None, bytes | None], bool]
    """(client id, user name, password)"""

    may: Callable[[str, Action, str], bool]
    """(client id, action, topic or topic filter)"""
