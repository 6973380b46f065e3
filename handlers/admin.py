"""/api/admin: the ledger, the journal, the dead letters."""

import base64
from typing import Any

import msgspec
from aiohttp import web

from gateway.core.times import rfc3339
from gateway.journal.port import Journal
from gateway.records.port import DeadLetterRow
from gateway.services.deadletters import DeadLetters
from gateway.services.ledger import Ledger
from gateway.web.answer import json_answer
from gateway.web.params import ids_from_body, int_query, path_number


class AdminRoutes:
    def __init__(self, ledger: Ledger, journal: Journal, letters: DeadLetters) -> None:
        self._ledger = ledger
        self._journal = journal
        self._letters = letters

    def routes(self) -> list[web.RouteDef]:
        letters = "/api/admin/dead-letters"
        return [
            web.get("/api/admin/ledger", self.ledger),
            web.get("/api/admin/journal", self.journal),
            web.get(letters, self.list_letters),
            web.delete(letters, self.drop),
            web.post(f"{letters}/replay", self.replay),
            web.delete(letters + "/{id}", self.drop_one),
            web.post(letters + "/{id}/replay", self.replay_one),
        ]

    async def ledger(self, _: web.Request) -> web.Response:
        return json_answer({"since": rfc3339(self._ledger.since_ms), **self._ledger.report()})

    async def journal(self, _: web.Request) -> web.Response:
        stats = self._journal.stats()
        return json_answer(msgspec.convert(stats, dict, from_attributes=True))

    async def list_letters(self, request: web.Request) -> web.Response:
        limit = int_query(request, "limit", default=100, low=1, high=1_000)
        page = await self._letters.page(limit=limit, cursor=request.query.get("cursor"))
        items = [_letter(row) for row in page.items]
        return json_answer({"items": items, "total": page.total, "cursor": page.cursor})

    async def drop(self, request: web.Request) -> web.Response:
        return json_answer({"deleted": await self._letters.drop(await ids_from_body(request))})

    async def drop_one(self, request: web.Request) -> web.Response:
        return json_answer({"deleted": await self._letters.drop([path_number(request, "id")])})

    async def replay(self, request: web.Request) -> web.Response:
        return json_answer(await self._letters.replay(await ids_from_body(request)))

    async def replay_one(self, request: web.Request) -> web.Response:
        return json_answer(await self._letters.replay([path_number(request, "id")]))


def _letter(row: DeadLetterRow) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "topic": row.topic,
        "payload": base64.b64encode(row.payload).decode(),
        "reason": row.reason,
        "detail": row.detail,
        "at": rfc3339(row.at),
    }
