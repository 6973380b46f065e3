"""/ws/coordinates and /ws/events: the live view over WebSocket. Protocol: docs/live.md."""

from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from gateway.core.errors import InvalidInput
from gateway.core.jsonin import read_json
from gateway.core.payloads import Id
from gateway.services.live import Live
from gateway.services.live_happening import Choice
from gateway.services.live_listeners import SocketListener
from gateway.services.live_reader import PoseReader
from gateway.web.describe import Operation
from gateway.web.livequery import (
    EventHeaders,
    EventQuery,
    PoseQuery,
    choice_query,
    resume_query,
    robots_query,
)
from gateway.web.websocket import serve

Robots = Annotated[list[Id], Meta(max_length=1_000)]


class Subscribe(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="subscribe"):
    """Choose robots; none: all."""

    robots: Robots | None = None


class Resume(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="resume"):
    """Ask for every pose accepted after ``offset``."""

    epoch: Annotated[str, Meta(max_length=64)]
    offset: Annotated[int, Meta(ge=0)]


class Listen(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="subscribe"):
    """Choose types and robots of events; none: all."""

    types: Annotated[list[str], Meta(max_length=16)] | None = None
    robots: Robots | None = None


_pose_op: Final = msgspec.json.Decoder(Subscribe | Resume)
_event_op: Final = msgspec.json.Decoder(Listen)


class WsRoutes:
    def __init__(self, live: Live) -> None:
        self._live = live

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/ws/coordinates", self.coordinates, allow_head=False),
            web.get("/ws/events", self.events, allow_head=False),
        ]

    @Operation(
        "Poses as they come, over a WebSocket",
        "실시간 위치 (WebSocket)",
        about="First a snapshot, or what was missed since `offset` of `epoch`; then every pose, or "
        "the newest for a reader that is slow.",
        query=PoseQuery,
        answers={101: None},
        errors=[InvalidInput],
        hears=Subscribe | Resume,
    )
    async def coordinates(self, request: web.Request) -> web.StreamResponse:
        robots, position = robots_query(request), resume_query(request)
        return await serve(
            request,
            join=lambda transport: self._live.join_poses(transport, robots, position),
            leave=self._live.leave,
            on_text=self._operate,
            on_pong=self._live.pong,
        )

    @Operation(
        "Events as they come, over a WebSocket",
        "실시간 이벤트 (WebSocket)",
        about="The objects of /api/events, one a message.",
        query=EventQuery,
        headers=EventHeaders,
        answers={101: None},
        errors=[InvalidInput],
        hears=Listen,
    )
    async def events(self, request: web.Request) -> web.StreamResponse:
        choice, last_id = choice_query(request)
        return await serve(
            request,
            join=lambda transport: self._live.join_events(transport, choice, last_id),
            leave=self._live.leave,
            on_text=_listen,
            on_pong=self._live.pong,
        )

    def _operate(self, reader: PoseReader, text: str) -> None:
        op = read_json(text.encode(), _pose_op)
        if isinstance(op, Subscribe):
            self._live.subscribe(reader, frozenset(op.robots) if op.robots else None)
        else:
            self._live.resume(reader, op.epoch, op.offset)


def _listen(reader: SocketListener, text: str) -> None:
    op = read_json(text.encode(), _event_op)
    reader.choice = Choice.of(op.types, op.robots)
