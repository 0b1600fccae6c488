"""A protobuf message as a plain Python object, which is read faster and can be compiled.

`torch.compile` can't look into a message: each read of a field would break its graph in two.
"""

from __future__ import annotations

from typing import TypeVar, cast

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)


class _Plain:
    """All fields of a message as attributes: defaults where unset, repeated ones as tuples."""

    def __init__(self, message: Message) -> None:
        self.present = frozenset(field.name for field, _ in message.ListFields())
        for field in message.DESCRIPTOR.fields:
            value = getattr(message, field.name)
            if field.message_type is None:
                setattr(self, field.name, tuple(value) if field.is_repeated else value)
            elif field.is_repeated:
                setattr(self, field.name, tuple(_Plain(x) for x in value))
            else:
                setattr(self, field.name, _Plain(value))

    def HasField(self, name: str) -> bool:  # noqa: N802 - a message's own name for it
        """Whether a field is set."""
        return name in self.present


def plain(message: M) -> M:
    """What reads like the message; what changes it is missing."""
    return cast(M, _Plain(message))
