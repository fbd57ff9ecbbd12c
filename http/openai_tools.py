"""OpenAI chat completions, inwards: `tools`, `tool_choice` and `response_format`."""

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct, field

from maxd.http.content import check_text
from maxd.http.decoding import decode
from maxd.http.schemas import EMPTY, BadSchema, answer_schema, function_schema
from maxd.workers.faults import BadRequest, TooLarge
from maxd.workers.turn import Function, ToolChoice

TOOLS_LIMIT: Final = 512
"""Functions in one request. OpenAI takes 128; clients that cut nothing have been seen with 200."""
TOOLS_BYTES: Final = 2 * 1024 * 1024
"""Their JSON: more than twice what fits any model's window."""

NO_SCHEMA: Final = '{"type":"object"}'
"""What `json_object` asks for."""

FunctionName: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.:-]{1,64}\Z")]
_FormatName: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]
_NULL = frozenset((b"", b"null"))


class FunctionDefinition(Struct):
    name: FunctionName
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
    if bytes(raw) in _NULL:
        return ()
    if len(bytes(raw)) > TOOLS_BYTES:
        raise TooLarge(f"tools hold more than {TOOLS_BYTES} bytes", param="tools")
    tools = decode(_tools, raw, "tools")
    if len(tools) > TOOLS_LIMIT:
        raise BadRequest(f"tools are more than {TOOLS_LIMIT}", param="tools")
    found: dict[str, Function] = {}
    for index, tool in enumerate(tools):
        function = _function(tool, f"tools[{index}]")
        if function.name in found:
            place = f"tools[{index}].function.name"
            raise BadRequest(f"{place} is the name of an earlier function too", param=place)
        found[function.name] = function
    return tuple(found.values())


def choice(raw: Raw, functions: tuple[Function, ...]) -> ToolChoice:
    """The field `tool_choice`. Raises BadRequest if it asks for what `functions` do not have."""
    if bytes(raw) in _NULL:
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
            raise _unsupported("custom tools are not supported; use functions", "tool_choice")
        case _:
            raise BadRequest("Unknown value in tool_choice", param="tool_choice")
    if not functions:
        raise BadRequest("tool_choice asks for a tool, and there are no tools", param="tool_choice")
    if not set(wanted.names) <= {function.name for function in functions}:
        raise BadRequest("tool_choice names a function that is not in tools", param="tool_choice")
    return wanted


def schema(raw: Raw) -> str | None:
    """The JSON text of the schema that the field `response_format` asks for. Raises BadRequest."""
    if bytes(raw) in _NULL:
        return None
    asked = decode(_format, raw, "response_format")
    match asked:
        case ObjectFormat():
            return NO_SCHEMA
        case SchemaFormat(named):
            try:
                return answer_schema(named.schema)
            except BadSchema as error:
                raise BadRequest(
                    f"the schema of response_format cannot be used: {error}",
                    param="response_format",
                    code="invalid_schema",
                ) from None
        case _:
            return None


def _function(tool: Tool, place: str) -> Function:
    if tool.type != "function":
        raise _unsupported(f"{place}: only tools of the type function are taken", f"{place}.type")
    definition = tool.function
    if definition is None:
        raise BadRequest(f"{place}.function is missing", param=f"{place}.function")
    description = check_text(definition.description or "", f"{place}.function.description")
    parameters = EMPTY
    if bytes(definition.parameters) not in _NULL:
        try:
            parameters = function_schema(definition.parameters)
        except BadSchema as error:
            where = f"{place}.function.parameters"
            raise BadRequest(f"{where} cannot be used: {error}", param=where) from None
    return Function(definition.name, description, parameters)


def _names(allowed: Allowed) -> tuple[str, ...]:
    if not allowed.tools:
        raise BadRequest("tool_choice allows no tools; use none", param="tool_choice")
    names = [tool.function.name for tool in allowed.tools if isinstance(tool, NamedTool)]
    if len(names) < len(allowed.tools):
        raise _unsupported("custom tools are not supported; use functions", "tool_choice")
    return tuple(dict.fromkeys(names))


def _unsupported(message: str, param: str) -> BadRequest:
    return BadRequest(message, param=param, code="unsupported_value")
