"""OpenAI chat completions, inwards: from the messages of a request to those of a Turn."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from maxd.http import data_urls
from maxd.http.call_pairs import paired
from maxd.http.content import Allowance, check_text, unsupported
from maxd.http.openai_wire import (
    AssistantMessage,
    AudioPart,
    ChatMessage,
    DeveloperMessage,
    FileData,
    FilePart,
    FunctionMessage,
    ImagePart,
    InputPart,
    MessageToolCall,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
    VideoPart,
)
from maxd.workers.faults import BadRequest
from maxd.workers.turn import Document, Image, Message, Part, Text, ToolCall, ToolResult

NOT_AN_OBJECT: Final = "INVALID_JSON"
"""Under this key stand the arguments of an earlier call that are no JSON object: models do write
broken JSON, and the Messages API takes objects only. Its documentation has the key from there."""

# Of a Raw: `[]` and `null` ask for nothing.
_NOTHING = frozenset((b"", b"null", b"[]"))


def conversation(
    messages: Sequence[ChatMessage], *, partial: bool = False
) -> tuple[tuple[str, ...], tuple[Message, ...]]:
    """The system texts at the head of the conversation, and the messages after them.

    A system message further on keeps its place as a message of the user's: hoisting it would
    change what came before it. The last message is what is answered, so a lone system message is
    a question too. `partial`: they may be the new messages of a conversation alone. Raises
    BadRequest naming the place, TooLarge.
    """
    if not messages:
        raise BadRequest("messages is empty", param="messages")
    allowance = Allowance("messages")
    system: list[str] = []
    turns: list[Message] = []
    last = len(messages) - 1
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        parts = tuple(_parts(message, place))
        allowance.take(parts)
        if isinstance(message, SystemMessage | DeveloperMessage) and not turns and index != last:
            system.extend(part.text for part in parts if isinstance(part, Text))
        elif index == last and not parts:
            raise BadRequest(f"{place}.content is empty", param=f"{place}.content")
        elif parts:
            turns.append(
                Message("assistant" if isinstance(message, AssistantMessage) else "user", parts)
            )
    if turns[-1].role == "assistant":
        raise BadRequest(
            "the last message must not be the assistant's: there is nothing to answer",
            param=f"messages[{last}].role",
        )
    return tuple(system), paired(turns, partial=partial)


def _parts(message: ChatMessage, place: str) -> Iterator[Part]:
    """The parts of one message."""
    match message:
        case SystemMessage() | DeveloperMessage() | UserMessage():
            yield from _named(_contents(message.content, f"{place}.content"), message.name, place)
        case AssistantMessage():
            yield from _answer(message, place)
        case ToolMessage(call_id, content):
            check_text(call_id, f"{place}.tool_call_id")
            parts = tuple(_contents(content or "", f"{place}.content"))
            yield ToolResult(call_id, parts)
        case FunctionMessage():
            raise unsupported("function messages are not supported; use tools", f"{place}.role")


def _named(
    parts: Iterator[Text | Image | Document], name: str | None, place: str
) -> Iterator[Part]:
    """The parts, the first text of which says who speaks."""
    if name:
        check_text(name, f"{place}.name")
    for part in parts:
        if name and isinstance(part, Text):
            yield Text(f"{name}: {part.text}")
            name = None
        else:
            yield part


def _contents(
    content: str | Sequence[InputPart | RefusalPart], where: str
) -> Iterator[Text | Image | Document]:
    """The parts of a content. Blank texts say nothing, and the service refuses them."""
    if isinstance(content, str):
        yield from _text(content, where)
        return
    for index, part in enumerate(content):
        place = f"{where}[{index}]"
        match part:
            case TextPart(text) | RefusalPart(text):
                yield from _text(text, place)
            case ImagePart(image):
                yield data_urls.image(image.url, f"{place}.image_url.url")
            case FilePart(file):
                yield _file(file, f"{place}.file")
            case AudioPart():
                raise unsupported("audio is not supported", place)
            case VideoPart():
                raise unsupported("video is not supported", place)


def _text(text: str, where: str) -> Iterator[Text]:
    if check_text(text, where).strip():
        yield Text(text)


def _file(file: FileData, where: str) -> Document | Image:
    if file.file_id is not None:
        raise unsupported("there are no uploaded files here; send file_data", f"{where}.file_id")
    if file.file_data is None:
        raise BadRequest(f"{where}.file_data is missing", param=f"{where}.file_data")
    return data_urls.file(file.file_data, file.filename, f"{where}.file_data")


def _answer(message: AssistantMessage, place: str) -> Iterator[Part]:
    """An earlier answer: its text, then its calls."""
    for name, raw in (("function_call", message.function_call), ("audio", message.audio)):
        if bytes(raw) not in _NOTHING:
            raise unsupported(f"{name} in messages is not supported", f"{place}.{name}")
    yield from _contents(message.content or "", f"{place}.content")
    yield from _text(message.refusal or "", f"{place}.refusal")
    for index, call in enumerate(message.tool_calls or ()):
        yield _call(call, f"{place}.tool_calls[{index}]")


def _call(call: MessageToolCall, place: str) -> ToolCall:
    check_text(call.id or "", f"{place}.id")
    check_text(call.function.name, f"{place}.function.name")
    return ToolCall(call.id or "", call.function.name, _arguments(call.function.arguments or ""))


def _arguments(text: str) -> str:
    """The arguments of an earlier call as a JSON object on one line."""
    if not text.strip():
        return "{}"
    try:
        if isinstance(msgspec.json.decode(text), dict):
            return msgspec.json.format(text, indent=-1)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    return msgspec.json.encode({NOT_AN_OBJECT: text}).decode()
