"""The CLI's own messages: one JSON object per line, both ways.

New types and fields arrive with every release of the CLI, so unknown fields are ignored, an
unknown type is told apart from garbage, and only what this package relies on is required.
"""

import re
from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from maxd.workers.blocks import OutgoingBlock


class ControlReply(Struct):
    """The body of an answer to one of our control requests."""

    subtype: str
    request_id: str
    response: Raw = Raw(b"null")


class ControlResponse(Struct, tag="control_response"):
    response: ControlReply


class ControlBody(Struct):
    """What the CLI asks of us; the fields of `can_use_tool` are there when it asks that, and a
    JSON-RPC `message` when it speaks to the MCP server behind the pipe."""

    subtype: str
    tool_name: str = ""
    input: Raw = Raw(b"{}")
    message: Raw = Raw(b"null")


class ControlRequest(Struct, tag="control_request"):
    request_id: str
    request: ControlBody


class Block(Struct):
    """A content block, of which only what the events need is decoded."""

    type: str
    text: str = ""
    name: str = ""
    id: str = ""
    input: Raw = Raw(b"{}")


class ModelMessage(Struct):
    id: str = ""
    model: str = ""
    content: list[Block] | str = ""
    stop_reason: str | None = None
    usage: Raw = Raw(b"null")


