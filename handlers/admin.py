"""/api/admin: the ledger, the journal, the dead letters."""

import base64
from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta, Struct

from gateway.core.errors import BadRange, InvalidInput, Unavailable
from gateway.core.times import Instant, rfc3339
from gateway.journal.port import Journal, JournalStats
from gateway.records.port import Cursor, DeadLetterRow
from gateway.services.deadletters import DeadLetters, Replayed
from gateway.services.ledger import Ledger, Report
from gateway.web.answer import json_answer
from gateway.web.describe import Link, Operation
from gateway.web.params import Ids, Number, ids_from_body, path_number, query

LETTERS: Final = "/api/admin/dead-letters"
LETTER: Final = LETTERS + "/{id:[0-9]+}"  # so that a wrong method on /replay is 405, not 404


class LettersQuery(Struct, frozen=True):
    """A page of dead letters, newest first."""

    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    cursor: Cursor | None = None


class Letter(Struct, frozen=True):
    """A message that did not fit: why (a code) and in what way (a sentence)."""

    id: str
    topic: str
    payload: Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]
    reason: str
    detail: str
    at: Instant


class Letters(Struct, frozen=True):
    """Dead letters, newest first; ``total`` counts all that are kept."""

    items: list[Letter]
    total: int
    cursor: Cursor | None


class Deleted(Struct, frozen=True):
    """How many there were."""

    deleted: int


_NEXT: Final = {"next": Link("admin.list_letters", {"cursor": "$response.body#/cursor"})}


class AdminRoutes:
    def __init__(self, ledger: Ledger, journal: Journal, letters: DeadLetters) -> None:
        self._ledger = ledger
        self._journal = journal
        self._letters = letters

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/admin/ledger", self.ledger),
            web.get("/api/admin/journal", self.journal),
            web.get(LETTERS, self.list_letters),
            web.delete(LETTERS, self.drop),
            web.post(f"{LETTERS}/replay", self.replay),
            web.delete(LETTER, self.drop_one),
            web.post(f"{LETTER}/replay", self.replay_one),
        ]

    @Operation("Where every message is", "모든 메시지의 행방", answers={200: Report})
    async def ledger(self, _: web.Request) -> web.Response:
        return json_answer(self._ledger.report())

    @Operation("The journal's figures", "저널 현황", answers={200: JournalStats})
    async def journal(self, _: web.Request) -> web.Response:
        return json_answer(self._journal.stats())

    @Operation(
        "Messages that did not fit",
        "형식에 맞지 않은 메시지",
        query=LettersQuery,
        answers={200: Letters},
        errors=[BadRange, InvalidInput, Unavailable],
        links=_NEXT,
    )
    async def list_letters(self, request: web.Request) -> web.Response:
        asked = query(request, LettersQuery)
        page = await self._letters.page(limit=asked.limit, cursor=asked.cursor)
        return json_answer(Letters([_letter(row) for row in page.items], page.total, page.cursor))

    @Operation(
        "Drop some dead letters, or all",
        "일부 또는 전체 삭제",
        body=Ids,
        example={"ids": ["17"]},
        body_needed=False,
        answers={200: Deleted},
        errors=[Unavailable],
    )
    async def drop(self, request: web.Request) -> web.Response:
        return json_answer(Deleted(await self._letters.drop(await ids_from_body(request))))

    @Operation(
        "Drop one dead letter",
        "하나 삭제",
        path={"id": Number},
        answers={200: Deleted},
        errors=[Unavailable],
    )
    async def drop_one(self, request: web.Request) -> web.Response:
        return json_answer(Deleted(await self._letters.drop([path_number(request, "id")])))

    @Operation(
        "Send some dead letters through ingest again, or all",
        "일부 또는 전체 재처리",
        body=Ids,
        example={"ids": ["17"]},
        body_needed=False,
        answers={200: Replayed},
        errors=[Unavailable],
    )
    async def replay(self, request: web.Request) -> web.Response:
        return json_answer(await self._letters.replay(await ids_from_body(request)))

    @Operation(
        "Send one dead letter through ingest again",
        "하나 재처리",
        path={"id": Number},
        answers={200: Replayed},
        errors=[Unavailable],
    )
    async def replay_one(self, request: web.Request) -> web.Response:
        return json_answer(await self._letters.replay([path_number(request, "id")]))


def _letter(row: DeadLetterRow) -> Letter:
    return Letter(
        id=str(row.id),
        topic=row.topic,
        payload=base64.b64encode(row.payload).decode(),
        reason=row.reason,
        detail=row.detail,
        at=rfc3339(row.at),
    )
