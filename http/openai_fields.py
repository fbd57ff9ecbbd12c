"""Every top-level field of a chat completion request, and what becomes of it.

One table: the decoder applies it, the README prints it. A field that is not here is unknown to
OpenAI's API as well and is ignored, as OpenAI's SDKs expect of servers older than themselves.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from maxd.workers.faults import BadRequest


class Use(StrEnum):
    HONOURED = "honoured"
    IGNORED = "accepted, without effect"
    REFUSED = "refused"


class Field(NamedTuple):
    use: Use
    note: str = ""
    harmless: Callable[[Any], bool] = lambda value: False
    """Which values of a refused field ask for nothing that is not done anyway."""


def _empty(value: Any) -> bool:
    return value in ([], {}, "")


LATER = "not supported yet"
FIELDS: Mapping[str, Field] = {
    "messages": Field(Use.HONOURED),
    "model": Field(Use.HONOURED),
    "stream": Field(Use.HONOURED),
    "stream_options": Field(Use.HONOURED, "`include_usage`"),
    "n": Field(Use.REFUSED, "only 1", lambda value: value == 1),
    "response_format": Field(
        Use.REFUSED,
        f"only `text`; a schema is {LATER}",
        lambda value: isinstance(value, dict) and value.get("type") == "text",
    ),
    "tools": Field(Use.REFUSED, f"client functions are {LATER}", _empty),
    "tool_choice": Field(
        Use.REFUSED, f"client functions are {LATER}", lambda value: value in ("none", "auto")
    ),
    "functions": Field(Use.REFUSED, "use `tools`", _empty),
    "function_call": Field(Use.REFUSED, "use `tools`", lambda value: value in ("none", "auto")),
    "logprobs": Field(Use.REFUSED, "the service has none", lambda value: value is False),
    "top_logprobs": Field(Use.REFUSED, "the service has none", lambda value: value == 0),
    "logit_bias": Field(Use.REFUSED, "the service has none", _empty),
    "audio": Field(Use.REFUSED, "no audio in or out"),
    "modalities": Field(Use.REFUSED, 'only `["text"]`', lambda value: value == ["text"]),
    "web_search_options": Field(Use.REFUSED, "the agent profile searches by itself"),
    "max_tokens": Field(Use.IGNORED),
    "max_completion_tokens": Field(Use.IGNORED),
    "stop": Field(Use.IGNORED),
    "reasoning_effort": Field(Use.IGNORED),
    "verbosity": Field(Use.IGNORED),
    "parallel_tool_calls": Field(Use.IGNORED),
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
# Made of the table, so that a body of a million other keys costs no memory.
_decoder = msgspec.json.Decoder(
    msgspec.defstruct("Fields", [(name, Raw, _ABSENT) for name in FIELDS])
)


def apply(body: bytes) -> tuple[str, ...]:
    """The names of the fields of `body` that were accepted without effect, in the table's order.
    `null` counts as absent.

    Raises BadRequest naming the first field that asks for something that cannot be done, and
    what msgspec raises for a body that is no JSON object.
    """
    found = _decoder.decode(body)
    ignored = []
    for name, field in FIELDS.items():
        if field.use is Use.HONOURED:
            continue
        value = bytes(getattr(found, name))
        if value == b"null":
            continue
        if field.use is Use.IGNORED:
            ignored.append(name)
        elif not _is_harmless(field, value):
            raise BadRequest(f"{name}: {field.note}", param=name, code="unsupported_parameter")
    return tuple(ignored)


def _is_harmless(field: Field, value: bytes) -> bool:
    if len(value) > HARMLESS_BYTES:
        return False
    try:
        return field.harmless(msgspec.json.decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Also a number out of all ranges, which is JSON.
        return False


def markdown_table() -> str:
    """The table as the README prints it."""
    rows = [
        f"| `{name}` | {field.use}{f': {field.note}' if field.note else ''} |"
        for name, field in FIELDS.items()
    ]
    return "\n".join(("| field | what becomes of it |", "| --- | --- |", *rows))
