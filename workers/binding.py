"""Binding a worker to a turn: the system prompt, and the history as real messages.

A history is imported message by message: the CLI must have answered one remembered user message
with a `result` before it is given the next, or it merges them all at the end (measured with
2.1.197 and 2.1.330).
"""

import hashlib
import re
import uuid
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import UNSET, Raw

from maxd.workers import blocks
from maxd.workers import messages as wire
from maxd.workers.functions import SERVER, Names
from maxd.workers.profiles import Profile
from maxd.workers.schemas import answer_schema
from maxd.workers.turn import (
    Document,
    Image,
    Message,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
)

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_SAFE = re.compile(r"[A-Za-z0-9_-]+")


def binding(profile: Profile, turn: Turn, *, functions: bool) -> wire.Initialize:
    """What binds a worker of `profile`: the client's system texts, in the profile's way, the
    schema of the answer, and whether there are `functions` to be served."""
    bound = wire.Initialize(
        json_schema=UNSET if turn.schema is None else Raw(answer_schema(turn.schema).encode()),
        sdk_mcp_servers=[SERVER] if functions else UNSET,
    )
    system = system_texts(turn)
    if profile.system == "replace":
        bound.system_prompt = list(system)
    elif system:
        bound.append_system_prompt = "\n\n".join(system)
    return bound


def system_texts(turn: Turn) -> tuple[str, ...]:
    """The client's system texts, and what its choice of a function has to say to the model: the
    CLI cannot force a call, so it is asked for in words and checked when the answer is there."""
    if turn.tool_choice.mode != "required":
        return turn.system
    names = turn.tool_choice.names
    which = f"the function {' or '.join(names)}" if names else "at least one of your functions"
    return (*turn.system, f"You must call {which} in your answer. Do not answer in words alone.")


def import_groups(messages: Sequence[Message], model: str, names: Names) -> Iterator[bytes]:
    """The messages as writes. Each ends in a user message that must have its `result` before
    the next is written; the last ends in the message to answer."""
    group = b""
    for message in messages[:-1]:
        if message.role == "assistant":
            group += wire.encode(_assistant_line(message, model, names))
        else:
            group += wire.encode(
                wire.UserLine(wire.UserContent(_blocks(message, names)), should_query=False)
            )
            yield group
            group = b""
    yield group + wire.encode(wire.UserLine(wire.UserContent(_blocks(messages[-1], names))))


def said_meanwhile(message: Message) -> bytes:
    """A text of the user's, written while calls wait for their results: the CLI tells it to the
    model behind them, as said meanwhile (a `system` message, 2.1.197 and 2.1.330)."""
    texts = [blocks.TextBlock(part.text) for part in message.parts if isinstance(part, Text)]
    return wire.encode(wire.UserLine(wire.UserContent([*texts, blocks.TextBlock("")])))


def asked_again() -> bytes:
    """What the model is told when it has not called a function although it had to."""
    text = "You have not called a function. Call one now, as you were told to."
    return wire.encode(wire.UserLine(wire.UserContent([blocks.TextBlock(text)])))


def _assistant_line(message: Message, model: str, names: Names) -> wire.AssistantLine:
    # An id of its own: the CLI takes messages with one id for blocks of one.
    name = uuid.uuid4()
    content = [_block(part, names) for part in message.parts]
    calls = any(isinstance(part, ToolCall) for part in message.parts)
    said = wire.AssistantContent(f"msg_{name.hex}", model, content)
    said.stop_reason = "tool_use" if calls else "end_turn"
    return wire.AssistantLine(said, uuid=str(name))


def _blocks(message: Message, names: Names) -> list[blocks.OutgoingBlock]:
    """The blocks of a user message.

    The CLI takes a message whose last text block begins with "/" for a command of its own, and
    reads the files that it mentions as `@path` into the conversation, without tools and without
    asking, in imported messages too. An empty text block at the end stops both, and the CLI does
    not send it on: the model receives the text as written (seen upstream, 2.1.197 and 2.1.330).
    """
    content = [_block(part, names) for part in message.parts]
    if any(isinstance(part, Text) for part in message.parts):
        content.append(blocks.TextBlock(""))
    return content


def _block(part: Part, names: Names) -> blocks.OutgoingBlock:
    match part:
        case Text() | Image() | Document():
            return _said(part)
        case Thinking(text, signature):
            return blocks.ThinkingBlock(text, signature)
        case ToolCall(call_id, name, arguments):
            return blocks.ToolUseBlock(safe_id(call_id), names.to_model(name), _object(arguments))
        case ToolResult(call_id, parts, is_error):
            return blocks.ToolResultBlock(
                safe_id(call_id), [_said(each) for each in parts], is_error
            )


def _said(
    part: Text | Image | Document,
) -> blocks.TextBlock | blocks.ImageBlock | blocks.DocumentBlock:
    match part:
        case Text(text):
            return blocks.TextBlock(text)
        case Image(media_type, data):
            return blocks.ImageBlock(blocks.Base64Source(media_type, data))
        case Document(media_type, data, title):
            kind = blocks.TextSource if media_type == "text/plain" else blocks.Base64Source
            return blocks.DocumentBlock(kind(media_type, data), title or UNSET)


def safe_id(call_id: str) -> str:
    """The id of a call as the API takes it: foreign ones may hold anything. What has to be changed
    gets a digest of the id as it was, or `a.b` and `a_b` of one history would be the same call."""
    if _SAFE.fullmatch(call_id):
        return call_id
    digest = hashlib.sha256(call_id.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{_UNSAFE.sub('_', call_id)}_{digest}"


def _object(arguments: str) -> Raw:
    """The arguments of a call, which the API takes as an object only. What a model once wrote that
    is none is kept as a text in one."""
    try:
        msgspec.json.decode(arguments, type=dict[str, Raw])
        return Raw(arguments.encode())
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Raw(msgspec.json.encode({"arguments": arguments}))
