"""/api/admin/drill: cut one link on purpose, to see that nothing is lost."""

from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from gateway.core.errors import Conflict
from gateway.core.times import Instant, rfc3339
from gateway.services.drill import MAX_S, Drill
from gateway.web.answer import json_answer
from gateway.web.describe import Operation
from gateway.web.params import json_body

DRILL: Final = "/api/admin/drill"

LinkName = Literal["kafka", "redis", "broker", "records"]


class DrillOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """Which link, for how long. It heals by itself."""

    link: LinkName
    seconds: Annotated[float, Meta(gt=0, le=MAX_S, description="s")]


class DrillStatus(Struct, frozen=True):
    """What is cut now (null: nothing), from when to when; ``available`` is what can be."""

    link: LinkName | None
    since: Instant | None
    until: Instant | None
    available: list[LinkName]


_order: Final = msgspec.json.Decoder(DrillOrder)


class DrillRoutes:
    def __init__(self, drill: Drill) -> None:
        self._drill = drill

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(DRILL, self.show),
            web.post(DRILL, self.cut),
            web.delete(DRILL, self.restore),
        ]

    @Operation("What a drill cuts now", "훈련 현황", answers={200: DrillStatus})
    async def show(self, _: web.Request) -> web.Response:
        return json_answer(self._status())

    @Operation(
        "Cut a link for a time",
        "연결 하나를 잠시 끊기 (훈련)",
        about="Inside this process, as if what is behind the link were away. It heals by itself, "
        "also if whoever asked for it is gone; one drill at a time.",
        body=DrillOrder,
        example={"link": "records", "seconds": 0.5},
        answers={200: DrillStatus},
        errors=[Conflict, "NO_SUCH_LINK"],
    )
    async def cut(self, request: web.Request) -> web.Response:
        order = await json_body(request, _order)
        self._drill.cut(order.link, order.seconds)
        return json_answer(self._status())

    @Operation(
        "End the drill before its time",
        "훈련 중지",
        about="Nothing is cut any more afterwards; without a drill it changes nothing.",
        answers={200: DrillStatus},
    )
    async def restore(self, _: web.Request) -> web.Response:
        self._drill.restore()
        return json_answer(self._status())

    def _status(self) -> DrillStatus:
        drill = self._drill
        there = msgspec.convert(drill.links, list[LinkName])
        if not drill.link:
            return DrillStatus(None, None, None, there)
        link: LinkName = msgspec.convert(drill.link, LinkName)
        return DrillStatus(link, rfc3339(drill.since_ms), rfc3339(drill.until_ms), there)
