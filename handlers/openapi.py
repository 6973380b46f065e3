"""/api/openapi.json and /api/docs: the API, described by the types that validate it."""

from collections.abc import Iterable
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any, Final

import msgspec
from aiohttp import web

from gateway.web.describe import Media, Operation, described
from gateway.web.document import Document, html_document
from gateway.web.openapi import document

# Read at import, like code: the file is part of the package, in a checkout and in a wheel.
_PAGE: Final = files("handlers").joinpath("static/docs.html").read_text("utf-8")
try:
    _VERSION = version("edge-gateway")
except PackageNotFoundError:  # a checkout that was never installed
    _VERSION = "0"


class OpenApiRoutes:
    """Describe ``others`` and these two.

    Raises:
        Undescribed: a route says nothing of itself.
    """

    def __init__(self, others: Iterable[web.RouteDef]) -> None:
        self._described = described([*others, *self.routes()])
        self._page = html_document(_PAGE)

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/openapi.json", self.openapi), web.get("/api/docs", self.docs)]

    @Operation("This document", "이 문서", answers={200: dict[str, Any]}, cached=True)
    async def openapi(self, request: web.Request) -> web.Response:
        return self._document.answer(request)

    @Operation(
        "This document, to be read", "읽기용 문서", answers={200: Media("text/html")}, cached=True
    )
    async def docs(self, request: web.Request) -> web.Response:
        return self._page.answer(request)

    @cached_property
    def _document(self) -> Document:
        """Made when first asked for: the start does not wait for it."""
        made = document(self._described, version=_VERSION)
        return Document(msgspec.json.encode(made), "application/json")
