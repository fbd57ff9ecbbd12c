"""Binding a worker to a turn: the system prompt, and the history as real messages.

A history is imported message by message: the CLI must have answered one remembered user message
with a `result` before it is given the next, or it merges them all at the end (measured with
2.1.197 and 2.1.330).
"""

import uuid
from collections.abc import Iterator, Sequence

from msgspec import UNSET

from maxd.workers import messages as wire
from maxd.workers.profiles import Profile
from maxd.workers.turn import Image, Message, Part, Text


def binding(profile: Profile, system: tuple[str, ...]) -> wire.Initialize:
    """What binds a worker of `profile`: the client's system texts, in the profile's way."""
    if profile.system == "replace":
        return wire.Initialize(system_prompt=list(system))
    return wire.Initialize(append_system_prompt="\n\n".join(system) if system else UNSET)


def import_groups(messages: Sequence[Message], model: str) -> Iterator[bytes]:
    """The messages as writes. Each ends in a user message that must have its `result` before
    the next is written; the last ends in the message to answer."""
    group = b""
    for message in messages[:-1]:
        if message.role == "assistant":
            group += wire.encode(_assistant_line(message, model))
        else:
            group += wire.encode(
                wire.UserLine(wire.UserContent(_blocks(message)), should_query=False)
            )
            yield group
            group = b""
    yield group + wire.encode(wire.UserLine(wire.UserContent(_blocks(messages[-1]))))


def _assistant_line(message: Message, model: str) -> wire.AssistantLine:
    name = uuid.uuid4()
    content = [_block(part) for part in message.parts]
    return wire.AssistantLine(
        wire.AssistantContent(f"msg_{name.hex}", model, content), uuid=str(name)
    )


def _blocks(message: Message) -> list[wire.OutgoingBlock]:
    """The blocks of a user message.

    The CLI takes a message whose last text block begins with "/" for a command of its own, and
    reads the files that it mentions as `@path` into the conversation, without tools and without
    asking, in imported messages too. An empty text block at the end stops both, and the CLI does
    not send it on: the model receives the text as written (seen upstream, 2.1.197 and 2.1.330).
    """
    return [*map(_block, message.parts), wire.TextBlock("")]


def _block(part: Part) -> wire.OutgoingBlock:
    match part:
        case Text(text):
            return wire.TextBlock(text)
        case Image(media_type, data):
            return wire.ImageBlock(wire.ImageSource(media_type, data))
        case _:
            raise NotImplementedError(type(part).__name__)
