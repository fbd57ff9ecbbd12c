"""The messages of a chat completion request as they stand in the body."""

from typing import TypeAlias

from msgspec import Raw, Struct, field


class TextPart(Struct, tag_field="type", tag="text"):
    text: str


class RefusalPart(Struct, tag_field="type", tag="refusal"):
    refusal: str


class ImageUrl(Struct):
    url: str


class ImagePart(Struct, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class FileData(Struct):
    file_data: str | None = None
    filename: str | None = None
    file_id: str | None = None


class FilePart(Struct, tag_field="type", tag="file"):
    file: FileData


class AudioPart(Struct, tag_field="type", tag="input_audio"):
    pass


class VideoPart(Struct, tag_field="type", tag="video_url"):
    pass


InputPart: TypeAlias = TextPart | ImagePart | FilePart | AudioPart | VideoPart


class SystemMessage(Struct, tag_field="role", tag="system"):
    content: str | list[TextPart]
    name: str | None = None


class DeveloperMessage(Struct, tag_field="role", tag="developer"):
    content: str | list[TextPart]
    name: str | None = None


class UserMessage(Struct, tag_field="role", tag="user"):
    content: str | list[InputPart]
    name: str | None = None


class CalledFunction(Struct):
    name: str
    arguments: str | None = None


class MessageToolCall(Struct):
    """A call in an earlier answer. OpenAI's ids begin with `call_`; other services have sent
    empty ones, and the same one twice."""

    function: CalledFunction
    id: str | None = None


class AssistantMessage(Struct, tag_field="role", tag="assistant"):
    content: str | list[TextPart | RefusalPart] | None = None
    refusal: str | None = None
    tool_calls: list[MessageToolCall] | None = None
    # Raw: nothing is made of what is refused, however long it is.
    function_call: Raw = field(default_factory=Raw)
    audio: Raw = field(default_factory=Raw)


class ToolMessage(Struct, tag_field="role", tag="tool"):
    tool_call_id: str
    # Some clients send null for a function that returns nothing.
    content: str | list[InputPart] | None = None


class FunctionMessage(Struct, tag_field="role", tag="function"):
    pass


ChatMessage: TypeAlias = (
    SystemMessage
    | DeveloperMessage
    | UserMessage
    | AssistantMessage
    | ToolMessage
    | FunctionMessage
)
