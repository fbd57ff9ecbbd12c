"""OpenAI Responses, inwards: the tools of a request, which of them may be called, and the form of
the answer."""

import re
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Raw, Struct, field

from maxd.http.client_functions import (
    ABSENT,
    NO_SCHEMA,
    Functions,
    OpenAIName,
    answer_schema,
)
from maxd.http.content import unsupported
from maxd.http.decoding import decode
from maxd.workers.faults import BadRequest
from maxd.workers.turn import Function, ToolChoice

WEB_SEARCH = re.compile(r"web_search(_preview)?(_[0-9_]+)?", re.ASCII)


class _Kind(Struct):
    type: str


class _FunctionTool(Struct):
    name: OpenAIName
    description: str | None = None
    parameters: Raw = Raw()


class _WebSearchTool(Struct):
    filters: Raw = Raw()
    user_location: Raw = Raw()
    search_context_size: Raw = Raw()


class _Choice(Struct):
    type: str
    name: str | None = None
    mode: str | None = None
    tools: list[Raw] = field(default_factory=list)


class _Named(Struct):
    type: str
    name: str | None = None


class _Format(Struct):
    type: Literal["text", "json_schema", "json_object"]
    schema: Raw = Raw()


class Tools(Struct, frozen=True):
    """What may be called. `web_search`: the CLI's own search is asked for. `ignored` names what
    was accepted without effect."""

    functions: tuple[Function, ...] = ()
    web_search: bool = False
    ignored: tuple[str, ...] = ()


_kind = msgspec.json.Decoder(_Kind)
_function = msgspec.json.Decoder(_FunctionTool)
_web_search = msgspec.json.Decoder(_WebSearchTool)
_format = msgspec.json.Decoder(_Format)
_choice = msgspec.json.Decoder(str | _Choice)
_named = msgspec.json.Decoder(_Named)


def read_tools(tools: Sequence[Raw]) -> Tools:
    """The tools of a request. Raises BadRequest naming the one that cannot be had."""
    functions = Functions(sum(len(bytes(raw)) for raw in tools))
    web_search = False
    ignored: dict[str, None] = {}
    for index, raw in enumerate(tools):
        place = f"tools[{index}]"
        kind = decode(_kind, raw, place).type
        if kind == "function":
            found = decode(_function, raw, place)
            functions.add(
                found.name, found.description, found.parameters, place, f"{place}.parameters"
            )
        elif WEB_SEARCH.fullmatch(kind):
            search = decode(_web_search, raw, place)
            if bytes(search.filters) not in (*ABSENT, b"{}"):
                raise unsupported("the search cannot be filtered", f"{place}.filters")
            for name in ("user_location", "search_context_size"):
                if bytes(getattr(search, name)) not in ABSENT:
                    ignored[f"tools.{name}"] = None
            web_search = True
        else:
            raise unsupported(f"{_shown(kind)} tools are not supported", f"{place}.type")
    if web_search and functions.all():
        raise unsupported("web_search cannot be used together with functions", "tools")
    return Tools(functions.all(), web_search, tuple(ignored))


def read_format(value: Raw) -> str | None:
    """The JSON text of the schema that `text.format` asks for. Raises BadRequest."""
    if bytes(value) in ABSENT:
        return None
    form = decode(_format, value, "text.format")
    match form.type:
        case "text":
            return None
        case "json_object":
            return NO_SCHEMA
        case "json_schema":
            place = "text.format.schema"
            if not bytes(form.schema):
                raise BadRequest("the schema is missing", param=place)
            return answer_schema(form.schema, place)


def read_choice(value: Raw, tools: Tools) -> ToolChoice:
    """Which tools may or must be called. Raises BadRequest."""
    if bytes(value) in ABSENT:
        return ToolChoice()
    choice = decode(_choice, value, "tool_choice")
    match choice:
        case "auto" | "none":
            return ToolChoice(choice)
        case "required":
            _names(tools, [], "tool_choice")
            return ToolChoice("required")
        case _Choice(type="function", name=name):
            return ToolChoice("required", _names(tools, [name], "tool_choice.name"))
        case _Choice(type="allowed_tools", mode="auto" | "required" as mode):
            allowed = []
            for index, raw in enumerate(choice.tools):
                place = f"tool_choice.tools[{index}]"
                tool = decode(_named, raw, place)
                if tool.type != "function":
                    raise unsupported("only functions can be allowed", f"{place}.type")
                allowed.append(tool.name)
            if not allowed:
                return ToolChoice("none")
            return ToolChoice(mode, _names(tools, allowed, "tool_choice.tools"))
        case _Choice(type="allowed_tools"):
            raise BadRequest("must be auto or required", param="tool_choice.mode")
        case _Choice(type=kind):
            raise unsupported(f"{_shown(kind)} cannot be forced", "tool_choice.type")
        case _:
            raise BadRequest("must be auto, none, required or an object", param="tool_choice")


def _names(tools: Tools, names: Sequence[str | None], place: str) -> tuple[str, ...]:
    known = {function.name for function in tools.functions}
    if not known:
        raise BadRequest("there are no functions that could be called", param=place)
    if not known.issuperset(names):
        raise BadRequest("there is no such function in tools", param=place)
    return tuple(name for name in names if name is not None)


def _shown(kind: str) -> str:
    """A kind of tool as an error may repeat it."""
    return kind if re.fullmatch("[a-z0-9_]{1,40}", kind) else "such"
