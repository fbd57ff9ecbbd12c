"""The machinery of a dialect's table of fields: every top-level field of its requests, and what
becomes of it.

One table for each dialect: its decoder applies it, the documents print it. A field that is not in
it is unknown to the dialect's own API as well and is ignored, as clients expect of servers older
than themselves.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from maxd.http import decoding
from maxd.workers.faults import BadRequest


class Use(StrEnum):
    HONOURED = "honoured"
    IGNORED = "accepted, without effect"
    REFUSED = "refused"


class Field(NamedTuple):
    use: Use
    note: str = ""
    harmless: Callable[[Any], bool] = lambda value: False
    """Which values ask for nothing that is not done anyway: of a refused field they are not
    refused, of an ignored one not named."""


# A value without a type costs 24 times its size in memory; every harmless one is tiny.
HARMLESS_BYTES = 256

_ABSENT = Raw(b"null")


class FieldTable:
    """The fields of one dialect, in the order in which they are named."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self.fields = fields
        # Made of the table, so that a body of a million other keys costs no memory.
        self._decoder = msgspec.json.Decoder(
            msgspec.defstruct("Fields", [(name, Raw, _ABSENT) for name in fields])
        )

    def apply(self, body: bytes) -> tuple[str, ...]:
        """The names of the fields of `body` that were accepted without effect. `null` counts as
        absent.

        Raises BadRequest for what is no JSON object, and naming the first field that asks for
        something that cannot be done.
        """
        found = decoding.decode(self._decoder, body)
        ignored = []
        for name, field in self.fields.items():
            if field.use is Use.HONOURED:
                continue
            value = bytes(getattr(found, name))
            if value == b"null" or _is_harmless(field, value):
                continue
            if field.use is Use.REFUSED:
                raise BadRequest(f"{name}: {field.note}", param=name, code="unsupported_parameter")
            ignored.append(name)
        return tuple(ignored)

    def markdown_table(self) -> str:
        """The table as the documents print it."""
        rows = [
            f"| `{name}` | {field.use}{f': {field.note}' if field.note else ''} |"
            for name, field in self.fields.items()
        ]
        return "\n".join(("| field | what becomes of it |", "| --- | --- |", *rows))


def _is_harmless(field: Field, value: bytes) -> bool:
    if len(value) > HARMLESS_BYTES:
        return False
    try:
        return field.harmless(msgspec.json.decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Also a number out of all ranges, which is JSON.
        return False
