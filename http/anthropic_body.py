"""The body of a Messages request, as far as it is used."""

from typing import Literal

import msgspec
from msgspec import Raw, Struct

NOTHING = Raw(b"null")


class Source(Struct):
    """Where the data of an image or a document comes from."""

    type: str
    media_type: str = ""
    data: str = ""
    content: Raw = NOTHING


class Block(Struct):
    """A content block. One struct for all types, so that an unknown one can be named; `content` is
    decoded where the type has one. `cache_control` is not looked at."""

    type: str
    text: str | None = None
    source: Source | str | None = None
    title: str | None = None
    context: str | None = None
    citations: Raw = NOTHING
    id: str | None = None
    name: str | None = None
    input: Raw = NOTHING
    tool_use_id: str | None = None
    content: Raw = NOTHING
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None


class MessageBody(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class SystemBlock(Struct):
    text: str
    type: Literal["text"] = "text"


class Tool(Struct):
    """A tool of the client's own, or (`type`) one of Anthropic's."""

    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: Raw = NOTHING
    max_uses: Raw = NOTHING
    allowed_domains: Raw = NOTHING
    blocked_domains: Raw = NOTHING
    user_location: Raw = NOTHING


class Choice(Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingConfig(Struct):
    type: Literal["enabled", "adaptive", "between_tools", "disabled"]
    budget_tokens: int | None = None
    display: Literal["summarized", "omitted"] | None = None


class Format(Struct):
    type: Literal["json_schema"]
    schema: Raw


class OutputConfig(Struct):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Format | None = None


class MessagesBody(Struct):
    model: str
    messages: list[MessageBody]
    max_tokens: int | None = None
    system: str | list[SystemBlock] | None = None
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    tools: list[Tool] | None = None
    tool_choice: Choice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None


body_decoder = msgspec.json.Decoder(MessagesBody)
content_decoder = msgspec.json.Decoder(str | list[Block] | None)
