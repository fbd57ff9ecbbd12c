"""What a conversation is known by: a chain of hashes over all of it.

h(0) covers what binds a worker, h(i) adds message i to h(i-1). The hash after a reply is the
**head** of the worker that gave it: a request whose messages up to the last assistant message
have that hash is the next turn of that very conversation, and nothing less proves it.

Clients hand back what they were sent in other clothes: a string becomes a list of parts, white
space at the end is trimmed. Such things are made the same before hashing, and nothing else is.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, NewType

import msgspec
from msgspec.structs import replace

from maxd.workers.turn import (
    Document,
    Effort,
    Image,
    Message,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
)

Head = NewType("Head", bytes)

# 128 bits: two histories meet by chance never; keyless, because nobody else chooses the texts.
_SIZE = 16


def root(turn: Turn, scope: str) -> Head:
    """The hash of what binds a worker. `scope` is whose conversation it is: what one API key has
    said matches nothing another sends."""
    functions = (
        field
        for function in turn.functions
        for field in (function.name, function.description, canonical_json(function.parameters))
    )
    choice = turn.tool_choice
    # What else may be called is decided turn by turn; a call that must be made is bound.
    forced = choice.names if choice.mode == "required" else ()
    return _hash(
        b"root",
        _fields(scope, turn.profile, turn.model),
        _fields(*_trimmed(turn.system)),
        _fields(*functions),
        _fields(str(choice.mode == "required"), *forced),
        _fields(canonical_json(turn.schema or "")),
    )


def binding(root: Head, turn: Turn, effort: Effort | None) -> Head:
    """The hash of what a worker is bound to, to the letter, and of the `effort` it is set to.
    `root` takes for the same what clients write in other ways; a worker that has been reset is
    still bound to what the first has written, and a turn that wants no effort in particular is not
    to have that of a stranger's."""
    exactly = (turn.schema or "", effort or "")
    return _hash(b"binding", root, _fields(*turn.system), _fields(*exactly))


def extend(head: Head, message: Message) -> Head:
    """The hash of everything up to and including `message`."""
    return _hash(head, _fields(message.role), _fields(*_canonical(message)))


def history(turn: Turn, scope: str) -> tuple[Head | None, int]:
    """The hash of the messages up to the last assistant message, and how many those are; None
    and 0 when there is none, and nothing to continue."""
    head, found, count = root(turn, scope), None, 0
    for number, message in enumerate(turn.messages, 1):
        head = extend(head, message)
        if message.role == "assistant":
            found, count = head, number
    return found, count


def calls(message: Message) -> tuple[str, ...]:
    """The ids of the calls in an assistant message."""
    return tuple(part.id for part in message.parts if isinstance(part, ToolCall))


def begins_with_results(turn: Turn) -> bool:
    """Whether the first message has results of calls, which then came before it."""
    return any(isinstance(part, ToolResult) for part in turn.messages[0].parts)


def after_reply(
    turn: Turn, scope: str, reply: Sequence[Part], base: Head | None = None
) -> Head | None:
    """The head of a worker that has answered `turn` with `reply`, as the client saw it; `base` is
    what the turn's messages follow where they are not the whole history. None for a blank
    reply: clients leave it out of the history they send back."""
    if is_blank(reply):
        return None
    return extend(after_messages(turn, scope, base), Message("assistant", tuple(reply)))


def is_blank(reply: Sequence[Part]) -> bool:
    """Whether a reply says nothing and calls nothing."""
    return all(isinstance(part, Text) and not part.text.strip() for part in reply)


def after_blank(turn: Turn, scope: str, base: Head | None = None) -> Head:
    """The head after a blank reply. No history has it, so only an explicit id leads to it."""
    return extend(after_messages(turn, scope, base), Message("assistant", ()))


def after_messages(turn: Turn, scope: str, base: Head | None = None) -> Head:
    """The hash of everything up to and including the turn's last message."""
    head = root(turn, scope) if base is None else base
    for message in turn.messages:
        head = extend(head, message)
    return head


def lenient(turn: Turn, scope: str, reply: Sequence[Part], base: Head | None = None) -> Head | None:
    """The head that the same worker has for a client which takes its last user message out again:
    that of the same conversation in which the turn's last message had never been. None for a blank
    reply, and where the answer would follow nothing that the user has said.

    The worker has read that message all the same. That is what lenient means, and why a request
    is held against every worker's exact head first, and against this one only if asked for.
    """
    *kept, _ = turn.messages
    if not kept or kept[-1].role != "user":
        return None
    return after_reply(replace(turn, messages=tuple(kept)), scope, reply, base)


def _canonical(message: Message) -> Iterator[str]:
    """Results come back in any order: each names its call."""
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    results.sort(key=lambda result: result.call_id)
    others = [part for part in message.parts if not isinstance(part, ToolResult)]
    if message.role == "assistant":
        # Some dialects keep the blocks of an answer, others join its text.
        texts = [part.text for part in others if isinstance(part, Text)]
        others = [part for part in others if not isinstance(part, Text)]
        if texts:
            others.insert(0, Text("".join(texts)))
    for part in (*results, *others):
        yield from _canonical_part(part)


def _canonical_part(part: Part) -> Iterator[str]:
    match part:
        case Text(text):
            yield from ("text", text.rstrip())
        case Image(media_type, data):
            yield from ("image", media_type, data)
        case Document(media_type, data):
            yield from ("document", media_type, data)
        case ToolCall(call_id, name, arguments):
            yield from ("call", call_id, name, canonical_json(arguments))
        case ToolResult(call_id, parts, is_error):
            fields = [field for each in parts for field in _canonical_part(each)]
            yield from ("result", call_id, str(is_error), str(len(fields)), *fields)
        case Thinking():
            pass  # Most dialects have no place for it, and no client can change what it says.


def canonical_json(text: str) -> str:
    """The same text for all spellings of one JSON value; `text` itself where it is none. JavaScript
    has one kind of number: what it reads as 1.0 it writes as 1."""
    try:
        value = _integral(msgspec.json.decode(text))
        return msgspec.json.encode(value, order="sorted").decode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text


def _integral(value: Any) -> Any:
    match value:
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case dict():
            return {key: _integral(each) for key, each in value.items()}
        case list():
            return [_integral(each) for each in value]
        case _:
            return value


def _trimmed(texts: Iterable[str]) -> Iterator[str]:
    return (text.rstrip() for text in texts)


def _fields(*values: str) -> bytes:
    """The values with their lengths, so that no two lists of values make the same bytes."""
    encoded = [value.encode() for value in values]
    return b"".join((b"%d:" % len(encoded), *(b"%d:%b" % (len(v), v) for v in encoded)))


def _hash(*pieces: bytes) -> Head:
    digest = blake2b(digest_size=_SIZE)
    for piece in pieces:
        digest.update(piece)
    return Head(digest.digest())
