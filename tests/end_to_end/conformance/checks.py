"""What a dialect's capability is, as data: a request, and what must become of it."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from msgspec import Struct, field

from tests.end_to_end.running import directive

CHAT_MODEL, AGENT_MODEL = "claude-sonnet-4:chat", "claude-sonnet-4"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNgAAIAAAUAAeIhvDMAAAAASUVORK5CYII="
PDF = "JVBERi0xLjQKJSVFT0YK"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}

# What the model is asked to say. The checks of one dialect with one and the same request share it.
CALL: dict[str, Any] = {"type": "tool_use", "name": "mcp__client__weather", "input": {"city": "X"}}
CALLS = directive(blocks=[CALL, CALL])
THINKS = directive(blocks=[{"type": "thinking", "text": "hm"}, {"type": "text", "text": "yes"}])
STRUCTURED = directive(
    replies=[{"tool": "StructuredOutput", "input": {"city": "X"}}, {"text": "Done."}]
)
BREAKS_OFF = directive(words=40, pace=0.02, cut=30)


class Verdict(StrEnum):
    HONOURED = "honoured"
    IGNORED = "accepted, without effect"
    REFUSED = "refused"


class Check(Struct, frozen=True, kw_only=True):
    """One row of the page, and the request that shows it to be true.

    `body` is laid over the dialect's least request, None takes a field out; `ask` is the text of
    the user's message, a directive for the loopback model or words. `reply` is what the reply must
    hold, `upstream` what the last request to the model must, `events` the types of a stream's
    events in their order, others between them left out. A dict is held by one that has all its
    keys, a list by one in which each element is held by some element, a tuple by a list of as many,
    each in its place, a text by one that contains it. An ignored capability must be named in
    `x-ignored-params`. `earlier` is the text of a request that the check needs to be stored before:
    `{response}` in `path` and `body` is its id, `{item}` that of the first item of its output.

    A turn costs most of a check's time, so checks with one and the same request share it: a request
    with several fields shows the row of each.
    """

    group: str
    name: str
    verdict: Verdict
    note: str = ""
    ask: str | None = None
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"
    path: str | None = None
    earlier: str | None = None
    status: int = 200
    reply: Any = None
    upstream: Any = None
    events: tuple[str, ...] = ()


class Dialect(Struct, frozen=True, kw_only=True):
    """A dialect and all that is claimed of it. `checks` is its one list.

    `fields` names those of its requests: each has a row. `least` makes the least body of a text.
    """

    name: str
    title: str
    path: str
    fields: tuple[str, ...]
    least: Callable[[str], dict[str, Any]]
    checks: tuple[Check, ...]

    @property
    def ignored_fields(self) -> tuple[Check, ...]:
        """The fields of its requests that have no effect."""
        return tuple(
            check
            for check in self.checks
            if check.group == "fields" and check.verdict is Verdict.IGNORED
        )


def honoured(group: str, name: str, **fields: Any) -> Check:
    return Check(group=group, name=name, verdict=Verdict.HONOURED, **fields)


def refused(group: str, name: str, **fields: Any) -> Check:
    return Check(group=group, name=name, verdict=Verdict.REFUSED, **{"status": 400, **fields})


def ignored(name: str, value: Any, note: str = "") -> Check:
    """A field of the request that has no effect."""
    return Check(
        group="fields", name=f"`{name}`", verdict=Verdict.IGNORED, body={name: value}, note=note
    )


def errors(
    *,
    unknown_model: tuple[str, Any],
    forbidden: tuple[str, Any],
    limited: tuple[str, Any],
    overloaded: tuple[str, Any],
    overloaded_status: int = 503,
    overloaded_note: str = "",
) -> tuple[Check, ...]:
    """What every dialect has errors for: of each its name, and what the reply must hold."""

    def row(told: tuple[str, Any], status: int, **fields: Any) -> Check:
        name, reply = told
        return honoured("errors", name, status=status, reply=reply, **fields)

    return (
        row(unknown_model, 404, body={"model": "gpt-4o"}),
        row(
            forbidden,
            403,
            note="a web page, or another host",
            headers={"origin": "http://evil.example"},
        ),
        row(limited, 429, ask=directive(error=429)),
        row(overloaded, overloaded_status, note=overloaded_note, ask=directive(error=529)),
    )


def given(*blocks: dict[str, Any], role: str = "user") -> dict[str, Any]:
    """A request to the model with a message that holds `blocks`."""
    return {"messages": [{"role": role, "content": list(blocks)}]}


def holds(pattern: Any, value: Any) -> bool:
    """Whether `value` holds what `pattern` says; see Check."""
    match pattern:
        case dict():
            return isinstance(value, dict) and all(
                key in value and holds(each, value[key]) for key, each in pattern.items()
            )
        case tuple():
            return (
                isinstance(value, list)
                and len(value) == len(pattern)
                and all(map(holds, pattern, value))
            )
        case list():
            return isinstance(value, list) and all(
                any(holds(each, other) for other in value) for each in pattern
            )
        case str():
            return isinstance(value, str) and pattern in value
        case _:
            return bool(pattern == value)
