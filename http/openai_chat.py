"""OpenAI chat completions, inwards: from the body of a request to a Turn."""

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct, field

from maxd.http import decoding, openai_messages, openai_tools
from maxd.http.dialect import FindModel
from maxd.http.openai_fields import FIELDS
from maxd.http.openai_wire import ChatMessage
from maxd.http.wishes import Wishes
from maxd.workers.turn import Effort, Turn

VERBOSITY: Final = {
    "low": "Keep your answers short.",
    "high": "Answer at length and in detail.",
}
"""What is added to the system message. `medium` is what the model does anyway."""

_Tokens: TypeAlias = Annotated[int, Meta(ge=1)]
# OpenAI takes four; the Messages API has no limit of its own. The lengths bound what is held back.
_Stop: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]


class StreamOptions(Struct):
    include_usage: bool | None = None


class ChatBody(Struct):
    messages: list[ChatMessage]
    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Raw: their sizes are looked at before anything is made of them.
    tools: Raw = field(default_factory=Raw)
    tool_choice: Raw = field(default_factory=Raw)
    response_format: Raw = field(default_factory=Raw)
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    max_tokens: _Tokens | None = None
    max_completion_tokens: _Tokens | None = None
    stop: _Stop | Annotated[list[_Stop], Meta(max_length=16)] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ChatRequest(Struct, frozen=True):
    """A decoded request: the turn, and how the client wants its reply."""

    turn: Turn
    model_id: str
    stream: bool
    include_usage: bool
    ignored: tuple[str, ...]
    show_thinking: bool = False


_body = msgspec.json.Decoder(ChatBody)


def decode(body: bytes, find_model: FindModel, wishes: Wishes | None = None) -> ChatRequest:
    """The request in `body`. Raises BadRequest naming the field, ModelNotFound, TooLarge."""
    wishes = wishes or Wishes()
    ignored = FIELDS.apply(body, strict=wishes.strict)
    chat = decoding.decode(_body, body)
    profile, model = find_model(chat.model)
    system, messages = openai_messages.conversation(chat.messages, partial=wishes.partial)
    functions = openai_tools.functions(chat.tools)
    return ChatRequest(
        turn=Turn(
            profile=profile,
            model=model,
            messages=messages,
            system=(*system, *_verbosity(chat.verbosity)),
            functions=functions,
            tool_choice=openai_tools.choice(chat.tool_choice, functions),
            parallel_calls=chat.parallel_tool_calls is not False,
            schema=openai_tools.schema(chat.response_format),
            effort=_effort(chat),
            max_tokens=_max_tokens(chat),
            stop=_stop(chat),
        ),
        model_id=chat.model,
        stream=bool(chat.stream),
        include_usage=bool(chat.stream_options and chat.stream_options.include_usage),
        ignored=ignored,
        show_thinking=wishes.shows_thinking(profile),
    )


def _verbosity(wanted: str | None) -> tuple[str, ...]:
    return (VERBOSITY[wanted],) if wanted in VERBOSITY else ()


def _effort(chat: ChatBody) -> Effort | None:
    # The least that still thinks: `none` is a word of its own.
    return "low" if chat.reasoning_effort == "minimal" else chat.reasoning_effort


def _max_tokens(chat: ChatBody) -> int | None:
    """The lower of the two: some clients send both, and mean the same."""
    return min(filter(None, (chat.max_tokens, chat.max_completion_tokens)), default=None)


def _stop(chat: ChatBody) -> tuple[str, ...]:
    if isinstance(chat.stop, str):
        return (chat.stop,)
    return tuple(dict.fromkeys(chat.stop or ()))
