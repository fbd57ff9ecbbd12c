"""The machinery of a dialect's table of fields: every top-level field of its requests, and what
becomes of it.

One table for each dialect: its decoder applies it, the documents print it. A field that is not in
it is unknown to the dialect's own API as well and is ignored, as clients expect of servers older
than themselves; a client may wish for strict mode, which refuses whatever has no effect.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

from maxd.http.decoding import faults_named
from maxd.workers.faults import BadRequest


class Use(StrEnum):
    HONOURED = "honoured"
    POST_PROCESSED = "seen to by maxd"
    IGNORED = "accepted, without effect"
    REFUSED = "refused"


class Field(NamedTuple):
    use: Use
    note: str = ""
    harmless: Callable[[Any], bool] = lambda value: False
    """Which values ask for nothing that is not done anyway: of a refused field they are not
    refused, of an ignored one not named."""


# A value without a type costs 24 times its size in memory; every harmless one is tiny.
HARMLESS_BYTES: Final = 256

_ABSENT = Raw(b"null")
_UNKNOWN = re.compile(r"Object contains unknown field `([A-Za-z0-9_-]{1,64})`")


class FieldTable:
    """The fields of one dialect, in the order in which they are named."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self.fields = fields
        # Made of the table, so that a body of a million other keys costs no memory.
        known = [(name, Raw, _ABSENT) for name in fields]
        self._tolerant, self._strict = (
            msgspec.json.Decoder(
                msgspec.defstruct("Fields", known, forbid_unknown_fields=forbids),
            )
            for forbids in (False, True)
        )

    def apply(self, body: bytes, *, strict: bool = False) -> tuple[str, ...]:
        """The names of the fields of `body` that were accepted without effect, in the table's
        order. `null` counts as absent.

        Raises BadRequest for what is no JSON object, and naming the first field that asks for
        something that cannot be done, or with `strict` has no effect.
        """
        with faults_named():
            found = self._known(body) if strict else self._tolerant.decode(body)
        ignored = []
        for name, field in self.fields.items():
            if field.use not in (Use.IGNORED, Use.REFUSED):
                continue
            value = bytes(getattr(found, name))
            if value == b"null" or _is_harmless(field, value):
                continue
            if field.use is Use.REFUSED:
                raise _refused(name, field.note)
            ignored.append(name)
        if strict:
            refuse_ignored(ignored)
        return tuple(ignored)

    def markdown_table(self) -> str:
        """The table as the documents print it."""
        rows = [
            f"| `{name}` | {field.use}{f': {field.note}' if field.note else ''} |"
            for name, field in self.fields.items()
        ]
        return "\n".join(("| field | what becomes of it |", "| --- | --- |", *rows))

    def _known(self, body: bytes) -> Struct:
        """The fields of `body`. Raises BadRequest for one that is not in the table."""
        try:
            return self._strict.decode(body)
        except msgspec.ValidationError as error:
            # What is no object at all has another message.
            if "unknown field" not in str(error):
                raise
            unknown = _UNKNOWN.search(str(error))
        if unknown is None:
            raise BadRequest(
                "there is an unknown field, which strict mode refuses", code="unsupported_parameter"
            )
        raise _refused(unknown[1], "is an unknown field, which strict mode refuses")


def refuse_ignored(names: Sequence[str]) -> None:
    """What strict mode makes of fields that would have no effect: raise BadRequest for the first,
    if there is one."""
    if names:
        raise _refused(names[0], "has no effect here, which strict mode refuses")


def empty(value: Any) -> bool:
    """Harmless is a list, an object or a text with nothing in it."""
    return value in ([], {}, "")


def _refused(name: str, reason: str) -> BadRequest:
    return BadRequest(f"{name}: {reason}", param=name, code="unsupported_parameter")


def _is_harmless(field: Field, value: bytes) -> bool:
    if len(value) > HARMLESS_BYTES:
        return False
    try:
        return field.harmless(msgspec.json.decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Also a number out of all ranges, which is JSON.
        return False
