"""What a request to the model may hold after a reset: the new conversation, and next to nothing."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import msgspec

from maxd.workers.loopback import Request
from maxd.workers.turn import Message, Text

CRUMBS: Final = 1000
"""Characters that a reset may leave: the CLI notes there that `/clear` was run, in 392 (2.1.330)
or 420 (2.1.197) characters."""


class Leak(Exception):
    """A request that is not as it should be. The message says in what, and quotes nothing."""


def check_request(
    request: Request,
    system: str,
    messages: Sequence[Message],
    canaries: Collection[str],
    usual: Collection[str],
) -> None:
    """Make sure that `request` is the conversation `messages` under `system`, and nothing else.

    `canaries` are words of earlier conversations. `usual` are the lines that the CLI adds to the
    first conversation of a process (see `additions`); they may be there, and `CRUMBS` more.
    Raises Leak.
    """
    if holds(request, canaries):
        raise Leak("something of an earlier conversation was still there after a reset")
    if request.body.get("tools"):
        raise Leak("a worker without tools had some after a reset")
    if system not in texts(request.body.get("system")):
        raise Leak("the system text was not there any more after a reset")
    spoken = [m for m in request.body["messages"] if m.get("role") != "system"]
    if [m["role"] for m in spoken] != [m.role for m in messages]:
        raise Leak("the messages after a reset did not arrive one by one")
    for arrived, message in zip(spoken, messages, strict=True):
        rest = iter(texts(arrived["content"]))
        # `in` takes from the iterator up to what it finds, so the order is compared too.
        if not all(isinstance(part, Text) and part.text in rest for part in message.parts):
            raise Leak("a message after a reset did not arrive as written")
    if sum(map(len, additions(request, system, messages) - set(usual))) > CRUMBS:
        raise Leak("more was added after a reset than the note of it")


def holds(request: Request, words: Collection[str]) -> bool:
    """Whether any of `words`, which need no escaping, is anywhere in the request."""
    whole = msgspec.json.encode([request.path, request.headers, request.body]).decode()
    return any(word in whole for word in words)


def additions(request: Request, system: str, messages: Sequence[Message]) -> set[str]:
    """The lines of the texts that the CLI has put in by itself. Lines, because 2.1.330 puts the
    same reminders together in other ways where the conversation has a history.

    Raises Leak for a block that is no text.
    """
    own = {system}
    own.update(part.text for m in messages for part in m.parts if isinstance(part, Text))
    contents = [request.body.get("system"), *(m["content"] for m in request.body["messages"])]
    added = (text for content in contents for text in texts(content) if text not in own)
    return {line.strip() for text in added for line in text.splitlines()}


def texts(content: object) -> Iterator[str]:
    """The texts of a content, which is a string or a list of blocks. Raises Leak for others."""
    blocks: list[Any] = content if isinstance(content, list) else []
    if isinstance(content, str):
        blocks = [{"type": "text", "text": content}]
    for block in blocks:
        if block.get("type") != "text":
            raise Leak("there was a block that nobody has sent after a reset")
        yield block["text"]
