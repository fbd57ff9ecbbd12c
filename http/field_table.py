"""The top-level fields of a request: the decoder applies the table, the documentation prints it.

A field that is not in the table is unknown to the API that the dialect speaks, and is ignored.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from maxd.workers.faults import BadRequest

# A value without a type costs 24 times its size in memory; every harmless one is tiny.
HARMLESS_BYTES = 256

_ABSENT = Raw(b"null")


class Use(StrEnum):
    HONOURED = "honoured"
    IGNORED = "accepted, without effect"
    REFUSED = "refused"


class Field(NamedTuple):
    use: Use
    note: str = ""
    harmless: Callable[[Any], bool] = lambda value: False
    """Which values of a refused field ask for nothing that is not done anyway."""


class FieldTable:
    """What becomes of each field of a request's body."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self.fields = fields
        # Made of the table, so that a body of a million other keys costs no memory.
        self._decoder = msgspec.json.Decoder(
            msgspec.defstruct("Fields", [(name, Raw, _ABSENT) for name in fields])
        )

    def apply(self, body: bytes) -> tuple[str, ...]:
        """The names of the fields of `body` that were accepted without effect, in the table's
        order. `null` counts as absent.

        Raises BadRequest naming the first field that asks for something that cannot be done, and
        what msgspec raises for a body that is no JSON object.
        """
        found = self._decoder.decode(body)
        ignored = []
        for name, field in self.fields.items():
            if field.use is Use.HONOURED:
                continue
            value = bytes(getattr(found, name))
            if value == b"null":
                continue
            if field.use is Use.IGNORED:
                ignored.append(name)
            elif not _is_harmless(field, value):
                raise BadRequest(field.note, param=name, code="unsupported_parameter")
        return tuple(ignored)

    def markdown_table(self) -> str:
        """The table as the documentation prints it."""
        rows = [
            f"| `{name}` | {field.use}{f': {field.note}' if field.note else ''} |"
            for name, field in self.fields.items()
        ]
        return "\n".join(("| field | what becomes of it |", "| --- | --- |", *rows))


def is_empty(value: Any) -> bool:
    """Whether a value holds nothing: for Field.harmless."""
    return value in ([], {}, "")


def _is_harmless(field: Field, value: bytes) -> bool:
    if len(value) > HARMLESS_BYTES:
        return False
    try:
        return field.harmless(msgspec.json.decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Also a number out of all ranges, which is JSON.
        return False
