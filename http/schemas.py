"""JSON schemas that clients send: what is wrong with one can be told before a model sees it.

Only the structure is looked at, as far as a mistake in it makes the schema impossible or lets the
CLI drop all functions. Keywords nobody here knows, and bounds of any size, are left alone.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeGuard

import msgspec
from msgspec import Raw

from maxd.workers.schemas import LIST, NAMED, ONE

EMPTY: Final = '{"type":"object","properties":{}}'
"""The schema of a function without parameters."""

_TYPES: Final = frozenset(
    ("object", "array", "string", "number", "integer", "boolean", "null"),
)
# Sizes of texts, lists and objects: whole numbers that are never negative.
_SIZES = frozenset(
    ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
)
_TEXTS = frozenset(("title", "description", "$comment", "format", "pattern", "$ref"))
# An index in a pointer; int() refuses some thousands of digits.
_INDEX = re.compile("[0-9]{1,9}", re.ASCII)
_RANGES = (
    ("minimum", "maximum"),
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
)


class BadSchema(ValueError):
    """The schema cannot be used; the message says why and quotes nothing of it."""


def function_schema(raw: Raw) -> str:
    """The schema of a function's parameters as JSON text on one line, otherwise verbatim; one that
    says nothing of its type becomes that of an object.

    Raises BadSchema for what is not the schema of an object, or no schema at all: the CLI would
    drop the function, or all of them, without a word.
    """
    text, schema = _object(raw)
    if not all(isinstance(each, dict) for each in _named(schema, "properties").values()):
        raise BadSchema("one of its `properties` is not an object")
    _check_all(schema, _check_function)
    return text


def answer_schema(raw: Raw) -> str:
    """The schema of an answer as JSON text on one line, otherwise verbatim; one that says nothing
    of its type becomes that of an object. Raises BadSchema if nothing can be an answer to it."""
    text, schema = _object(raw)
    _check_all(schema, lambda each: _check_answer(each, schema))
    return text


def _object(raw: Raw) -> tuple[str, dict[str, Any]]:
    try:
        # A line break within it would end the line on which the CLI is given it.
        text = msgspec.json.format(bytes(raw), indent=-1).decode()
        schema = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Numbers out of all ranges, and texts cut within a surrogate pair.
        raise BadSchema("it is not valid JSON") from None
    except RecursionError:
        raise BadSchema("it is nested too deeply") from None
    if not isinstance(schema, dict):
        raise BadSchema("it must be a JSON object")
    if "type" not in schema:
        text = '{"type":"object"' + ("," if schema else "") + text[1:]
    elif schema["type"] != "object":
        raise BadSchema('its `type` must be "object"')
    return text, schema


def _check_all(schema: Any, check: Callable[[dict[str, Any]], None]) -> None:
    """`check` every schema in `schema`, which must be objects or booleans."""
    try:
        if isinstance(schema, dict):
            check(schema)
            for each in _inner(schema):
                _check_all(each, check)
        elif not isinstance(schema, bool):
            raise BadSchema("a schema in it is neither an object nor a boolean")
    except RecursionError:
        raise BadSchema("it is nested too deeply") from None


def _check_function(schema: dict[str, Any]) -> None:
    """What the 2020-12 draft demands of a schema; older forms are translated later."""
    types = schema.get("type", "object")
    for each in (types or [None]) if isinstance(types, list) else [types]:
        if not isinstance(each, str) or each not in _TYPES:
            raise BadSchema("a `type` in it is none that JSON Schema knows")
    _check_required(schema)
    if not isinstance(schema.get("enum", []), list):
        raise BadSchema("an `enum` in it is not a list of values")
    if any(not _is_size(schema[word]) for word in _SIZES & schema.keys()):
        raise BadSchema("a size in it is not a whole number from 0")
    for word in _TEXTS & schema.keys():
        if not isinstance(schema[word], str):
            raise BadSchema(f"a `{word}` in it is not a text")
    for word in ("minimum", "maximum"):
        if word in schema and not _is_number(schema[word]):
            raise BadSchema(f"a `{word}` in it is not a number")
    for word in ("exclusiveMinimum", "exclusiveMaximum"):
        if word in schema and not isinstance(schema[word], bool) and not _is_number(schema[word]):
            raise BadSchema(f"an `{word}` in it is not a number")
    divisor = schema.get("multipleOf", 1)
    if not _is_number(divisor) or divisor <= 0:
        raise BadSchema("a `multipleOf` in it is not above 0")


def _check_answer(schema: dict[str, Any], root: dict[str, Any]) -> None:
    """The same, and that there can be an answer to it."""
    _check_function(schema)
    if schema.get("enum") == []:
        raise BadSchema("an `enum` in it is empty")
    for low, high in _RANGES:
        if _number(schema.get(low)) > _number(schema.get(high), highest=True):
            raise BadSchema(f"a `{low}` in it is above its `{high}`")
    if "$ref" in schema and not _resolves(schema["$ref"], root):
        raise BadSchema("a `$ref` in it leads nowhere")


def _check_required(schema: dict[str, Any]) -> None:
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(each, str) for each in required):
        raise BadSchema("a `required` in it is not a list of names")


def _named(schema: dict[str, Any], word: str) -> dict[str, Any]:
    value = schema.get(word, {})
    if not isinstance(value, dict):
        raise BadSchema(f"a `{word}` in it is not an object")
    return value


def _inner(schema: dict[str, Any]) -> Iterator[Any]:
    """The schemas directly in `schema`."""
    for word, value in schema.items():
        if word in NAMED:
            within = _named(schema, word).values()
            names_too = word == "dependencies"
            yield from (each for each in within if not (names_too and isinstance(each, list)))
        elif word in ONE:
            yield from value if word in LIST and isinstance(value, list) else (value,)
        elif word in LIST:
            if not isinstance(value, list) or not value:
                raise BadSchema(f"a `{word}` in it is not a list of schemas")
            yield from value


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_size(value: Any) -> bool:
    return _is_number(value) and value >= 0 and (isinstance(value, int) or value.is_integer())


def _number(value: Any, *, highest: bool = False) -> float:
    if _is_number(value):
        return value
    return float("inf") if highest else float("-inf")


def _resolves(reference: Any, root: dict[str, Any]) -> bool:
    """Whether a `$ref` leads to something. Only pointers into the schema itself are looked at."""
    if not isinstance(reference, str):
        return False
    if not reference.startswith("#/"):
        # The schema itself, an anchor or another document.
        return reference.startswith("#")
    place: Any = root
    for step in reference[2:].split("/"):
        step = re.sub("%([0-9A-Fa-f]{2})", lambda hit: chr(int(hit[1], 16)), step)
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(place, dict) and step in place:
            place = place[step]
        elif isinstance(place, list) and _INDEX.fullmatch(step):
            if int(step) >= len(place):
                return False
            place = place[int(step)]
        else:
            return False
    return True
