"""OpenAI chat completions, inwards: `tools`, `tool_choice` and `response_format`."""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct, field

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

_FormatName: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]


class FunctionDefinition(Struct):
    name: OpenAIName
    description: str | None = None
    parameters: Raw = field(default_factory=Raw)


class Tool(Struct):
    # OpenAI's own is missing in no request, but some clients leave it out of custom ones.
    type: str = "function"
    function: FunctionDefinition | None = None


class NamedFunction(Struct):
    name: str


class NamedTool(Struct, tag_field="type", tag="function"):
    function: NamedFunction


class NamedCustom(Struct, tag_field="type", tag="custom"):
    pass


class Allowed(Struct):
    mode: Literal["auto", "required"]
    tools: list[NamedTool | NamedCustom]


class AllowedTools(Struct, tag_field="type", tag="allowed_tools"):
    allowed_tools: Allowed


class TextFormat(Struct, tag_field="type", tag="text"):
    pass


class ObjectFormat(Struct, tag_field="type", tag="json_object"):
    pass


class NamedSchema(Struct):
    name: _FormatName
    schema: Raw


class SchemaFormat(Struct, tag_field="type", tag="json_schema"):
    json_schema: NamedSchema


_tools = msgspec.json.Decoder(list[Tool])
_choice = msgspec.json.Decoder(str | NamedTool | NamedCustom | AllowedTools)
_format = msgspec.json.Decoder(TextFormat | ObjectFormat | SchemaFormat)


def functions(raw: Raw) -> tuple[Function, ...]:
    """The functions of the field `tools`. Raises BadRequest naming what is wrong, TooLarge."""
    if bytes(raw) in ABSENT:
        return ()
    found = Functions(len(bytes(raw)))
    tools = decode(_tools, raw, "tools")
    for index, tool in enumerate(tools):
        place = f"tools[{index}]"
        if tool.type != "function":
            raise unsupported(
                f"{place}: only tools of the type function are taken", f"{place}.type"
            )
        definition, place = tool.function, f"{place}.function"
        if definition is None:
            raise BadRequest(f"{place} is missing", param=place)
        found.add(
            definition.name,
            definition.description,
            definition.parameters,
            place,
            f"{place}.parameters",
        )
    return found.all()


def choice(raw: Raw, functions: tuple[Function, ...]) -> ToolChoice:
    """The field `tool_choice`. Raises BadRequest if it asks for what `functions` do not have."""
    if bytes(raw) in ABSENT:
        return ToolChoice()
    asked = decode(_choice, raw, "tool_choice")
    match asked:
        case "none":
            return ToolChoice("none")
        case "auto":
            return ToolChoice("auto")
        case "required":
            wanted = ToolChoice("required")
        case NamedTool(function):
            wanted = ToolChoice("required", (function.name,))
        case AllowedTools(allowed):
            wanted = ToolChoice(allowed.mode, _names(allowed))
        case NamedCustom():
            raise unsupported("custom tools are not supported; use functions", "tool_choice")
        case _:
            raise BadRequest("Unknown value in tool_choice", param="tool_choice")
    if not functions:
        raise BadRequest("tool_choice asks for a tool, and there are no tools", param="tool_choice")
    if not set(wanted.names) <= {function.name for function in functions}:
        raise BadRequest("tool_choice names a function that is not in tools", param="tool_choice")
    return wanted


def schema(raw: Raw) -> str | None:
    """The JSON text of the schema that the field `response_format` asks for. Raises BadRequest."""
    if bytes(raw) in ABSENT:
        return None
    asked = decode(_format, raw, "response_format")
    match asked:
        case ObjectFormat():
            return NO_SCHEMA
        case SchemaFormat(named):
            return answer_schema(named.schema, "response_format")
        case _:
            return None


def _names(allowed: Allowed) -> tuple[str, ...]:
    if not allowed.tools:
        raise BadRequest("tool_choice allows no tools; use none", param="tool_choice")
    names = [tool.function.name for tool in allowed.tools if isinstance(tool, NamedTool)]
    if len(names) < len(allowed.tools):
        raise unsupported("custom tools are not supported; use functions", "tool_choice")
    return tuple(dict.fromkeys(names))
