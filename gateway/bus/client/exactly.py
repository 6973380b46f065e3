"""QoS 2 as the receiver keeps it. Source: MQTT 5.0, 4.3.3."""

from collections.abc import Iterable


class Released:
    """Which packet ids of one session were handed over and are not released by the broker yet.

    It outlives a connection: after a reconnect the broker may send the same id again.
    """

    def __init__(self) -> None:
        self._stored: dict[int, bool] = {}  # id -> its message is durable
        self._owed: set[int] = set()  # sent again before it was durable

    def __len__(self) -> int:
        return len(self._stored)

    def take(self, packet_id: int) -> bool:
        """Return whether ``packet_id`` is new; it then counts as handed over."""
        if packet_id in self._stored:
            return False
        self._stored[packet_id] = False
        return True

    def again(self, packet_id: int) -> bool:
        """Return whether a repeated ``packet_id`` may be answered now: its message is durable."""
        if self._stored.get(packet_id, False):
            return True
        self._owed.add(packet_id)
        return False

    def store(self, packet_ids: Iterable[int]) -> list[int]:
        """Mark as durable; return those whose repetition is still to be answered."""
        owed = []
        for packet_id in packet_ids:
            if packet_id in self._stored:
                self._stored[packet_id] = True
                if packet_id in self._owed:
                    self._owed.discard(packet_id)
                    owed.append(packet_id)
        return owed

    def release(self, packet_id: int) -> None:
        """Forget ``packet_id``; the broker may use it for another message."""
        self._stored.pop(packet_id, None)
        self._owed.discard(packet_id)
