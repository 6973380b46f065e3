"""The text/event-stream wire format (WHATWG HTML, section "Server-sent events")."""

from dataclasses import dataclass

HEARTBEAT = b":\n\n"  # a comment: keeps proxies from closing an idle stream


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event; ``id`` is what ``Last-Event-ID`` brings back."""

    data: str
    event: str | None = None
    id: str | None = None


def encode(event: SseEvent) -> bytes:
    """Return the bytes of one event, blank line included."""
    lines = []
    if event.id is not None:
        lines.append(f"id: {event.id}")
    if event.event is not None:
        lines.append(f"event: {event.event}")
    # A bare CR also ends a line for the client, so it must not reach it inside a field.
    data = event.data.replace("\r\n", "\n").replace("\r", "\n")
    lines.extend(f"data: {line}" for line in data.split("\n"))
    return ("\n".join(lines) + "\n\n").encode()
