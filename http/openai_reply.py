"""OpenAI chat completions, outwards: from events to chunks, or to one object."""

import secrets
import time
from collections.abc import Iterable
from functools import partial

import msgspec
from msgspec import UNSET, Struct, UnsetType

from maxd.http.dialect import Asked
from maxd.http.openai_chat import ChatRequest
from maxd.http.openai_errors import envelope
from maxd.workers.faults import Fault
from maxd.workers.turn import (
    CallDelta,
    CallStarted,
    Event,
    Finished,
    TextDelta,
    ThinkingDelta,
    Usage,
)

FINISH = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
"""Stop reasons of the Messages API that are not `stop` in OpenAI's words."""

_encoder = msgspec.json.Encoder()


class PromptDetails(Struct):
    cached_tokens: int


class CompletionDetails(Struct):
    reasoning_tokens: int


class ChatUsage(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class ChunkFunction(Struct):
    arguments: str
    name: str | UnsetType = UNSET


class ChunkCall(Struct):
    index: int
    function: ChunkFunction
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET


class ChunkDelta(Struct):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    # Not OpenAI's own, but what every client knows that shows the thinking of other models.
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ChunkCall] | UnsetType = UNSET


class ChunkChoice(Struct):
    delta: ChunkDelta
    finish_reason: str | None = None
    index: int = 0
    logprobs: None = None


class Chunk(Struct):
    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: ChatUsage | UnsetType | None = UNSET
    object: str = "chat.completion.chunk"


class AnswerFunction(Struct):
    name: str
    arguments: str


class AnswerCall(Struct):
    id: str
    function: AnswerFunction
    type: str = "function"


class AnswerMessage(Struct):
    content: str | None
    role: str = "assistant"
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[AnswerCall] | UnsetType = UNSET


class Choice(Struct):
    message: AnswerMessage
    finish_reason: str
    index: int = 0
    logprobs: None = None


class Completion(Struct):
    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage
    object: str = "chat.completion"


def asked(chat: ChatRequest) -> Asked:
    """A decoded request with the encoders of its reply."""
    reply_id = f"chatcmpl-{secrets.token_hex(12)}"
    created = int(time.time())
    return Asked(
        turn=chat.turn,
        stream=chat.stream,
        ignored=chat.ignored,
        encoder=partial(
            StreamEncoder,
            reply_id=reply_id,
            created=created,
            model=chat.model_id,
            include_usage=chat.include_usage,
            show_thinking=chat.show_thinking,
        ),
        collector=partial(
            Collector,
            reply_id=reply_id,
            created=created,
            model=chat.model_id,
            show_thinking=chat.show_thinking,
        ),
    )


class StreamEncoder:
    """Events of one turn as server-sent events. `reply_id`, `created` and `model` never change."""

    def __init__(
        self,
        *,
        reply_id: str,
        created: int,
        model: str,
        include_usage: bool,
        show_thinking: bool = False,
    ) -> None:
        self._id = reply_id
        self._created = created
        self._model = model
        self._include_usage = include_usage
        self._show_thinking = show_thinking
        self._begun = False
        self._calls = 0

    def encode(self, events: Iterable[Event]) -> bytes:
        """The bytes to send for `events`, in one piece; may be empty."""
        out = b"".join(self._event(event) for event in events)
        return self._begin() + out if out else b""

    def heartbeat(self) -> bytes:
        """A chunk that says nothing: the only keep-alive that every client's timers count."""
        return self._begin() + self._chunk(ChunkDelta())

    def error(self, fault: Fault) -> bytes:
        """The end of a stream that failed; no `[DONE]` follows, or clients take it for success."""
        return _data(envelope(fault))

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return self._chunk(ChunkDelta(role="assistant", content=""))

    def _event(self, event: Event) -> bytes:
        match event:
            case TextDelta(text):
                return self._chunk(ChunkDelta(content=text))
            case ThinkingDelta(text) if self._show_thinking:
                return self._chunk(ChunkDelta(reasoning_content=text))
            case CallStarted(call_id, name):
                self._calls += 1
                return self._call(ChunkFunction("", name), call_id, "function")
            case CallDelta(arguments):
                return self._call(ChunkFunction(arguments))
            case Finished(stop_reason, usage):
                end = self._chunk(ChunkDelta(), _finish(stop_reason, self._calls > 0))
                if self._include_usage:
                    end += self._send([], _usage(usage))
                return end + b"data: [DONE]\n\n"
            case _:
                return b""

    def _call(
        self,
        function: ChunkFunction,
        call_id: str | UnsetType = UNSET,
        kind: str | UnsetType = UNSET,
    ) -> bytes:
        call = ChunkCall(self._calls - 1, function, call_id, kind)
        return self._chunk(ChunkDelta(tool_calls=[call]))

    def _chunk(self, delta: ChunkDelta, finish: str | None = None) -> bytes:
        # With include_usage every other chunk carries `usage: null`, as OpenAI's own do.
        return self._send([ChunkChoice(delta, finish)], None if self._include_usage else UNSET)

    def _send(self, choices: list[ChunkChoice], usage: ChatUsage | UnsetType | None) -> bytes:
        chunk = Chunk(self._id, self._created, self._model, choices, usage)
        return _data(_encoder.encode(chunk))


class Collector:
    """Events of one turn as one object."""

    def __init__(
        self, *, reply_id: str, created: int, model: str, show_thinking: bool = False
    ) -> None:
        self._id = reply_id
        self._created = created
        self._model = model
        self._show_thinking = show_thinking
        self._text: list[str] = []
        self._thinking: list[str] = []
        # Of each call what it is and the pieces of its arguments.
        self._calls: list[tuple[CallStarted, list[str]]] = []

    def feed(self, events: Iterable[Event]) -> bytes | None:
        """The body of the reply once the turn is finished; None until then."""
        for event in events:
            match event:
                case TextDelta(text):
                    self._text.append(text)
                case ThinkingDelta(text) if self._show_thinking:
                    self._thinking.append(text)
                case CallStarted():
                    self._calls.append((event, []))
                case CallDelta(arguments):
                    self._calls[-1][1].append(arguments)
                case Finished(stop_reason, usage):
                    choice = Choice(self._message(), _finish(stop_reason, bool(self._calls)))
                    return _encoder.encode(
                        Completion(self._id, self._created, self._model, [choice], _usage(usage))
                    )
                case _:
                    pass
        return None

    def _message(self) -> AnswerMessage:
        calls = [
            AnswerCall(call.id, AnswerFunction(call.name, "".join(arguments)))
            for call, arguments in self._calls
        ]
        text = "".join(self._text)
        return AnswerMessage(
            # Null beside calls without a text, as OpenAI has it; a lone answer is a text.
            content=text if text or not calls else None,
            reasoning_content="".join(self._thinking) or UNSET,
            tool_calls=calls or UNSET,
        )


def _finish(stop_reason: str, called: bool) -> str:
    """The finish reason; with calls always that, or clients drop them."""
    return "tool_calls" if called else FINISH.get(stop_reason, "stop")


def _usage(usage: Usage) -> ChatUsage:
    prompt = usage.input_tokens + usage.cache_creation_tokens + usage.cache_read_tokens
    return ChatUsage(
        prompt_tokens=prompt,
        completion_tokens=usage.output_tokens,
        total_tokens=prompt + usage.output_tokens,
        prompt_tokens_details=PromptDetails(usage.cache_read_tokens),
        completion_tokens_details=CompletionDetails(usage.thinking_tokens),
    )


def _data(body: bytes) -> bytes:
    return b"data: " + body + b"\n\n"
