"""Token counts of the loopback model: plausible ones, where none are given."""

from collections.abc import Iterator
from typing import Any

import msgspec

from maxd.workers.loopback.reply import Reply, ToolUseBlock

# A rough rule of the service's documentation: four characters to a token.
CHARACTERS_PER_TOKEN = 4
MEDIA_TOKENS = 1_500


def usage(reply: Reply, body: dict[str, Any], size: int) -> dict[str, int]:
    """The API's `usage` of the finished message."""
    given = reply.usage
    output = given.output
    if output is None:
        written = sum(
            len(msgspec.json.encode(block.input))
            if isinstance(block, ToolUseBlock)
            else len(block.text)
            for block in reply.content()
        )
        output = -(-written // CHARACTERS_PER_TOKEN)
    return {
        "input_tokens": input_tokens(body, size) if given.input is None else given.input,
        "cache_creation_input_tokens": given.cache_creation,
        "cache_read_input_tokens": given.cache_read,
        "output_tokens": output,
    }


def input_tokens(body: dict[str, Any], size: int) -> int:
    """A plausible count of the tokens of a request of `size` bytes.

    Images and documents count by the piece: by their bytes a few of them would fill the context
    window, and the CLI, which believes this number, would begin to compact the conversation.
    """
    pieces = 0
    for message in body.get("messages", ()):
        for data in media(message.get("content") if isinstance(message, dict) else None):
            pieces += 1
            size -= len(data)
    return max(1, size // CHARACTERS_PER_TOKEN + pieces * MEDIA_TOKENS)


def media(content: object) -> Iterator[str]:
    """The base64 data of the images and documents in `content`, also inside tool results."""
    if not isinstance(content, list):
        return
    for block in content:
        if not isinstance(block, dict):
            continue
        source = block.get("source")
        data = source.get("data") if isinstance(source, dict) else None
        if isinstance(data, str):
            yield data
        elif block.get("type") == "tool_result":
            yield from media(block.get("content"))
