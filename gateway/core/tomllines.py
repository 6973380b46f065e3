"""In which line of a TOML text each key stands (tomllib does not tell).

The text must already have passed tomllib: this reads structure only, and trusts it. Source of the
grammar: TOML 1.0.0, sections "Keys", "Table", "Array of Tables", "String".
"""

import re
from typing import Final

Path = tuple[str | int, ...]
"""Keys from the top; the number of an element of an array of tables counts from 0."""

_SPACE: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK: Final = re.compile(r"[ \t]*")
_COMMENT: Final = re.compile(r"#[^\n]*")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_BASIC: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL: Final = re.compile(r"'[^'\n]*'")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_PLAIN: Final = re.compile(r"[^\"'\[\]{}#\n]+")


def key_lines(text: str) -> dict[Path, int]:
    """Return the line (from 1) of every table header and key of ``text``.

    Keys inside an inline table or an array are found at the line of the key that holds them.
    """
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[Path, int] = {}
        self._elements: dict[Path, int] = {}  # newest index of each array of tables

    def read(self) -> dict[Path, int]:
        table: Path = ()
        while True:
            self._skip(_SPACE)
            if self._at >= len(self._text):
                return self._lines
            line = self._text.count("\n", 0, self._at) + 1
            if self._text.startswith("[", self._at):
                table = self._header()
                self._note(table, 0, line)
            else:
                path = (*table, *self._key())
                self._note(path, len(table), line)
                self._at += 1  # the equals sign
                self._value()

    def _note(self, path: Path, above: int, line: int) -> None:
        """Remember ``path`` and the tables it makes below its first ``above`` keys."""
        for depth in range(above + 1, len(path) + 1):
            self._lines.setdefault(path[:depth], line)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _header(self) -> Path:
        array = self._text.startswith("[[", self._at)
        self._at += 2 if array else 1
        keys = self._key()
        self._at += 2 if array else 1
        path = self._inside_newest(keys[:-1])
        last = (*path, keys[-1])
        if array:
            self._elements[last] = self._elements.get(last, -1) + 1
            last = (*last, self._elements[last])
        elif last in self._elements:
            last = (*last, self._elements[last])
        return last

    def _inside_newest(self, keys: tuple[str, ...]) -> Path:
        path: Path = ()
        for key in keys:
            path = (*path, key)
            if path in self._elements:
                path = (*path, self._elements[path])
        return path

    def _key(self) -> tuple[str, ...]:
        parts: list[str] = []
        while True:
            self._skip(_BLANK)
            if bare := self._skip(_BARE):
                parts.append(bare)
            elif basic := self._skip(_BASIC):
                parts.append(basic[1:-1])  # escapes in a key are not resolved: none of ours has any
            else:
                parts.append(self._skip(_LITERAL)[1:-1])
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return tuple(parts)
            self._at += 1

    def _value(self) -> None:
        depth = 0
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "\n" and depth == 0:
                return
            if char in "\"'":
                self._skip(_STRING)
            elif char == "#":
                self._skip(_COMMENT)
            elif char == "\n":
                self._at += 1
            elif char in "[]{}":
                depth += 1 if char in "[{" else -1
                self._at += 1
            else:
                self._skip(_PLAIN)
