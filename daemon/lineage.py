"""What a conversation is known by: a chain of hashes over all of it.

h(0) covers what binds a worker, h(i) adds message i to h(i-1). The hash after a reply is the
**head** of the worker that gave it: a request whose messages up to the last assistant message
have that hash is the next turn of that very conversation, and nothing less proves it.

Clients hand back what they were sent in other clothes: a string becomes a list of parts, white
space at the end is trimmed. Such things are made the same before hashing, and nothing else is.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NewType

from msgspec.structs import replace

from maxd.workers.turn import Image, Message, Text, Turn

Head = NewType("Head", bytes)

# 128 bits: two histories meet by chance never; keyless, because nobody else chooses the texts.
_SIZE = 16


def root(turn: Turn, scope: str) -> Head:
    """The hash of what binds a worker. `scope` is whose conversation it is: what one API key has
    said matches nothing another sends."""
    return _hash(b"root", _fields(scope, turn.profile, turn.model), _fields(*_trimmed(turn.system)))


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


def after_reply(turn: Turn, scope: str, reply: str, base: Head | None = None) -> Head | None:
    """The head of a worker that has answered `turn` with `reply`, as the client saw it; `base` is
    what the turn's messages follow where they are not the whole history. None for a blank
    reply: clients leave it out of the history they send back."""
    if not reply.strip():
        return None
    return extend(after_messages(turn, scope, base), Message("assistant", (Text(reply),)))


def after_blank(turn: Turn, scope: str, base: Head | None = None) -> Head:
    """The head after a blank reply. No history has it, so only an explicit id leads to it."""
    return extend(after_messages(turn, scope, base), Message("assistant", ()))


def after_messages(turn: Turn, scope: str, base: Head | None = None) -> Head:
    """The hash of everything up to and including the turn's last message."""
    head = root(turn, scope) if base is None else base
    for message in turn.messages:
        head = extend(head, message)
    return head


def lenient(turn: Turn, scope: str, reply: str, base: Head | None = None) -> Head | None:
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
    for part in message.parts:
        match part:
            case Text(text):
                yield from ("text", text.rstrip())
            case Image(media_type, data):
                yield from ("image", media_type, data)


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
