"""The document of the API, OpenAPI 3.1, from the types that decode and encode."""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.core.errors import (
    CrossSite,
    Forbidden,
    GatewayError,
    InvalidInput,
    NotFound,
    TooLarge,
    Unavailable,
    Unprocessable,
)
from gateway.web.access import SAFE_METHODS
from gateway.web.describe import Described, Media, Operation
from gateway.web.errors import STATUS, Problem

Json = dict[str, Any]

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"

_REF: Final = "#/components/schemas/{name}"
_NAMED: Final = re.compile(r"\{(\w+)(?::[^{}]*)?\}")  # a path parameter, its pattern is aiohttp's

_ABOUT: Final = """\
JSON in UTF-8, names in camelCase. Times are RFC 3339 in UTC; input may carry any offset, and a time
without one is in the site's zone. A path with and without its last slash is the same. GET answers
HEAD as well, streams aside. Errors are problem documents (RFC 9457) with a `code` that programs can
rely on; a method that a path does not know is 405 with `Allow`.
"""

_HEADERS: Final[Mapping[str, Json]] = {
    "ETag": {"description": "names this version", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "seconds after which it may succeed",
        "schema": {"type": "integer", "minimum": 1},
    },
}


def document(routes: Iterable[Described], *, version: str) -> Json:
    """Return the document. Takes milliseconds: make it once."""
    routes = list(routes)
    schemas = _Schemas(routes)
    paths: dict[str, Json] = {}
    for each in routes:
        path = paths.setdefault(_NAMED.sub(r"{\1}", each.route.path), {})
        path[each.route.method.lower()] = _operation(each, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Edge gateway",
            "version": version,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [],
        "tags": list(_tags(routes)),
        "paths": paths,
        "components": {"schemas": schemas.components},
    }


class _Schemas:
    """The JSON Schemas of all types that the routes name."""

    def __init__(self, routes: Iterable[Described]) -> None:
        kinds: list[Any] = [Problem]
        for each in routes:
            operation = each.operation
            for kind in (*operation.answers.values(), operation.body, operation.hears):
                kinds += [one for one in _alternatives(kind) if _is_json(one)]
        found, self.components = msgspec.json.schema_components(kinds, ref_template=_REF)
        self._found: list[tuple[Any, Json]] = list(zip(kinds, found, strict=True))
        for component in self.components.values():
            if "description" in component:
                about = inspect.cleandoc(component["description"])
                component["description"] = about.replace("``", "`")

    def of(self, kind: Any) -> Json:
        """Return the schema of ``kind``, or of any of several; a struct's is a reference."""
        if isinstance(kind, tuple):
            return {"anyOf": [self.of(one) for one in kind]}
        return next(schema for known, schema in self._found if known is kind)


def _operation(each: Described, schemas: _Schemas) -> Json:
    operation = each.operation
    made: Json = {
        "operationId": each.id,
        "tags": [each.family],
        "summary": operation.summary,
        "x-summary-ko": operation.korean,
    }
    if operation.about:
        made["description"] = inspect.cleandoc(operation.about)
    parameters = list(_parameters(each))
    if parameters:
        made["parameters"] = parameters
    if operation.body is not None:
        body = {"schema": schemas.of(operation.body)}
        if operation.example is not None:
            body["example"] = operation.example
        made["requestBody"] = {"required": operation.body_needed, "content": {JSON: body}}
    if operation.hears is not None:
        made["x-websocket"] = {"hears": schemas.of(operation.hears)}
    answers = _answers(operation, schemas)
    answers |= _problems(each)
    made["responses"] = {str(status): answers[status] for status in sorted(answers)}
    return made


def _parameters(each: Described) -> Iterator[Json]:
    operation = each.operation
    for name in _NAMED.findall(each.route.path):
        schema = msgspec.json.schema(operation.path[name])
        yield _parameter(name, "path", schema, required=True)
    for place, kind in (("query", operation.query), ("header", operation.headers)):
        if kind is not None:
            yield from _fields(kind, place)
    if operation.cached:
        yield _parameter("If-None-Match", "header", {"type": "string"}, required=False)


def _fields(kind: type[Struct], place: str) -> Iterator[Json]:
    shape = msgspec.json.schema(kind)["$defs"][kind.__name__]
    for name, schema in shape["properties"].items():
        yield _parameter(name, place, _present(schema), required=name in shape["required"])


def _parameter(name: str, place: str, schema: Json, *, required: bool) -> Json:
    schema = dict(schema)
    about = schema.pop("description", None)
    made = {"name": name, "in": place, "required": required, "schema": schema}
    return made if about is None else made | {"description": about}


def _present(schema: Json) -> Json:
    """Return the schema of a parameter that is there: it has no null, it is left out instead."""
    schema = {key: value for key, value in schema.items() if (key, value) != ("default", None)}
    kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) == 1:
        schema |= kinds[0]
    elif kinds:
        schema["anyOf"] = kinds
    return schema


def _headers(name: str) -> Json:
    return {name: {"required": True, **_HEADERS[name]}}


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return kind if isinstance(kind, tuple) and not isinstance(kind, Media) else (kind,)


def _is_json(kind: Any) -> bool:
    return kind is not None and not isinstance(kind, Media)


def _answers(operation: Operation, schemas: _Schemas) -> dict[int, Json]:
    answers: dict[int, Json] = {}
    for status, kind in operation.answers.items():
        answer: Json = {"description": HTTPStatus(status).phrase}
        if isinstance(kind, Media):
            answer["content"] = {kind.type: {"schema": {"type": "string"}}}
        elif kind is not None:
            answer["content"] = {JSON: {"schema": schemas.of(kind)}}
        if operation.cached:
            answer["headers"] = _headers("ETag")
        if operation.links and status < HTTPStatus.BAD_REQUEST:
            answer["links"] = {
                name: {"operationId": link.operation, "parameters": dict(link.parameters)}
                for name, link in operation.links.items()
            }
        answers[status] = answer
    if operation.cached:
        answers[304] = {
            "description": "what the client has is still right",
            "headers": _headers("ETag"),
        }
    return answers


def _problems(each: Described) -> Iterator[tuple[int, Json]]:
    """Yield the errors by status, with their codes."""
    codes: dict[int, set[str]] = {}
    for error in (*_everywhere(each), *each.operation.errors):
        if isinstance(error, str):
            codes.setdefault(STATUS[Unprocessable], set()).add(error)
        else:
            codes.setdefault(STATUS[error], set()).add(error.code)
    for status, some in codes.items():
        schema = {
            "allOf": [
                {"$ref": _REF.format(name=Problem.__name__)},
                {"properties": {"code": {"enum": sorted(some)}}},
            ]
        }
        made: Json = {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(sorted(some))}",
            "content": {PROBLEM: {"schema": schema}},
        }
        if status == STATUS[Unavailable]:
            made["headers"] = _headers("Retry-After")
        yield status, made


def _everywhere(each: Described) -> Iterator[type[GatewayError]]:
    """Yield what the web layer itself refuses."""
    yield InvalidInput  # a Host that is none
    yield Forbidden  # a Host that is not ours
    if each.route.method not in SAFE_METHODS or each.operation.hears is not None:
        yield CrossSite
    if each.operation.path:
        yield NotFound
    if each.operation.body is not None:
        yield TooLarge


def _tags(routes: Iterable[Described]) -> Iterator[Json]:
    seen = dict.fromkeys((each.family, each.route.handler.__module__) for each in routes)
    for family, module in seen:
        about = inspect.getdoc(sys.modules[module]) or ""
        yield {"name": family, "description": about.partition("\n")[0]}
