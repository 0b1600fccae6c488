"""Protobuf's text format as a tree that keeps every byte: comments, order, unknown fields.

`parse(text).render() == text` for any text it accepts. Edits touch only the fields that they name,
so a patched net still reads like the one its author wrote. (A list of messages, `name: [{…}, {…}]`,
is as many fields; where one of them is moved, replaced or removed, the others are written out.)

Source of the grammar: protobuf's text format specification.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from recaffe.errors import NetError
from recaffe.net.tokens import TOKEN, Scalar, scalars, text_of

MAX_DEPTH = 100  # protobuf's own limit on nesting

_COMMENT = re.compile(r"#[^\n]*")
_TAIL = re.compile(r"[ \t]*([,;]?)(?:[ \t]*#[^\n]*)?")
_COLON = re.compile(r"(?:[ \t\r\n\f\v]|#[^\n]*)*:?")
_CLOSE = {"{": "}", "<": ">"}


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
    listed: _List | None = field(default=None, repr=False, compare=False)

    @property
    def text(self) -> str:
        """The value as it is written, without name and colon."""
        behind = self.raw[len(self.name) :]
        match = _COLON.match(behind)
        return behind[match.end() if match else 0 :].strip()

    @property
    def value(self) -> Scalar:
        """The scalar as Python sees it: str, int, float, bool, or `Ident`."""
        return scalars(self.text)[-1]

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
class _List:
    """`name: [{…}, {…}]`, which is how its fields are written as long as all stand as they stood.

    `before` and `behind` are what stands on both sides of each one's own text.
    """

    fields: list[Field] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)
    _stood: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, f: Field, before: str, behind: str) -> None:
        f.listed = self
        self.fields.append(f)
        self.before.append(before)
        self.behind.append(behind)
        self._stood.append((f.raw, f.lead, f.tail))

    def stands(self, fields: list[Field]) -> bool:
        """Whether these fields begin with its own, unchanged but for what is in their messages."""
        return len(fields) >= len(self.fields) and all(
            f is own and f.message is not None and (f.raw, f.lead, f.tail) == stood
            for f, own, stood in zip(fields, self.fields, self._stood, strict=False)
        )

    def render(self) -> str:
        return "".join(
            before + f.message.render() + f.message.end + behind
            for f, before, behind in zip(self.fields, self.before, self.behind, strict=True)
            if f.message is not None
        )


@dataclass
class Message:
    """An ordered list of fields; `end` is the text from the last field to the closing brace."""

    fields: list[Field] = field(default_factory=list)
    end: str = ""
    depth: int = 0

    def render(self) -> str:
        out, i = [], 0
        while i < len(self.fields):
            f = self.fields[i]
            if f.listed is not None and f.listed.stands(self.fields[i : i + len(f.listed.fields)]):
                out.append(f.listed.render())
                i += len(f.listed.fields)
            else:
                out.append(f.render())
                i += 1
        return "".join(out)

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
        found = self.values(name)
        return found[-1] if found else default

    def values(self, name: str) -> list[Scalar]:
        """Every scalar of that name, in order; `[a, b]` lists are unrolled."""
        return [x for f in self.all(name) if f.message is None for x in scalars(f.text)]

    def set(self, name: str, *values: Scalar) -> None:
        """Make `values` the only scalars of that name, at the first one's place or the end."""
        old = self.all(name)
        at = self.fields.index(old[0]) if old else len(self.fields)
        keep = old[: len(values)]
        self._cut(old[len(values) :])
        for i, value in enumerate(values):
            raw = f"{name}: {text_of(value)}"
            if i < len(keep):
                keep[i].raw, keep[i].message = raw, None
            else:
                self._insert(at + i, Field(name, raw))

    def remove(self, *names: str) -> None:
        """Delete every field of these names."""
        self._cut([f for f in self.fields if f.name in names])

    def _cut(self, gone: list[Field]) -> None:
        """Take fields out; where one began a line that others stand on, the next begins it."""
        for f in gone:
            at = next(i for i, have in enumerate(self.fields) if have is f)
            del self.fields[at]
            if at < len(self.fields) and not self.fields[at].lead:
                self.fields[at].lead = f.lead[max(f.lead.rfind("\n"), 0) :]

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
            apart = at > 0 and self.fields[at - 1].tail.isspace()
            new.lead, new.tail = ("", " ") if apart else (" ", "")
        elif self.depth or self.fields:
            new.lead = "\n" + "  " * self.depth
        self.fields.insert(at, new)


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
            message.fields += self._field(lead, depth)

    def _field(self, lead: str, depth: int) -> list[Field]:
        """One field; or several, where it is a list of messages."""
        start, line = self.pos, self._line()
        name = self._take("word", "ext", want="a field name")
        self._trivia()
        colon = self._accept(":")
        self._trivia()
        if self._opens():
            opening, message = self._braces(depth)
            return [Field(name, self.text[start:opening], message, lead, self._tail(), line)]
        bracket = self.pos
        if self._accept("["):
            self._trivia()
            if self._opens():
                return self._messages(name, lead, start, bracket, depth)
            self._list(name, colon)
        elif colon:
            self._value(name)
        else:
            raise self._error(f"':' or '{{' is wanted after {name!r}")
        return [Field(name, self.text[start : self.pos], None, lead, self._tail(), line)]

    def _opens(self) -> bool:
        return self.pos < len(self.text) and self.text[self.pos] in _CLOSE

    def _braces(self, depth: int) -> tuple[int, Message]:
        """A message, and where its text begins, behind the opening brace."""
        close = _CLOSE[self.text[self.pos]]
        self.pos += 1
        return self.pos, self._message(close, depth + 1)

    def _messages(self, name: str, lead: str, start: int, bracket: int, depth: int) -> list[Field]:
        """The fields of a list; its name begins at `start`, and the first message here."""
        gap, made = self.text[bracket + 1 : self.pos], _List()
        while True:
            line, brace = self._line(), self.text[self.pos]
            opening, message = self._braces(depth)
            end = self.pos
            behind = self._trivia()
            last = not self._accept(",")
            if last and not self._accept("]"):
                raise self._error(f"',' or ']' is wanted in the list of {name!r}")
            tail = behind + (self._tail() if last else ",")
            if not made.fields:
                before, own = lead + self.text[start:opening], self.text[start:bracket] + brace
                lead += gap
            else:
                before, own, lead = gap + brace, f"{name} {brace}", gap or " "
            made.add(Field(name, own, message, lead, tail, line), before, self.text[end : self.pos])
            if last:
                return made.fields
            gap = self._trivia()
            if not self._opens():
                raise self._error(f"a message is wanted in the list of {name!r}")

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

    def _list(self, name: str, colon: bool) -> None:
        if self._accept("]"):
            return
        if not colon:
            raise self._error(f"':' is wanted after {name!r}, or a list of messages")
        while True:
            self._value(name)
            self._trivia()
            if self._accept("]"):
                return
            if not self._accept(","):
                raise self._error(f"',' or ']' is wanted in the list of {name!r}")
            self._trivia()

    def _match(self) -> re.Match[str] | None:
        return TOKEN.match(self.text, self.pos)

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
        start, self.pos = self.pos, match.end()
        if not match.group(1):
            self._trivia()
            if self._accept(",") or self._accept(";"):
                return self.text[start : self.pos]
            self.pos = match.end()
        return match.group()

    def _line(self) -> int:
        return bisect_left(self.breaks, self.pos) + 1

    def _error(self, what: str) -> NetError:
        column = self.pos - (self.text.rfind("\n", 0, self.pos) + 1) + 1
        return NetError(f"{self.source}, line {self._line()}, column {column}: {what}.")
