"""The words of protobuf's text format, and what they mean as Python's values.

Source of the grammar: protobuf's text format specification.
"""

from __future__ import annotations

import re

Scalar = str | int | float | bool

TOKEN = re.compile(
    r"""(?P<trivia>(?:[ \t\r\n\f\v]+|\#[^\n]*)+)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<number>-?(?:0[xX][0-9a-fA-F]+|(?:\d++\.?\d*+|\.\d++)(?:[eE][+-]?\d++)?)[fF]?(?![\w.]))
      | (?P<word>-?[A-Za-z_][\w.]*)
      | (?P<ext>\[[^\]\[\n]*[./][^\]\[\n]*\])
      | (?P<punct>[:{}<>\[\],;])""",
    re.VERBOSE,
)


class Ident(str):
    """A bare word of the text format: an enum value such as `LMDB`, or `true`."""

    __slots__ = ()


def text_of(value: Scalar) -> str:
    """A Python scalar in text format; `str` is quoted, `Ident` is not."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Ident):
        return str(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


def scalars(text: str) -> list[Scalar]:
    """The values in a field's text: one, or those of a list. Adjacent strings are one."""
    out: list[Scalar] = []
    strings: list[str] = []
    at = 0
    while at < len(text):
        # Before the tokens: `[0.5]` as a whole is one too, the name of an extension.
        match = None if text[at] in ":[]," else TOKEN.match(text, at)
        kind = "punct" if match is None else match.lastgroup
        at = at + 1 if match is None else match.end()
        if kind == "string" and match is not None:
            strings.append(_unescape(match.group()))
        elif kind != "trivia":
            if strings:
                out.append("".join(strings))
                strings = []
            if kind in ("number", "word") and match is not None:
                out.append(_number(match.group()) if kind == "number" else _word(match.group()))
    return [*out, "".join(strings)] if strings else out


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def _unescape(literal: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match.group(1)
        if code[0] in "01234567":
            return chr(int(code, 8))
        if code[0] in "xX":
            return chr(int(code[1:], 16))
        return _ESCAPES.get(code, code)

    text = re.sub(r"\\([0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|.)", one, literal[1:-1])
    if re.search(r"\\(?:[0-7]{3}|[xX][0-9a-fA-F]{2})", literal):  # escapes are bytes of UTF-8
        try:
            return text.encode("latin-1").decode("utf-8")
        except (UnicodeEncodeError, UnicodeDecodeError):
            return text
    return text


def _number(text: str) -> int | float:
    hexadecimal = "x" in text.lower()
    plain = text if hexadecimal else text.rstrip("fF")
    try:
        return int(plain, 0 if hexadecimal else 10)
    except ValueError:
        return float(plain)


def _word(text: str) -> bool | Ident:
    return text == "true" if text in ("true", "false") else Ident(text)
