"""Every top-level field of a chat completion request, and what becomes of it.

One table: the decoder applies it, the documents print it. A field that is not here is unknown to
OpenAI's API as well and is ignored, as OpenAI's SDKs expect of servers older than themselves.
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

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
    """Which values of a refused field ask for nothing that is not done anyway."""


def _empty(value: Any) -> bool:
    return value in ([], {}, "")


FIELDS: Mapping[str, Field] = {
    "messages": Field(Use.HONOURED),
    "model": Field(Use.HONOURED),
    "stream": Field(Use.HONOURED),
    "stream_options": Field(Use.HONOURED, "`include_usage`"),
    "tools": Field(Use.HONOURED, "functions; `strict` is accepted, the model is not held to it"),
    "tool_choice": Field(Use.HONOURED, "`none`, `auto`, `required`, one function, `allowed_tools`"),
    "parallel_tool_calls": Field(Use.HONOURED),
    "response_format": Field(Use.HONOURED, "`text`, `json_object`, `json_schema`"),
    "reasoning_effort": Field(Use.HONOURED, "`none` to `max`; `minimal` is `low`"),
    "max_tokens": Field(
        Use.POST_PROCESSED, "the answer is cut there by an estimate; thinking does not count"
    ),
    "max_completion_tokens": Field(Use.POST_PROCESSED, "as `max_tokens`; the lower of both"),
    "stop": Field(Use.POST_PROCESSED, "up to 16 texts; the answer is cut before the first"),
    "verbosity": Field(Use.POST_PROCESSED, "a sentence in the system message"),
    "n": Field(Use.REFUSED, "only 1", lambda value: value == 1),
    "functions": Field(Use.REFUSED, "use `tools`", _empty),
    "function_call": Field(Use.REFUSED, "use `tools`", lambda value: value in ("none", "auto")),
    "logprobs": Field(Use.REFUSED, "the service has none", lambda value: value is False),
    "top_logprobs": Field(Use.REFUSED, "the service has none", lambda value: value == 0),
    "logit_bias": Field(Use.REFUSED, "the service has none", _empty),
    "audio": Field(Use.REFUSED, "no audio in or out"),
    "modalities": Field(Use.REFUSED, 'only `["text"]`', lambda value: value == ["text"]),
    "web_search_options": Field(Use.REFUSED, "the agent profile searches by itself"),
    "temperature": Field(Use.IGNORED),
    "top_p": Field(Use.IGNORED),
    "presence_penalty": Field(Use.IGNORED),
    "frequency_penalty": Field(Use.IGNORED),
    "seed": Field(Use.IGNORED),
    "user": Field(Use.IGNORED),
    "safety_identifier": Field(Use.IGNORED),
    "metadata": Field(Use.IGNORED),
    "store": Field(Use.IGNORED),
    "prompt_cache_key": Field(Use.IGNORED),
    "prompt_cache_retention": Field(Use.IGNORED),
    "service_tier": Field(Use.IGNORED),
    "prediction": Field(Use.IGNORED),
}


# A value without a type costs 24 times its size in memory; every harmless one is tiny.
HARMLESS_BYTES = 256

_ABSENT = Raw(b"null")
_UNKNOWN = re.compile(r"Object contains unknown field `([A-Za-z0-9_-]{1,64})`")


def _decoder(*, strict: bool) -> msgspec.json.Decoder[Struct]:
    """Made of the table, so that a body of a million other keys costs no memory."""
    fields = [(name, Raw, _ABSENT) for name in FIELDS]
    return msgspec.json.Decoder(
        msgspec.defstruct("Fields", fields, forbid_unknown_fields=strict),
    )


_tolerant = _decoder(strict=False)
_strict = _decoder(strict=True)


def apply(body: bytes, *, strict: bool = False) -> tuple[str, ...]:
    """The names of the fields of `body` that were accepted without effect, in the table's order.
    `null` counts as absent.

    Raises BadRequest naming the first field that asks for something that cannot be done, and
    with `strict` the first that would have no effect; and what msgspec raises for a body that is
    no JSON object.
    """
    found = _strictly(body) if strict else _tolerant.decode(body)
    ignored = []
    for name, field in FIELDS.items():
        value = bytes(getattr(found, name))
        if value == b"null":
            continue
        if field.use is Use.IGNORED:
            if strict:
                raise _refused(name, "has no effect here, which strict mode refuses")
            ignored.append(name)
        elif field.use is Use.REFUSED and not _is_harmless(field, value):
            raise _refused(name, field.note)
    return tuple(ignored)


def _strictly(body: bytes) -> Struct:
    try:
        return _strict.decode(body)
    except msgspec.ValidationError as error:
        # What is no object at all has another message.
        if "unknown field" not in str(error):
            raise
        unknown = _UNKNOWN.search(str(error))
    if unknown is None:
        raise BadRequest("there is an unknown field, which strict mode refuses")
    raise _refused(unknown[1], "is an unknown field, which strict mode refuses")


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


def markdown_table() -> str:
    """The table as the documents print it."""
    rows = [
        f"| `{name}` | {field.use}{f': {field.note}' if field.note else ''} |"
        for name, field in FIELDS.items()
    ]
    return "\n".join(("| field | what becomes of it |", "| --- | --- |", *rows))
