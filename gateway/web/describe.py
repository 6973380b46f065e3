"""What a route takes and answers, said beside its handler.

``gateway.web.openapi`` makes the document of the API of it; a route without is refused at start.
The types are those that decode and encode, so that the document cannot say something else.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

from aiohttp import web
from msgspec import Struct

from gateway.core.errors import GatewayError

H = TypeVar("H", bound=Callable[..., Any])

_ATTRIBUTE: Final = "__operation__"


class Undescribed(TypeError):
    """A route has no Operation beside its handler."""


class Media(NamedTuple):
    """An answer that is not JSON."""

    type: str


class Link(NamedTuple):
    """How an answer leads on: ``operation`` by its id, its parameters as runtime expressions.

    Source: OpenAPI 3.1, section "Link Object".
    """

    operation: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. Used as a decorator of its handler.

    ``answers``: by status a type, a tuple of types of which it is one, a Media, or None for an
    empty body. ``path``: the types of path
    parameters. ``query`` and ``headers``: structs whose fields are the parameters. ``errors``: what
    may be raised, and as text the codes of 422; what every route may answer is not repeated.
    ``example``: a body.
    ``cached``: it has an ETag. ``hears``: the type of a client's messages, if it is a WebSocket.
    """

    summary: str
    korean: str
    answers: Mapping[int, Any]
    about: str = ""
    path: Mapping[str, Any] = field(default_factory=dict)
    query: type[Struct] | None = None
    headers: type[Struct] | None = None
    body: Any = None
    body_needed: bool = True
    example: Any = None
    errors: Sequence[type[GatewayError] | str] = ()
    links: Mapping[str, Link] = field(default_factory=dict)
    cached: bool = False
    hears: Any = None

    def __call__(self, handler: H) -> H:
        """Put the description beside ``handler``."""
        setattr(handler, _ATTRIBUTE, self)
        return handler


class Described(NamedTuple):
    """A route with its operation. ``family`` is the module of its handler."""

    route: web.RouteDef
    operation: Operation
    family: str
    id: str


def described(routes: Iterable[web.RouteDef]) -> list[Described]:
    """Return ``routes`` with what stands beside their handlers.

    Raises:
        Undescribed: nothing does.
    """
    found = []
    for route in routes:
        operation = getattr(route.handler, _ATTRIBUTE, None)
        if not isinstance(operation, Operation):
            raise Undescribed(
                f"{route.method} {route.path}: put an Operation(...) above {route.handler!r}"
            )
        family = route.handler.__module__.rpartition(".")[2]
        name = getattr(route.handler, "__name__", "")
        found.append(Described(route, operation, family, f"{family}.{name}"))
    return found
