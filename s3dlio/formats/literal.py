"""Parse the Python literals that NPY headers are written in.

Only what a header may hold: dicts, lists, tuples, strings, whole numbers >= 0, True and False. Unlike
``ast.literal_eval`` it never warns, cannot exhaust the interpreter's stack, and says where it stopped.
"""

from __future__ import annotations

import re

__all__ = ["parse_literal"]

# 19 digits hold every 63-bit size; more would only feed int() with a hostile header. Python 2 wrote "10L".
_TOKEN = re.compile(
    r"""[ \t\r\n]*
    (?: (?P<string> '(?:[^'\\\n]|\\.)*' | "(?:[^"\\\n]|\\.)*" )
      | (?P<number> [0-9]{1,19} ) L?
      | (?P<word> True | False )
      | (?P<mark> [][{}():,] )
      | (?P<end> \Z ) )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U(00[01][0-9a-fA-F]{5})|(.))")
_ESCAPED = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "r": "\r", "t": "\t"}

# A structured dtype nests a list and a tuple a level; nobody writes 20 levels.
_MAX_DEPTH = 40


def parse_literal(text: str) -> object:
    """The value that ``text`` spells, all of it, surrounding white space aside.

    Raises:
        ValueError: not such a literal; ``args`` are what is wrong and the character at which it is.
    """
    parser = _Parser(text)
    value = parser.value(0)
    if parser.kind != "end":
        raise parser.failure()
    return value


class _Parser:
    """One token of look-ahead over ``text``: ``kind`` and ``lexeme`` are what stands at ``at``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.end = 0
        self.advance()

    def advance(self) -> None:
        match = _TOKEN.match(self.text, self.end)
        if match is None:
            rest = self.text[self.end :].lstrip(" \t\r\n")
            raise ValueError(f"unexpected {rest[:1]!r}", len(self.text) - len(rest))
        self.kind = str(match.lastgroup)
        self.lexeme = match[self.kind]
        self.at, self.end = match.start(self.kind), match.end()

    def failure(self) -> ValueError:
        return ValueError(f"unexpected {self.lexeme!r}" if self.lexeme else "unexpected end", self.at)

    def take(self, mark: str) -> bool:
        found = self.kind == "mark" and self.lexeme == mark
        if found:
            self.advance()
        return found

    def value(self, depth: int) -> object:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply", self.at)
        if self.take("{"):
            return self.entries(depth)
        if self.take("["):
            return self.items("]", depth)[0]
        if self.take("("):
            items, comma = self.items(")", depth)
            return items[0] if len(items) == 1 and not comma else tuple(items)
        kind, lexeme = self.kind, self.lexeme
        if kind == "string":
            value: object = _ESCAPE.sub(self.unescape, lexeme[1:-1])
        elif kind == "number":
            value = int(lexeme)
        elif kind == "word":
            value = lexeme == "True"
        else:
            raise self.failure()
        self.advance()
        return value

    def items(self, closing: str, depth: int) -> tuple[list[object], bool]:
        """The items up to ``closing``, and whether a comma stood after the last."""
        items: list[object] = []
        comma = False
        while not self.take(closing):
            if items and not comma:
                raise self.failure()
            items.append(self.value(depth + 1))
            comma = self.take(",")
        return items, comma

    def entries(self, depth: int) -> dict[str, object]:
        entries: dict[str, object] = {}
        comma = False
        while not self.take("}"):
            at = self.at
            if (entries and not comma) or self.kind != "string":
                raise self.failure()
            key = self.value(depth + 1)
            if not self.take(":"):
                raise self.failure()
            if not isinstance(key, str) or key in entries:
                raise ValueError(f"key {key!r} twice", at)
            entries[key] = self.value(depth + 1)
            comma = self.take(",")
        return entries

    def unescape(self, match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3]
        if code is not None:
            number = int(code, 16)
            if number > 0x10FFFF:
                raise ValueError(f"unreadable escape {match[0]!r}", self.at)
            return chr(number)
        if match[4] not in _ESCAPED:
            raise ValueError(f"unreadable escape {match[0]!r}", self.at)
        return _ESCAPED[match[4]]
