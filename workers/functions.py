"""The client's functions as the CLI's tools: an MCP server spoken over the worker's own pipe.

The model's calls are known from its messages, where they are complete before the CLI asks for
them; so a call is told to the client from there, and what the CLI asks is matched by the id of the
model's call. A question stays unanswered until the client has brought the result.
"""

import re
import secrets
import string
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from maxd.workers import messages as wire
from maxd.workers.schemas import function_schema
from maxd.workers.turn import Function, Image, Message, Text, ToolCall, ToolChoice, ToolResult

SERVER = "client"
PREFIX = f"mcp__{SERVER}__"
# Where 2.1.197 cuts a description, without a word; 2.1.330 does so at 4,096.
DESCRIPTION_LIMIT = 2048
# More than this the CLI puts into a file and tells the model its path, whatever is declared.
RESULT_LIMIT = 500_000
# What clients keep of an id: OpenClaw strips all but letters and digits and cuts at 40.
_ID_LETTERS = string.ascii_letters + string.digits
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
# The API takes 128 characters, with the prefix.
_NAME_LENGTH = 128 - len(PREFIX)

_encoder = msgspec.json.Encoder()


class Question(Struct, frozen=True):
    """A `tools/call` that waits for its answer: the ids of the control request and of the RPC."""

    request_id: str
    rpc_id: Raw


def new_call_id() -> str:
    """The id of a call, as clients are told it."""
    return "call" + "".join(secrets.choice(_ID_LETTERS) for _ in range(24))


def answerable(messages: Sequence[Message], pending: Iterable[str], *, lenient: bool) -> bool:
    """Whether a worker whose model waits for the results of the calls `pending` can be handed
    `messages`: exactly these, in sizes and kinds that reach the model whole. A text of the user's
    may follow only where that is taken leniently: the model is told that it was sent meanwhile.
    """
    first, *rest = messages
    results = [part for part in first.parts if isinstance(part, ToolResult)]
    if len(results) != len(first.parts) or sorted(r.call_id for r in results) != sorted(pending):
        return False
    if rest and not lenient:
        return False
    said = all(isinstance(part, Text) for message in rest for part in message.parts)
    return said and all(map(_fits, results))


def _fits(result: ToolResult) -> bool:
    size = sum(len(part.text) for part in result.parts if isinstance(part, Text))
    kinds = all(isinstance(part, Text | Image) for part in result.parts)
    return kinds and size < RESULT_LIMIT


def called_in(messages: Iterable[Message]) -> dict[str, None]:
    """The names of the functions that were called in a history, each once, in order."""
    return {
        part.name: None
        for message in messages
        for part in message.parts
        if isinstance(part, ToolCall)
    }


class Names:
    """The names of functions as the CLI has them, and back. MCP clients and the API take letters,
    digits, `_` and `-`; two names that differ in other characters only stay two."""

    def __init__(self, names: Iterable[str]) -> None:
        self._wire: dict[str, str] = {}
        self._client: dict[str, str] = {}
        for name in names:
            safe = _UNSAFE.sub("_", name)[:_NAME_LENGTH] or "_"
            number = 1
            while safe in self._client:
                number += 1
                safe = f"{safe[: _NAME_LENGTH - 4]}_{number}"
            self._wire[name], self._client[safe] = safe, name

    def to_model(self, name: str) -> str:
        """The tool's name in the model's messages."""
        return PREFIX + self._wire[name]

    def to_cli(self, name: str) -> str:
        """The tool's name on the MCP server."""
        return self._wire[name]

    def to_client(self, tool: str) -> str | None:
        """The client's name of a tool that the model calls; None if it is none of the client's."""
        return self._client.get(tool.removeprefix(PREFIX)) if tool.startswith(PREFIX) else None


