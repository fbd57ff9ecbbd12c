"""Anthropic messages, inwards: from the body of a request to a Turn."""

import re
from collections.abc import Callable
from typing import TypeAlias

from msgspec import Raw, Struct

from maxd.http import anthropic_body as wire
from maxd.http.anthropic_conversation import Reader
from maxd.http.anthropic_fields import FIELDS
from maxd.http.client_functions import Functions, answer_schema
from maxd.http.decoding import Complaint, faults_named
from maxd.http.dialect import FindModel
from maxd.http.field_table import refuse_ignored
from maxd.http.wishes import Wishes
from maxd.workers.faults import BadRequest
from maxd.workers.turn import Effort, Function, ToolChoice, Turn

HasTools: TypeAlias = Callable[[str], bool]
"""Whether a profile has the CLI's own tools."""

# The API's own limits.
LOWEST_BUDGET = 1024
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}", re.ASCII)
# Each is looked for in every piece of the answer, and all other turns wait for that.
STOP_LIMIT = 256
_WORD = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_WEB_SEARCH = re.compile(r"web_search_[0-9]{8}", re.ASCII)
# Effort is all that can be set: a budget becomes the effort whose thinking it would hold.
LOW_BUDGET, MEDIUM_BUDGET = 4_096, 16_384


class MessagesRequest(Struct, frozen=True, kw_only=True):
    """A decoded request: the turn, and how the client wants its reply. `thinking`: whether the
    model's thinking is shown as text, by its signature alone, or not at all."""

    turn: Turn
    model_id: str
    stream: bool
    thinking: bool
    thinking_text: bool
    ignored: tuple[str, ...]


def decode(
    body: bytes,
    find_model: FindModel,
    has_tools: HasTools,
    wishes: Wishes,
    *,
    counts: bool = False,
) -> MessagesRequest:
    """The request in `body`. `counts`: its tokens are to be counted, so it needs no `max_tokens`.

    Raises BadRequest naming the field, ModelNotFound, TooLarge.
    """
    with faults_named(spell=_spell):
        ignored = FIELDS.apply(body, strict=wishes.strict)
        asked = wire.body_decoder.decode(body)
        return _request(asked, ignored, find_model, has_tools, wishes, counts)


def _request(
    asked: wire.MessagesBody,
    ignored: tuple[str, ...],
    find_model: FindModel,
    has_tools: HasTools,
    wishes: Wishes,
    counts: bool,
) -> MessagesRequest:
    if asked.max_tokens is None and not counts:
        raise BadRequest("field required", param="max_tokens")
    if asked.max_tokens is not None and asked.max_tokens < 1:
        raise BadRequest("must be greater than or equal to 1", param="max_tokens")
    profile, model = find_model(asked.model)
    reader = Reader()
    system = asked.system or ()
    texts = system if isinstance(system, str) else [block.text for block in system]
    head = tuple(reader.system(texts))
    more, messages = reader.conversation(asked.messages, continues=wishes.partial)
    functions, unused = _functions(asked.tools or [], has_tools(profile))
    choice, parallel = _choice(asked.tool_choice, functions, searches=bool(asked.tools))
    ignored = (*ignored, *unused, *reader.ignored)
    if wishes.strict:
        refuse_ignored(ignored)
    thinking = asked.thinking
    thinks = thinking is not None and thinking.type != "disabled"
    return MessagesRequest(
        turn=Turn(
            profile=profile,
            model=model,
            messages=messages,
            system=head + more,
            functions=functions,
            tool_choice=choice,
            parallel_calls=parallel,
            schema=_schema(asked),
            effort=_effort(asked),
            max_tokens=asked.max_tokens,
            stop=_stop(asked.stop_sequences or []),
        ),
        model_id=asked.model,
        stream=bool(asked.stream),
        thinking=bool(wishes.thinking) or (thinks and wishes.shows_thinking(profile)),
        thinking_text=thinking is None or thinking.display != "omitted",
        ignored=ignored,
    )


