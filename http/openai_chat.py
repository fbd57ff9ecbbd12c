"""OpenAI chat completions, inwards: from the body of a request to a Turn."""

import re
from collections.abc import Iterator
from typing import TypeAlias

import msgspec
from msgspec import Raw, Struct

from maxd.http import openai_fields
from maxd.http.dialect import FindModel
from maxd.workers.faults import BadRequest, TooLarge
from maxd.workers.turn import Image, Message, Part, Text, Turn

# No model's window holds more: a million tokens are about 4 MB of text. Images do not count.
TEXT_LIMIT = 8 * 1024 * 1024
IMAGE_TYPES = frozenset(("image/png", "image/jpeg", "image/gif", "image/webp"))
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}", re.ASCII)
# Of a Raw: `[]` and `null` ask for nothing.
_NOTHING = frozenset((b"", b"null", b"[]"))


class TextPart(Struct, tag_field="type", tag="text"):
    text: str


class RefusalPart(Struct, tag_field="type", tag="refusal"):
    refusal: str


class ImageUrl(Struct):
    url: str


class ImagePart(Struct, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class FilePart(Struct, tag_field="type", tag="file"):
    pass


class AudioPart(Struct, tag_field="type", tag="input_audio"):
    pass


class SystemMessage(Struct, tag_field="role", tag="system"):
    content: str | list[TextPart]
    name: str | None = None


class DeveloperMessage(Struct, tag_field="role", tag="developer"):
    content: str | list[TextPart]
    name: str | None = None


class UserMessage(Struct, tag_field="role", tag="user"):
    content: str | list[TextPart | ImagePart | FilePart | AudioPart]
    name: str | None = None


class AssistantMessage(Struct, tag_field="role", tag="assistant"):
    content: str | list[TextPart | RefusalPart] | None = None
    refusal: str | None = None
    # Raw rather than lists: nothing is made of what is refused, however long it is.
    tool_calls: Raw = Raw()
    function_call: Raw = Raw()
    audio: Raw = Raw()


class ToolMessage(Struct, tag_field="role", tag="tool"):
    pass


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


class StreamOptions(Struct):
    include_usage: bool | None = None


class ChatBody(Struct):
    messages: list[ChatMessage]
    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class ChatRequest(Struct, frozen=True):
    """A decoded request: the turn, and how the client wants its reply."""

    turn: Turn
    model_id: str
    stream: bool
    include_usage: bool
    ignored: tuple[str, ...]


_body = msgspec.json.Decoder(ChatBody)


def decode(body: bytes, find_model: FindModel) -> ChatRequest:
    """The request in `body`. Raises BadRequest naming the field, ModelNotFound, TooLarge."""
    try:
        ignored = openai_fields.apply(body)
        chat = _body.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        # A text cut within a surrogate pair, which JavaScript writes as `\ud83d`, ends here too.
        raise BadRequest(
            "the body is not valid JSON in UTF-8 without lone surrogates", code="invalid_json"
        ) from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply", code="invalid_json") from None
    profile, model = find_model(chat.model)
    system, messages = _conversation(chat.messages)
    return ChatRequest(
        turn=Turn(profile=profile, model=model, system=system, messages=messages),
        model_id=chat.model,
        stream=bool(chat.stream),
        include_usage=bool(chat.stream_options and chat.stream_options.include_usage),
        ignored=ignored,
    )


def _invalid(error: msgspec.ValidationError) -> BadRequest:
    """msgspec names the place as a path, `$.messages[0].role`; OpenAI without the `$.`."""
    what = str(error)
    if what.endswith("`") and " - at `$" in what:
        # The last one: a quoted value may hold the same words.
        what, _, path = what.rpartition(" - at `$")
    else:
        path = ""
    param = path.rstrip("`").removeprefix(".")
    if what.startswith("Invalid value"):
        # An unknown role or type. msgspec quotes it, and it may be anything of the client's.
        what = "Unknown value"
    elif "required field" in what:
        missing = what.rpartition("required field `")[2].rstrip("`")
        param = f"{param}.{missing}" if param else missing
    return BadRequest(f"{what}{f' in {param}' if param else ''}", param=param or None)


def _conversation(
    messages: list[ChatMessage],
) -> tuple[tuple[str, ...], tuple[Message, ...]]:
    """The system texts at the head of the conversation, and the messages after them.

    A system message further on keeps its place as a message of the user's: hoisting it would
    change what came before it. The last message is what is answered, so a lone system message is
    a question too.
    """
    if not messages:
        raise BadRequest("messages is empty", param="messages")
    budget = TEXT_LIMIT
    system: list[str] = []
    turns: list[Message] = []
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        parts = tuple(_parts(message, place))
        budget -= sum(len(part.text) for part in parts if isinstance(part, Text))
        if budget < 0:
            raise TooLarge(f"messages hold more than {TEXT_LIMIT} characters", param="messages")
        last = index == len(messages) - 1
        if isinstance(message, SystemMessage | DeveloperMessage) and not turns and not last:
            system.extend(part.text for part in parts if isinstance(part, Text))
        elif last and not parts:
            raise BadRequest(f"{place}.content is empty", param=f"{place}.content")
        elif parts:
            turns.append(
                Message("assistant" if isinstance(message, AssistantMessage) else "user", parts)
            )
    if turns[-1].role == "assistant":
        raise BadRequest(
            "the last message must not be the assistant's: there is nothing to answer",
            param=f"messages[{len(messages) - 1}].role",
        )
    return tuple(system), tuple(turns)


def _parts(message: ChatMessage, place: str) -> Iterator[Part]:
    """The parts of one message. Blank texts say nothing, and the service refuses them."""
    if isinstance(message, ToolMessage):
        raise _unsupported("tool messages are not supported yet", f"{place}.role")
    if isinstance(message, FunctionMessage):
        raise _unsupported("function messages are not supported; use tools", f"{place}.role")
    name = None
    refusal = None
    if isinstance(message, AssistantMessage):
        _check_history(message, place)
        refusal = message.refusal
    else:
        name = message.name
        if name and "\0" in name:
            raise BadRequest("NUL characters are not allowed", param=f"{place}.name")
    content = message.content
    if isinstance(content, str):
        content = [TextPart(content)]
    for index, part in enumerate(content or ()):
        where = (
            f"{place}.content" if isinstance(message.content, str) else f"{place}.content[{index}]"
        )
        match part:
            case TextPart(text) | RefusalPart(text):
                if "\0" in text:
                    raise BadRequest("NUL characters are not allowed", param=where)
                if text.strip():
                    yield Text(f"{name}: {text}" if name else text)
                    name = None
            case ImagePart(image):
                yield _image(image.url, f"{where}.image_url.url")
            case FilePart():
                raise _unsupported("file parts are not supported yet", where)
            case AudioPart():
                raise _unsupported("audio is not supported", where)
    if refusal and refusal.strip():
        if "\0" in refusal:
            raise BadRequest("NUL characters are not allowed", param=f"{place}.refusal")
        yield Text(refusal)


def _check_history(message: AssistantMessage, place: str) -> None:
    """Raise BadRequest for what an earlier answer holds besides its text."""
    for name, raw in (
        ("tool_calls", message.tool_calls),
        ("function_call", message.function_call),
        ("audio", message.audio),
    ):
        if bytes(raw) not in _NOTHING:
            raise _unsupported(f"{name} in messages is not supported yet", f"{place}.{name}")


def _unsupported(message: str, param: str) -> BadRequest:
    return BadRequest(message, param=param, code="unsupported_value")


def _image(url: str, where: str) -> Image:
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise BadRequest("only data: URLs with base64 are taken; nothing is fetched", param=where)
    media_type = head.removeprefix("data:").removesuffix(";base64").lower()
    if media_type not in IMAGE_TYPES:
        raise BadRequest(f"must be one of {', '.join(sorted(IMAGE_TYPES))}", param=where)
    if len(data) % 4 or not _BASE64.fullmatch(data):
        raise BadRequest("the data is not base64 with its padding", param=where)
    return Image(media_type, data)
