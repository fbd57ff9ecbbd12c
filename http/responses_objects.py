"""OpenAI Responses: the response object and the events of its stream, as they go out."""

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from maxd.http.responses_items import (
    FunctionCallItem,
    MessageItem,
    OutputText,
    ReasoningItem,
    SummaryText,
    WebSearchItem,
)
from maxd.workers.turn import Usage

OutputItem = MessageItem | FunctionCallItem | ReasoningItem | WebSearchItem


class InputDetails(Struct):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(Struct):
    reasoning_tokens: int


class ResponseUsage(Struct):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseFailure(Struct):
    code: str
    message: str


class Incomplete(Struct):
    reason: str


class ReasoningEcho(Struct):
    effort: str | None
    summary: str | None


class TextEcho(Struct):
    format: Raw
    verbosity: str = "medium"


class ResponseObject(Struct, kw_only=True):
    """A response. What the client asked for is given back as it was sent."""

    id: str
    object: str = "response"
    created_at: int
    status: str = "in_progress"
    completed_at: int | None = None
    background: bool = False
    error: ResponseFailure | None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: None = None
    metadata: dict[str, str]
    model: str
    output: list[OutputItem] = field(default_factory=list)
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: ReasoningEcho
    service_tier: str = "default"
    store: bool
    temperature: None = None
    text: TextEcho
    tool_choice: Raw
    tools: list[Raw]
    top_logprobs: int = 0
    top_p: None = None
    truncation: str = "disabled"
    usage: ResponseUsage | None = None
    user: None = None


class Lifecycle(Struct):
    """`response.created`, `.in_progress`, `.completed`, `.incomplete`, `.failed`."""

    type: str
    response: ResponseObject
    sequence_number: int = 0


class ItemEvent(Struct):
    """`response.output_item.added` and `.done`."""

    type: str
    output_index: int
    item: OutputItem
    sequence_number: int = 0


class PartEvent(Struct):
    """`response.content_part.added` and `.done`, `response.reasoning_summary_part.added` and
    `.done`."""

    type: str
    item_id: str
    output_index: int
    part: OutputText | SummaryText
    content_index: int | UnsetType = UNSET
    summary_index: int | UnsetType = UNSET
    sequence_number: int = 0


class PieceEvent(Struct):
    """All events that tell a piece of an item or the whole of it."""

    type: str
    item_id: str
    output_index: int
    content_index: int | UnsetType = UNSET
    summary_index: int | UnsetType = UNSET
    delta: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    logprobs: list[Any] | UnsetType = UNSET
    sequence_number: int = 0


StreamEvent = Lifecycle | ItemEvent | PartEvent | PieceEvent

_encoder = msgspec.json.Encoder()


def encode_event(event: StreamEvent) -> bytes:
    """The event as it stands in a stream."""
    return b"event: %b\ndata: %b\n\n" % (event.type.encode(), _encoder.encode(event))


def encode_response(response: ResponseObject) -> bytes:
    return _encoder.encode(response)


def usage_of(usage: Usage) -> ResponseUsage:
    tokens = usage.input_tokens + usage.cache_creation_tokens + usage.cache_read_tokens
    return ResponseUsage(
        input_tokens=tokens,
        input_tokens_details=InputDetails(
            cached_tokens=usage.cache_read_tokens, cache_write_tokens=usage.cache_creation_tokens
        ),
        output_tokens=usage.output_tokens,
        output_tokens_details=OutputDetails(usage.thinking_tokens),
        total_tokens=tokens + usage.output_tokens,
    )