class Delta(Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class ApiEvent(Struct):
    """An event of the Messages API's stream, as the CLI passes it on."""

    type: str
    message: ModelMessage | None = None
    content_block: Block | None = None
    delta: Delta | None = None
    usage: Raw = Raw(b"null")


class StreamEvent(Struct, tag="stream_event"):
    event: ApiEvent
    # Set for the messages of a subagent, whose text is not part of the answer.
    parent_tool_use_id: str | None = None


class Assistant(Struct, tag="assistant"):
    message: ModelMessage
    # The same as that of this block's line in the transcript (2.1.197 and 2.1.330).
    uuid: str | None = None
    parent_tool_use_id: str | None = None


class System(Struct, tag="system"):
    subtype: str
    attempt: int = 0
    retry_delay_ms: float = 0
    error_status: int | None = None


class RateLimitInfo(Struct, rename="camel"):
    status: str
    resets_at: float | None = None
    rate_limit_type: str | None = None
    utilization: float | None = None
    is_using_overage: bool = False
    # Since 2.1.330 at the latest; 2.1.197 does not have it.
    unified_windows: Raw = Raw(b"{}")


class RateLimitEvent(Struct, tag="rate_limit_event"):
    rate_limit_info: RateLimitInfo


class OutputTokensDetails(Struct):
    thinking_tokens: int = 0


class ResultUsage(Struct):
    # None too: the Messages API declares the cache's counts so, and the CLI adds them up.
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: OutputTokensDetails | None = None


class ModelUsage(Struct, rename={"cost": "costUSD", "context_window": "contextWindow"}):
    """What was used of one model, and how large its context window is."""

    cost: float = 0.0
    context_window: int = 0


class Result(
    Struct,
    tag="result",
    rename={"model_usage": "modelUsage"},
):
    """The end of a turn, and of each message imported without a question.

    `total_cost_usd` and `model_usage` count from the start of the process, and 2.1.330 adds what
    an orderly end of an earlier process has left in the session's transcript. The figures that
    only inform are raw: one of a new shape must not cost a turn.
    """

    is_error: bool
    subtype: str = ""
    num_turns: int = 0
    result: str | None = None
    session_id: str = ""
    stop_reason: str | None = None
    terminal_reason: str | None = None
    api_error_status: int | None = None
    usage: ResultUsage | None = None
    structured_output: Raw = Raw(b"")
    total_cost_usd: Raw = Raw(b"0")
    model_usage: Raw = Raw(b"{}")
    # Since 2.1.330 at the latest; 2.1.197 does not have it.
    model_usage_since_last_result: Raw = Raw(b"null")


class Unknown(Struct):
    """A message of a type this package does not use. `type` is all that is known of it."""

    type: str


Incoming: TypeAlias = (
    ControlResponse | ControlRequest | StreamEvent | Assistant | System | RateLimitEvent | Result
)
NEEDED = frozenset(("control_response", "control_request", "stream_event", "assistant", "result"))
"""The types without which a turn cannot be told. The others only inform, and `system` has dozens
of subtypes with fields of their own: one of a new shape must not cost a turn."""

_incoming: msgspec.json.Decoder[Incoming] = msgspec.json.Decoder(Incoming)
_unknown = msgspec.json.Decoder(Unknown)

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a surrogate pair
    rb"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


class Garbage(Exception):
    """A line that is not a message at all."""


class BrokenMessage(Exception):
    """A message of a needed type whose required fields are missing or of the wrong type."""


def decode(line: bytes) -> Incoming | Unknown:
    """One line of the CLI's output as a message.

    Raises Garbage for anything that is not a JSON object with a `type`, BrokenMessage for a needed
    type in an unknown shape. Neither carries the line: it may hold a conversation.
    """
    try:
        return _decode(line)
    except Garbage:
        # JavaScript writes a string that was cut within a surrogate pair as `\ud83d`, which
        # msgspec refuses. A `result` lost for that would leave its turn without an end.
        mended = _ESCAPE.sub(_mend, line)
        if mended == line:
            raise
        return _decode(mended)


def _mend(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if escape["lone"] else escape[0]


def _decode(line: bytes) -> Incoming | Unknown:
    try:
        return _incoming.decode(line)
    except msgspec.ValidationError:
        pass
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Garbage from None
    try:
        unknown = _unknown.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Garbage from None
    if unknown.type in NEEDED:
        raise BrokenMessage(unknown.type)
    return unknown


class UserContent(Struct):
    content: list[OutgoingBlock]
    role: Literal["user"] = "user"


class UserLine(Struct, tag_field="type", tag="user", rename={"should_query": "shouldQuery"}):
    """A user message. With `should_query` False it is only remembered, not answered."""

    message: UserContent
    parent_tool_use_id: None = None
    should_query: Literal[False] | UnsetType = UNSET


class NoUsage(Struct):
    input_tokens: int = 0
    output_tokens: int = 0


class AssistantContent(Struct):
    id: str
    model: str
    content: list[OutgoingBlock]
    role: Literal["assistant"] = "assistant"
    type: Literal["message"] = "message"
    stop_reason: Literal["end_turn", "tool_use"] = "end_turn"
    stop_sequence: None = None
    usage: NoUsage = msgspec.field(default_factory=NoUsage)


class AssistantLine(Struct, tag_field="type", tag="assistant"):
    """An earlier answer, given to a worker that never said it."""

    message: AssistantContent
    uuid: str
    session_id: Literal[""] = ""
    parent_tool_use_id: None = None


class GetVersion(Struct, tag_field="subtype", tag="get_binary_version"):
    pass


class ListModels(Struct, tag_field="subtype", tag="list_models"):
    pass


class FlagSettings(Struct, rename="camel"):
    effort_level: str


class ApplyFlagSettings(Struct, tag_field="subtype", tag="apply_flag_settings"):
    settings: FlagSettings


class SetMaxThinkingTokens(Struct, tag_field="subtype", tag="set_max_thinking_tokens"):
    """None lets the model think as the effort says."""

    max_thinking_tokens: int | None


class Interrupt(Struct, tag_field="subtype", tag="interrupt"):
    pass


class Initialize(
    Struct,
    tag_field="subtype",
    tag="initialize",
    rename={
        "system_prompt": "systemPrompt",
        "append_system_prompt": "appendSystemPrompt",
        "system_prompt_snapshot": "systemPromptSnapshot",
        "sdk_mcp_servers": "sdkMcpServers",
        "json_schema": "jsonSchema",
    },
):
    """Binds a worker; it counts once. An empty `system_prompt` list is no prompt at all, unset is
    the CLI's own (both seen upstream, 2.1.330).

    With `system_prompt_snapshot` False a resumed session gets this prompt; without it 2.1.330
    sends the one that its transcript holds, whatever it is given (2.1.197 has no such snapshot).
    """

    system_prompt: list[str] | UnsetType = UNSET
    append_system_prompt: str | UnsetType = UNSET
    system_prompt_snapshot: Literal[False] | UnsetType = UNSET
    sdk_mcp_servers: list[str] | UnsetType = UNSET
    json_schema: Raw | UnsetType = UNSET


class AskLine(Struct, tag_field="type", tag="control_request"):
    request_id: str
    request: (
        GetVersion | ListModels | Initialize | Interrupt | ApplyFlagSettings | SetMaxThinkingTokens
    )


class Allow(Struct, tag_field="behavior", tag="allow", rename={"updated_input": "updatedInput"}):
    updated_input: Raw


class Deny(Struct, tag_field="behavior", tag="deny"):
    message: str


class Granted(Struct, tag_field="subtype", tag="success"):
    request_id: str
    response: Allow | Deny


class McpResponse(Struct):
    """A JSON-RPC reply to the message that the CLI sent."""

    mcp_response: Struct


class McpReplied(Struct, tag_field="subtype", tag="success"):
    request_id: str
    response: McpResponse


class Unsupported(Struct, tag_field="subtype", tag="error"):
    request_id: str
    error: str


class ReplyLine(Struct, tag_field="type", tag="control_response"):
    response: Granted | McpReplied | Unsupported


Outgoing: TypeAlias = UserLine | AssistantLine | AskLine | ReplyLine

_encoder = msgspec.json.Encoder()


def encode(*messages: Outgoing) -> bytes:
    """The messages as lines, ready for one write. JSON escapes every control character, so no
    text can end a line early; what a client's own JSON has between its tokens could."""
    return b"".join(map(_line, messages))


def _line(message: Outgoing) -> bytes:
    line = _encoder.encode(message)
    if b"\n" in line or b"\r" in line:
        line = msgspec.json.format(line, indent=-1)
    return line + b"\n"


def version_in(response: Raw) -> str:
    """The version in the answer to GetVersion; empty where that has another form."""
    try:
        return msgspec.json.decode(response, type=_Version).version
    except msgspec.DecodeError:
        return ""


class _Version(Struct):
    version: str = ""
