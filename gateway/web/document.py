"""A document that stays the same while the process runs: compressed, named by ETag, 304."""

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping
from typing import Final

from aiohttp import ETag, hdrs, web

_INLINE: Final = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


class Document:
    """Bytes that browsers keep, but ask for each time: an update shows at once."""

    def __init__(self, body: bytes, media: str, headers: Mapping[str, str] | None = None) -> None:
        self._plain = body
        self._packed = gzip.compress(body, mtime=0)
        self._tag = hashlib.sha256(body).hexdigest()[:32]
        self._media = media
        self._headers = {
            **(headers or {}),
            hdrs.CACHE_CONTROL: "no-cache",
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
        }

    def answer(self, request: web.Request) -> web.Response:
        """Return the document, or 304 if the client has it."""
        packed = "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower()
        tag = f"{self._tag}-gzip" if packed else self._tag  # RFC 9110 8.8.3.3: one per encoding
        if any(known.value in (tag, "*") for known in request.if_none_match or ()):
            answer = web.Response(status=304, headers=self._headers)
        else:
            body = self._packed if packed else self._plain
            answer = web.Response(body=body, headers=self._headers)
            answer.headers[hdrs.CONTENT_TYPE] = self._media
            if packed:
                answer.headers[hdrs.CONTENT_ENCODING] = "gzip"
        answer.etag = ETag(tag)
        return answer


def html_document(page: str) -> Document:
    """Return a page whose inline script and style run, and nothing else."""
    headers = {
        "Content-Security-Policy": content_security_policy(page),
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    }
    return Document(page.encode(), "text/html; charset=utf-8", headers)


def content_security_policy(page: str) -> str:
    """Return the policy that lets exactly the inline script and style of ``page`` run.

    ``connect-src 'self'`` covers the WebSocket of the same origin (CSP level 3, section 6.7.2.8).
    Trusted types without any policy make the browser refuse text as markup.
    """
    found: dict[str, list[str]] = {"script": [], "style": []}
    for tag, text in _INLINE.findall(page):
        found[tag].append(_source_hash(text))
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(found['script'])}",
            f"style-src {' '.join(found['style'])}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _source_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