class FunctionServer:
    """Serves one worker's functions and remembers the calls of the round in progress.

    `gone` are functions that the history calls and the client does not offer: the API refuses a
    history with calls of undeclared tools, so they are declared, and every call is turned down.
    """

    def __init__(self, functions: Sequence[Function], gone: Iterable[str] = ()) -> None:
        self._functions = functions
        self._gone = [name for name in gone if name not in {f.name for f in functions}]
        self.names = Names([*(f.name for f in functions), *self._gone])
        self._choice = ToolChoice()
        self._parallel = True
        # By the model's ids: what the client is told of, under its own; what was turned down, why.
        self._told: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._questions: dict[str, Question] = {}
        # By the client's ids.
        self._results: dict[str, ToolResult] = {}

    @property
    def pending(self) -> tuple[str, ...]:
        """The ids of the calls that wait for results."""
        return tuple(self._told.values())

    @property
    def is_waiting(self) -> bool:
        """Whether the CLI has asked for a call that the client has been told of."""
        return any(model_id in self._told for model_id in self._questions)

    def begin_turn(self, choice: ToolChoice, *, parallel: bool) -> None:
        """What may be called from now on."""
        self._choice, self._parallel = choice, parallel

    def begin_round(self) -> None:
        """A new message of the model begins: the calls of the one before are settled."""
        self._told.clear()
        self._refused.clear()
        self._questions.clear()
        self._results.clear()

    def call(self, model_id: str, tool: str) -> tuple[str, str] | None:
        """The model calls `tool`. The id and name to tell the client; None for a call that is none
        of the client's functions or is turned down without it."""
        name = self.names.to_client(tool)
        if name is None:
            return None
        if (why := self._objection(name)) is not None:
            self._refused[model_id] = why
            return None
        self._told[model_id] = new_call_id()
        return self._told[model_id], name

    def _objection(self, name: str) -> str | None:
        if name in self._gone:
            return "This function is not available any more."
        if self._choice.mode == "none":
            return "No function may be called now. Answer in words."
        if self._choice.names and name not in self._choice.names:
            return f"Only these may be called now: {', '.join(self._choice.names)}."
        if self._told and not self._parallel:
            return "Only one function may be called at a time. Call this one afterwards, if needed."
        return None

    def handle(self, request_id: str, message: Raw) -> bytes:
        """The answer to an MCP message of the CLI; empty while a call waits for its result."""
        try:
            rpc = msgspec.json.decode(message, type=_Rpc)
        except msgspec.DecodeError:
            return _reply(request_id, Raw(b"null"), error=_Error(-32600, "not understood"))
        match rpc.method:
            case "initialize":
                version = rpc.params.protocolVersion or "2025-06-18"
                return _reply(request_id, rpc.id, _Initialized(protocolVersion=version))
            case "tools/list":
                return _reply(request_id, rpc.id, _ToolList([*self._tools()]))
            case "tools/call":
                model_id = rpc.params.meta.tool_use_id
                self._questions[model_id] = Question(request_id, rpc.id)
                return self._answer(model_id)
            case _ if rpc.method.startswith("notifications/") or rpc.method == "ping":
                return _reply(request_id, rpc.id, {})
            case _:
                return _reply(request_id, rpc.id, error=_Error(-32601, "not supported"))

    def give(self, results: Iterable[ToolResult]) -> bytes:
        """The results of the pending calls are here; return the answers to what was asked."""
        for result in results:
            self._results[result.call_id] = result
        return b"".join(self._answer(model_id) for model_id in list(self._questions))

    def _answer(self, model_id: str) -> bytes:
        """The answer to a question, if there is one by now."""
        if (call_id := self._told.get(model_id)) is not None:
            result = self._results.get(call_id)
            if result is None:
                return b""
            outcome = _Outcome([*map(_content, result.parts)], isError=result.is_error)
        else:
            # A call that was never in the conversation's own messages is a subagent's.
            why = self._refused.get(model_id, "Only the main conversation may call this function.")
            outcome = _Outcome([{"type": "text", "text": why}], isError=True)
        question = self._questions.pop(model_id)
        return _reply(question.request_id, question.rpc_id, outcome)

    def _tools(self) -> Iterable["_Tool"]:
        for function in self._functions:
            name = self.names.to_cli(function.name)
            parameters = Raw(function_schema(function.parameters).encode())
            yield _tool(name, function.description, parameters)
        for gone in self._gone:
            schema = Raw(b'{"type":"object","properties":{}}')
            yield _tool(self.names.to_cli(gone), "Not available any more.", schema)


def _tool(name: str, description: str, schema: Raw) -> "_Tool":
    if len(description) > DESCRIPTION_LIMIT:
        # A schema is passed whole, its own description too.
        head, rest = description[: DESCRIPTION_LIMIT - 100], description[DESCRIPTION_LIMIT - 100 :]
        fields = msgspec.json.decode(schema, type=dict[str, Raw])
        own = msgspec.json.decode(fields.get("description", Raw(b'""')))
        fields["description"] = Raw(_encoder.encode(f"(continued) {rest}\n\n{own}".rstrip()))
        description = f"{head} (continued in the description of the parameters)"
        schema = Raw(_encoder.encode(fields))
    return _Tool(name, description, schema)


def _content(part: Any) -> dict[str, str]:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(media_type, data):
            return {"type": "image", "data": data, "mimeType": media_type}
        case _:
            raise RuntimeError(f"a result with a {type(part).__name__} is not answerable")


def _reply(
    request_id: str, rpc_id: Raw, result: Any = msgspec.UNSET, error: Any = msgspec.UNSET
) -> bytes:
    rpc = _RpcReply(rpc_id if bytes(rpc_id) else Raw(b"0"), result, error)
    return wire.encode(wire.ReplyLine(wire.McpReplied(request_id, wire.McpResponse(rpc))))


class _Meta(Struct, rename={"tool_use_id": "claudecode/toolUseId"}):
    tool_use_id: str = ""


class _Params(Struct, rename={"meta": "_meta"}):
    # The names of MCP, which is camelCase.
    protocolVersion: str = ""
    meta: _Meta = msgspec.field(default_factory=_Meta)


class _Rpc(Struct):
    method: str
    id: Raw = Raw(b"")
    params: _Params = msgspec.field(default_factory=_Params)


class _Error(Struct):
    code: int
    message: str


class _RpcReply(Struct):
    id: Raw
    result: Any = msgspec.UNSET
    error: Any = msgspec.UNSET
    jsonrpc: str = "2.0"


class _Initialized(Struct):
    protocolVersion: str
    capabilities: dict[str, dict[str, str]] = msgspec.field(default_factory=lambda: {"tools": {}})
    serverInfo: dict[str, str] = msgspec.field(
        default_factory=lambda: {"name": SERVER, "version": "1"}
    )


class _Tool(Struct, rename={"meta": "_meta"}):
    """Read-only to the CLI, which calls such tools side by side; the others one by one. Without
    the limit it declares, a result over 50,000 characters would not reach the model."""

    name: str
    description: str
    inputSchema: Raw
    annotations: dict[str, bool] = msgspec.field(default_factory=lambda: {"readOnlyHint": True})
    meta: dict[str, int] = msgspec.field(
        default_factory=lambda: {"anthropic/maxResultSizeChars": RESULT_LIMIT}
    )


class _ToolList(Struct):
    tools: list[_Tool]


class _Outcome(Struct):
    content: list[dict[str, str]]
    isError: bool = False
