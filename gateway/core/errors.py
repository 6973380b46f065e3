"""Failures that a caller can act on. Anything else that is raised is a bug."""

from typing import ClassVar


class GatewayError(Exception):
    """Base of every expected failure.

    ``detail`` is one sentence that is safe to show to a client: no secrets, no
    file paths, no driver text. The driver's exception belongs in ``__cause__``.
    """

    code: ClassVar[str] = "INTERNAL"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidInput(GatewayError):
    """Not JSON, a wrong type or an unknown field: the request can never succeed as written.

    ``path`` is the JSON path of the offending value (``$.email``), ``$`` for the whole body,
    or the name of a query parameter as ``?from``.
    """

    code = "INVALID"

    def __init__(self, detail: str, *, path: str = "$") -> None:
        super().__init__(detail)
        self.path = path


class Unprocessable(GatewayError):
    """Right shape, but it cannot be; ``reason`` is the API's own code (``OUT_OF_RANGE``)."""

    def __init__(self, detail: str, *, reason: str, path: str = "$") -> None:
        super().__init__(detail)
        self.reason = reason
        self.path = path


class BadRange(GatewayError):
    """A time range, bucket or page that makes no sense."""

    code = "BAD_RANGE"


class Forbidden(GatewayError):
    """The caller may not do this."""

    code = "FORBIDDEN"


class CrossSite(GatewayError):
    """A browser page of another origin tried to change state or open a socket."""

    code = "CROSS_SITE"


class NotFound(GatewayError):
    """The named thing does not exist."""

    code = "NOT_FOUND"


class Conflict(GatewayError):
    """The thing changed since the caller read it."""

    code = "CONFLICT"


class TooLarge(GatewayError):
    """The body is over its limit."""

    code = "TOO_LARGE"


class Unavailable(GatewayError):
    """A dependency is down or full; the same call may succeed later."""

    code = "UNAVAILABLE"

    def __init__(
        self, detail: str, *, retry_after_s: float = 1.0, dependency: str = "gateway"
    ) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
        self.dependency = dependency


class SlowConsumer(GatewayError):
    """A subscriber fell further behind than its queue allows."""

    code = "SLOW_CONSUMER"
