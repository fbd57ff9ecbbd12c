"""Anthropic messages, outwards: from events to the events of a stream, or to one object."""

import secrets
from collections.abc import Iterable
from functools import partial

import msgspec
from msgspec import Raw, Struct

from maxd.http.anthropic_errors import envelope
from maxd.http.anthropic_messages import MessagesRequest
from maxd.http.dialect import Asked
from maxd.workers.faults import Fault
from maxd.workers.turn import (
    CallDelta,
    CallStarted,
    Event,
    Finished,
    RoundBroken,
    RoundEnded,
    RoundStarted,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    Usage,
)

_encoder = msgspec.json.Encoder()
PING = b'event: ping\ndata: {"type":"ping"}\n\n'


class OutputDetails(Struct):
    thinking_tokens: int


class MessageUsage(Struct):
    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: OutputDetails


class TextBlock(Struct, tag_field="type", tag="text"):
    text: str
    citations: None = None


class ThinkingBlock(Struct, tag_field="type", tag="thinking"):
    thinking: str
    signature: str


class ToolUseBlock(Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: Raw


class AnswerMessage(Struct, tag_field="type", tag="message"):
    id: str
    model: str
    content: list[TextBlock | ThinkingBlock | ToolUseBlock]
    usage: MessageUsage
    stop_reason: str | None = None
    stop_sequence: str | None = None
    role: str = "assistant"


class MessageStart(Struct, tag_field="type", tag="message_start"):
    message: AnswerMessage


class BlockStart(Struct, tag_field="type", tag="content_block_start"):
    index: int
    content_block: TextBlock | ThinkingBlock | ToolUseBlock


class TextPiece(Struct, tag_field="type", tag="text_delta"):
    text: str


class ThinkingPiece(Struct, tag_field="type", tag="thinking_delta"):
    thinking: str


class SignaturePiece(Struct, tag_field="type", tag="signature_delta"):
    signature: str


class JsonPiece(Struct, tag_field="type", tag="input_json_delta"):
    partial_json: str


class BlockDelta(Struct, tag_field="type", tag="content_block_delta"):
    index: int
    delta: TextPiece | ThinkingPiece | SignaturePiece | JsonPiece


class BlockStop(Struct, tag_field="type", tag="content_block_stop"):
    index: int


class Ending(Struct):
    stop_reason: str
    stop_sequence: str | None


class MessageDelta(Struct, tag_field="type", tag="message_delta"):
    delta: Ending
    usage: MessageUsage


class MessageStop(Struct, tag_field="type", tag="message_stop"):
    pass


def asked(request: MessagesRequest, request_id: str) -> Asked:
    """A decoded request with the encoders of its reply."""
    message_id = f"msg_{secrets.token_hex(12)}"
    return Asked(
        turn=request.turn,
        stream=request.stream,
        ignored=request.ignored,
        encoder=partial(StreamEncoder, request, message_id=message_id, request_id=request_id),
        collector=partial(Collector, request, message_id=message_id),
    )


class StreamEncoder:
    """Events of one turn as server-sent events.

    Thinking is only told to a client that has asked for it: one that has not looks for the text in
    the first block. `message_start` tells the usage of the first round as far as it is known by
    then; `message_delta` that of the whole turn.
    """

    def __init__(self, request: MessagesRequest, *, message_id: str, request_id: str) -> None:
        self._request = request
        self._message_id = message_id
        self._request_id = request_id
        self._begun = False
        self._index = -1
        # The type of the block that is open.
        self._open: type[TextBlock | ThinkingBlock | ToolUseBlock] | None = None

    def encode(self, events: Iterable[Event]) -> bytes:
        """The bytes to send for `events`, in one piece; may be empty."""
        return b"".join(self._event(event) for event in events)

    def heartbeat(self) -> bytes:
        """A ping; clients take it at any point, also before the message."""
        return PING

    def error(self, fault: Fault) -> bytes:
        """The end of a stream that failed; no `message_stop` follows."""
        return b"event: error\ndata: " + envelope(fault, self._request_id) + b"\n\n"

    def _event(self, event: Event) -> bytes:
        match event:
            case RoundStarted():
                return self._close() + self._begin(event.usage)
            case TextDelta(text):
                return self._within(TextBlock("")) + self._delta(TextPiece(text))
            case ThinkingDelta(text) if self._request.thinking:
                opened = self._within(ThinkingBlock("", ""))
                return opened + (
                    self._delta(ThinkingPiece(text)) if self._request.thinking_text else b""
                )
            case ThinkingEnded(signature) if self._request.thinking:
                opened = self._within(ThinkingBlock("", ""))
                return opened + self._delta(SignaturePiece(signature)) + self._close()
            case CallStarted(call_id, name):
                return self._close() + self._within(ToolUseBlock(call_id, name, Raw(b"{}")))
            case CallDelta(arguments):
                return self._delta(JsonPiece(arguments))
            case RoundEnded() | RoundBroken():
                return self._close()
            case Finished(stop_reason, usage, stop_sequence):
                ending = MessageDelta(Ending(stop_reason, stop_sequence), _usage(usage))
                end = _sent("message_delta", ending) + _sent("message_stop", MessageStop())
                return self._begin(Usage()) + self._close() + end
            case _:
                return b""

    def _begin(self, usage: Usage) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        message = AnswerMessage(self._message_id, self._request.model_id, [], _usage(usage))
        return _sent("message_start", MessageStart(message))

    def _within(self, block: TextBlock | ThinkingBlock | ToolUseBlock) -> bytes:
        """What makes a block of this type the open one."""
        if self._open is type(block):
            return b""
        out = self._begin(Usage()) + self._close()
        self._open = type(block)
        self._index += 1
        return out + _sent("content_block_start", BlockStart(self._index, block))

    def _delta(self, delta: TextPiece | ThinkingPiece | SignaturePiece | JsonPiece) -> bytes:
        return _sent("content_block_delta", BlockDelta(self._index, delta))

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return _sent("content_block_stop", BlockStop(self._index))


class Collector:
    """Events of one turn as one object."""

    def __init__(self, request: MessagesRequest, *, message_id: str) -> None:
        self._request = request
        self._id = message_id
        self._content: list[TextBlock | ThinkingBlock | ToolUseBlock] = []
        # What of the content came before the round in progress, and whether its last block is
        # still growing.
        self._kept = 0
        self._open = False

    def feed(self, events: Iterable[Event]) -> bytes | None:
        """The body of the reply once the turn is finished; None until then."""
        for event in events:
            match event:
                case RoundStarted():
                    self._kept, self._open = len(self._content), False
                case RoundBroken():
                    del self._content[self._kept :]
                    self._open = False
                case RoundEnded():
                    self._open = False
                case TextDelta(text):
                    if self._open and isinstance(block := self._content[-1], TextBlock):
                        block.text += text
                    else:
                        self._add(TextBlock(text))
                case ThinkingDelta(text) if self._request.thinking:
                    self._thinking().thinking += text if self._request.thinking_text else ""
                case ThinkingEnded(signature) if self._request.thinking:
                    self._thinking().signature = signature
                    self._open = False
                case CallStarted(call_id, name):
                    self._add(ToolUseBlock(call_id, name, Raw(b"")))
                case CallDelta(arguments):
                    if isinstance(call := self._content[-1], ToolUseBlock):
                        call.input = Raw(bytes(call.input) + arguments.encode())
                case Finished():
                    return self._message(event)
                case _:
                    pass
        return None

    def _add(self, block: TextBlock | ThinkingBlock | ToolUseBlock) -> None:
        self._content.append(block)
        self._open = True

    def _thinking(self) -> ThinkingBlock:
        if self._open and isinstance(block := self._content[-1], ThinkingBlock):
            return block
        fresh = ThinkingBlock("", "")
        self._add(fresh)
        return fresh

    def _message(self, end: Finished) -> bytes:
        for block in self._content:
            if isinstance(block, ToolUseBlock):
                block.input = _whole_object(block.input)
        return _encoder.encode(
            AnswerMessage(
                self._id,
                self._request.model_id,
                self._content,
                _usage(end.usage),
                end.stop_reason,
                end.stop_sequence,
            )
        )


class TokenCount(Struct):
    input_tokens: int


def encode_count(tokens: int) -> bytes:
    """The body of `POST /v1/messages/count_tokens`."""
    return _encoder.encode(TokenCount(tokens))


def _whole_object(raw: Raw) -> Raw:
    """The arguments of a call; none where they were cut off, as at `max_tokens`."""
    try:
        msgspec.json.decode(raw, type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Raw(b"{}")
    return raw


def _usage(usage: Usage) -> MessageUsage:
    return MessageUsage(
        usage.input_tokens,
        usage.cache_creation_tokens,
        usage.cache_read_tokens,
        usage.output_tokens,
        OutputDetails(usage.thinking_tokens),
    )


def _sent(name: str, event: Struct) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encoder.encode(event))