def _functions(
    tools: list[wire.Tool], profile_has_tools: bool
) -> tuple[tuple[Function, ...], tuple[str, ...]]:
    """The client's functions, and the names of what has no effect."""
    functions = Functions(
        sum(len(bytes(tool.input_schema)) + len(tool.description or "") for tool in tools)
    )
    ignored: dict[str, None] = {}
    searches = False
    for index, tool in enumerate(tools):
        where = f"tools.{index}"
        if tool.type not in (None, "custom"):
            if not _WEB_SEARCH.fullmatch(tool.type):
                shown = tool.type if _WORD.fullmatch(tool.type) else "of an unknown type"
                raise BadRequest(
                    f"the tool {shown} is not offered here; the profiles' tools are the CLI's own",
                    param=f"{where}.type",
                    code="unsupported_tool",
                )
            for name in ("allowed_domains", "blocked_domains"):
                if not _is_nothing(getattr(tool, name)):
                    raise BadRequest("the CLI's search takes none", param=f"{where}.{name}")
            for name in ("max_uses", "user_location"):
                if not _is_nothing(getattr(tool, name)):
                    ignored[f"tools.{name}"] = None
            searches = True
            continue
        if not TOOL_NAME.fullmatch(tool.name):
            raise BadRequest("1 to 128 letters, digits, `_` and `-`", param=f"{where}.name")
        if _is_nothing(tool.input_schema):
            raise BadRequest("field required", param=f"{where}.input_schema")
        schema = tool.input_schema
        functions.add(tool.name, tool.description, schema, where, f"{where}.input_schema")
    if searches and functions.all():
        raise BadRequest(
            "web search and functions cannot be had together: with functions the CLI's own tools "
            "are off",
            param="tools",
            code="unsupported_tool",
        )
    if searches and not profile_has_tools:
        raise BadRequest(
            "this model id's profile has no tools, so it cannot search the web",
            param="tools",
            code="unsupported_tool",
        )
    return functions.all(), tuple(ignored)


def _choice(
    choice: wire.Choice | None, functions: tuple[Function, ...], *, searches: bool
) -> tuple[ToolChoice, bool]:
    """What may or must be called, and whether several at once."""
    if choice is None:
        return ToolChoice(), True
    parallel = not choice.disable_parallel_tool_use
    if choice.type in ("any", "tool") and not functions:
        raise BadRequest(
            "there is no tool that could be forced"
            + (": the CLI searches by itself" if searches else ""),
            param="tool_choice",
        )
    match choice.type:
        case "any":
            return ToolChoice("required"), parallel
        case "tool":
            if choice.name not in {function.name for function in functions}:
                raise BadRequest("there is no tool of that name", param="tool_choice.name")
            return ToolChoice("required", (choice.name,)), parallel
        case "none":
            return ToolChoice("none"), parallel
        case "auto":
            return ToolChoice(), parallel


def _schema(asked: wire.MessagesBody) -> str | None:
    output = asked.output_config
    wanted, where = asked.output_format, "output_format"
    if output is not None and output.format is not None:
        if wanted is not None:
            raise BadRequest("give either this or output_config.format", param="output_format")
        wanted, where = output.format, "output_config.format"
    if wanted is None:
        return None
    return answer_schema(wanted.schema, f"{where}.schema")


def _effort(asked: wire.MessagesBody) -> Effort | None:
    thinking, output = asked.thinking, asked.output_config
    if thinking is not None and thinking.type == "disabled":
        return "none"
    if output is not None and output.effort is not None:
        return output.effort
    if thinking is None or thinking.type != "enabled":
        return None
    budget = thinking.budget_tokens
    if budget is None:
        raise BadRequest("field required", param="thinking.budget_tokens")
    if budget < LOWEST_BUDGET:
        raise BadRequest(f"at least {LOWEST_BUDGET}", param="thinking.budget_tokens")
    return "low" if budget <= LOW_BUDGET else "medium" if budget <= MEDIUM_BUDGET else "high"


def _stop(sequences: list[str]) -> tuple[str, ...]:
    if len(sequences) > STOP_LIMIT:
        raise BadRequest(f"at most {STOP_LIMIT}", param="stop_sequences")
    for index, text in enumerate(sequences):
        if not text.strip():
            raise BadRequest(
                "each stop sequence must contain non-whitespace", param=f"stop_sequences.{index}"
            )
    return tuple(dict.fromkeys(sequences))


def _is_nothing(raw: Raw) -> bool:
    return bytes(raw) in (b"null", b"[]", b"{}")


def _spell(found: Complaint, place: str) -> BadRequest:
    """As Anthropic names places: `messages.0.role`; the error's own form has the place in front."""
    param = f"{place}{found.path}".replace("[", ".").replace("]", "").removeprefix(".")
    return BadRequest("field required" if found.missing else found.what, param=param or None)
