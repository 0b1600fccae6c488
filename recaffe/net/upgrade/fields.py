"""Moving a tree's fields from one message to another, their comments with them."""

from __future__ import annotations

from collections.abc import Iterator

from recaffe.net.prototxt import Field, Message
from recaffe.net.tokens import text_of


def values(f: Field) -> Iterator[tuple[Field, str]]:
    """Each value's text, of a list too; the field, for its comments, goes with the first."""
    if not f.text.startswith("["):
        yield f, f.text
        return
    for i, value in enumerate(Message(fields=[f]).values(f.name)):
        yield (Field(f.name, f.raw, line=f.line) if i else f), text_of(value)


def append(message: Message, old: Field, name: str, text: str) -> None:
    """Add `name: text` at the end of a message, with the comments of the field that it was."""
    _add(message, old, Field(name, f"{name}: {text}", line=old.line))


def move(message: Message, f: Field, name: str) -> None:
    """Put a field of another message at the end of this one, under another name."""
    f.rename(name)
    _add(message, f, f)


def all_comments(f: Field) -> Iterator[str]:
    """The comments of a field and of all that it holds."""
    yield from f.comments
    for inner in f.message.fields if f.message else ():
        yield from all_comments(inner)


def put_before(f: Field, comments: list[str]) -> None:
    """Add comments in front of a field."""
    if comments:
        f.lead = "\n" + "\n".join(comments) + "\n" + f.lead.lstrip(" \t\n")


def _add(message: Message, old: Field, new: Field) -> None:
    pad = "\n" + "  " * message.depth
    before, behind = (Field("", "", lead=text).comments for text in (old.lead, old.tail))
    new.lead = pad + "".join(c + pad for c in before)
    new.tail = "".join(f"  {c}" for c in behind)
    message.fields.append(new)
