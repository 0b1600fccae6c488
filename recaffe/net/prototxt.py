"""Protobuf's text format as a tree that keeps every byte: comments, order, unknown fields.

`parse(text).render() == text` for any text it accepts. Edits touch only the fields that they name,
so a patched net still reads like the one its author wrote.

Source of the grammar: protobuf's text format specification.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from recaffe.errors import NetError

Scalar = str | int | float | bool
MAX_DEPTH = 100  # protobuf's own limit on nesting

_TOKEN = re.compile(
    r"""(?P<trivia>(?:[ \t\r\n\f\v]+|\#[^\n]*)+)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<number>-?(?:0[xX][0-9a-fA-F]+|(?:\d++\.?\d*+|\.\d++)(?:[eE][+-]?\d++)?)[fF]?(?![\w.]))
      | (?P<word>-?[A-Za-z_][\w.]*)
      | (?P<ext>\[[^\]\[\n]*[./][^\]\[\n]*\])
      | (?P<punct>[:{}<>\[\],;])""",
    re.VERBOSE,
)
_COMMENT = re.compile(r"#[^\n]*")
_TAIL = re.compile(r"[ \t]*[,;]?(?:[ \t]*#[^\n]*)?")
_CLOSE = {"{": "}", "<": ">"}


class Ident(str):
    """A bare word of the text format: an enum value such as `LMDB`, or `true`."""

    __slots__ = ()


@dataclass
class Field:
    """`name: value` (`raw` holds its text) or `name { … }` (`message` holds its fields).

    `lead` is the white space and comments before it, from the line after the previous field's;
    `tail` is what follows on its own last line, a comment or a separator.
    """

    name: str
    raw: str
    message: Message | None = None
    lead: str = ""
    tail: str = ""
    line: int = 0

    @property
    def value(self) -> Scalar:
        """The scalar as Python sees it: str, int, float, bool, or `Ident`."""
        return _scalar(self.raw.split(":", 1)[1])

    def rename(self, name: str) -> None:
        """Give the field another name; its value stays as written."""
        self.name, self.raw = name, name + self.raw[len(self.name) :]

    @property
    def comments(self) -> list[str]:
        """Its own comments, not its fields': before it, before its closing brace, behind it."""
        end = self.message.end if self.message is not None else ""
        return [m.group() for m in _COMMENT.finditer(f"{self.lead}\n{end}\n{self.tail}")]

    def render(self) -> str:
        body = self.raw
        if self.message is not None:
            body = self.raw + self.message.render() + self.message.end
        return self.lead + body + self.tail


@dataclass
class Message:
    """An ordered list of fields; `end` is the text from the last field to the closing brace."""

    fields: list[Field] = field(default_factory=list)
    end: str = ""
    depth: int = 0

    def render(self) -> str:
        return "".join(f.render() for f in self.fields)

    def all(self, name: str) -> list[Field]:
        """Every field of that name, in order."""
        return [f for f in self.fields if f.name == name]

    def messages(self, name: str) -> Iterator[Message]:
        """Every sub-message of that name, in order."""
        for f in self.all(name):
            if f.message is not None:
                yield f.message

    def get(self, name: str, default: Scalar | None = None) -> Scalar | None:
        """The last scalar of that name, or `default`."""
        found = [f for f in self.all(name) if f.message is None]
        return found[-1].value if found else default

    def values(self, name: str) -> list[Scalar]:
        """Every scalar of that name, in order; `[a, b]` lists are unrolled."""
        out: list[Scalar] = []
        for f in self.all(name):
            if f.message is None:
                text = f.raw.split(":", 1)[1].strip()
                if text.startswith("["):
                    out += [_scalar(m.group()) for m in _list_items(text)]
                else:
                    out.append(f.value)
        return out

    def set(self, name: str, *values: Scalar) -> None:
        """Make `values` the only scalars of that name, at the first one's place or the end."""
        old = self.all(name)
        at = self.fields.index(old[0]) if old else len(self.fields)
        keep = old[: len(values)]
        for f in old[len(values) :]:
            self.fields.remove(f)
        for i, value in enumerate(values):
            raw = f"{name}: {text_of(value)}"
            if i < len(keep):
                keep[i].raw, keep[i].message = raw, None
            else:
                self._insert(at + i, Field(name, raw))

    def remove(self, *names: str) -> None:
        """Delete every field of these names."""
        self.fields = [f for f in self.fields if f.name not in names]

    def child(self, name: str) -> Message:
        """The first sub-message of that name, made at the end if there is none."""
        for message in self.messages(name):
            return message
        return self.add(name)

    def add(self, name: str, at: int | None = None) -> Message:
        """A new empty sub-message, at the end or at index `at`."""
        pad = "  " * (self.depth + 1)
        message = Message(depth=self.depth + 1, end="\n" + pad[2:] + "}")
        self._insert(len(self.fields) if at is None else at, Field(name, f"{name} {{", message))
        return message

    def _insert(self, at: int, new: Field) -> None:
        one_line = self.fields and all("\n" not in f.lead for f in self.fields)
        if self.depth and one_line and "\n" not in self.end:
            new.lead = " "
        elif self.depth or self.fields:
            new.lead = "\n" + "  " * self.depth
        self.fields.insert(at, new)


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


def parse(text: str, source: str = "prototxt") -> Message:
    """The tree of a text; raises `NetError` with line and column."""
    if text.startswith("\ufeff"):
        text = text[1:]
    return _Parser(text, source).parse()


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self.text, self.source, self.pos = text, source, 0
        self.breaks = [m.start() for m in re.finditer("\n", text)]

    def parse(self) -> Message:
        root = self._message(None, 0)
        assert self.pos == len(self.text)
        return root

    def _message(self, close: str | None, depth: int) -> Message:
        if depth > MAX_DEPTH:
            raise self._error("messages nested too deep")
        message = Message(depth=depth)
        while True:
            lead = self._trivia()
            if close is not None and self.text.startswith(close, self.pos):
                self.pos += 1
                message.end = lead + close
                return message
            if self.pos == len(self.text):
                if close is not None:
                    raise self._error(f"the file ends where a {close!r} is wanted")
                message.end = ""
                if lead:  # comments at the end of the file
                    message.fields.append(Field("", "", lead=lead, line=len(self.breaks) + 1))
                return message
            message.fields.append(self._field(lead, depth))

    def _field(self, lead: str, depth: int) -> Field:
        start, line = self.pos, bisect_left(self.breaks, self.pos) + 1
        name = self._take("word", "ext", want="a field name")
        self._trivia()
        colon = self._accept(":")
        self._trivia()
        if self.pos < len(self.text) and self.text[self.pos] in _CLOSE:
            close = _CLOSE[self.text[self.pos]]
            self.pos += 1
            raw = self.text[start : self.pos]
            message = self._message(close, depth + 1)
            return Field(name, raw, message, lead, self._tail(), line)
        if not colon:
            raise self._error(f"':' or '{{' is wanted after {name!r}")
        if self._accept("["):
            self._list(name)
        else:
            self._value(name)
        return Field(name, self.text[start : self.pos], None, lead, self._tail(), line)

    def _value(self, name: str) -> None:
        kind = self._kind()
        self._take("string", "number", "word", want=f"a value for {name!r}")
        while kind == "string":  # adjacent strings are one
            mark = self.pos
            self._trivia()
            if self._kind() != "string":
                self.pos = mark
                return
            self._take("string", want="")

    def _list(self, name: str) -> None:
        self._trivia()
        while not self._accept("]"):
            if self.pos < len(self.text) and self.text[self.pos] in _CLOSE:
                raise self._error("lists of messages are not supported; repeat the field instead")
            self._value(name)
            self._trivia()
            self._accept(",")
            self._trivia()

    def _match(self) -> re.Match[str] | None:
        return _TOKEN.match(self.text, self.pos)

    def _kind(self) -> str | None:
        match = self._match()
        return match.lastgroup if match else None

    def _take(self, *kinds: str, want: str) -> str:
        match = self._match()
        if match is None or match.lastgroup not in kinds:
            found = "the end of the file"
            if self.pos < len(self.text):
                found = repr(self.text[self.pos : self.pos + 20].split("\n")[0])
            raise self._error(f"{want} is wanted, not {found}")
        self.pos = match.end()
        return match.group()

    def _trivia(self) -> str:
        match = self._match()
        if match is None or match.lastgroup != "trivia":
            return ""
        self.pos = match.end()
        return match.group()

    def _accept(self, char: str) -> bool:
        if self.text.startswith(char, self.pos):
            self.pos += 1
            return True
        return False

    def _tail(self) -> str:
        """Separators and the comment on the rest of this line belong to the field before."""
        match = _TAIL.match(self.text, self.pos)
        assert match is not None
        self.pos = match.end()
        return match.group()

    def _error(self, what: str) -> NetError:
        line = bisect_left(self.breaks, self.pos) + 1
        column = self.pos - (self.text.rfind("\n", 0, self.pos) + 1) + 1
        return NetError(f"{self.source}, line {line}, column {column}: {what}.")


def _list_items(text: str) -> Iterator[re.Match[str]]:
    # Without the brackets: `[0.5]` as a whole is a token too, the name of an extension.
    for match in _TOKEN.finditer(text[1:-1]):
        if match.lastgroup in ("string", "number", "word"):
            yield match


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


def _scalar(text: str) -> Scalar:
    tokens = [m for m in _TOKEN.finditer(text) if m.lastgroup != "trivia"]
    token = tokens[0]
    if token.lastgroup == "string":
        return "".join(_unescape(t.group()) for t in tokens if t.lastgroup == "string")
    word = token.group()
    if token.lastgroup == "number":
        plain = word.rstrip("fF") if not word.lower().lstrip("-").startswith("0x") else word
        try:
            return int(plain, 0 if "x" in plain.lower() else 10)
        except ValueError:
            return float(plain)
    if word in ("true", "false"):
        return word == "true"
    return Ident(word)
