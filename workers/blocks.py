"""Content blocks of the Messages API, as they are given to the CLI."""

from typing import TypeAlias

from msgspec import UNSET, Raw, Struct, UnsetType


class TextBlock(Struct, tag_field="type", tag="text"):
    text: str


class Base64Source(Struct, tag_field="type", tag="base64"):
    media_type: str
    data: str


class TextSource(Struct, tag_field="type", tag="text"):
    media_type: str
    data: str


class ImageBlock(Struct, tag_field="type", tag="image"):
    source: Base64Source


class DocumentBlock(Struct, tag_field="type", tag="document"):
    source: Base64Source | TextSource
    title: str | UnsetType = UNSET


class ThinkingBlock(Struct, tag_field="type", tag="thinking"):
    thinking: str
    signature: str


class ToolUseBlock(Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: Raw


class ToolResultBlock(Struct, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: list[TextBlock | ImageBlock | DocumentBlock]
    is_error: bool = False


OutgoingBlock: TypeAlias = (
    TextBlock | ImageBlock | DocumentBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock
)
