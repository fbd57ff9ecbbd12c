"""How many tokens a turn's input has, roughly.

The CLI has no tokenizer of its own: what it tells of the context it asks the service for. So this
is an estimate from the text, meant to be rather too high than too low: clients shorten a
conversation by it.
"""

import math
import re
from base64 import b64decode

from maxd.http.image_size import image_size
from maxd.workers.turn import Document, Image, Part, Text, Thinking, ToolCall, ToolResult, Turn

# Of the Messages API's documentation: about 3.5 characters of English to a token.
CHARACTERS_PER_TOKEN = 3.5
# Scripts without an alphabet of 26 letters: about one token to a character.
WIDE_TOKENS = 1.0
# From the documentation: pixels / 750, and an image is scaled down to 1,568 pixels.
PIXELS_PER_TOKEN, LONGEST_SIDE, MOST_IMAGE_TOKENS = 750, 1568, 1600
# A page is sent as text and as an image: 1,500 to 3,000 tokens.
PAGE_TOKENS = 2500
# Bytes to a page, where a file does not show its pages.
BYTES_PER_PAGE = 50_000
# What stands around a message, and what the API adds to a request with tools.
MESSAGE_TOKENS, TOOLS_TOKENS = 4, 346
_WIDE = re.compile("[^\x00-\u024f]")
# `/Type /Page`, not `/Pages`. Files with compressed objects do not show it.
_PAGE = re.compile(rb"/Type\s*/Page[^s]")


def estimate(turn: Turn) -> int:
    """The input tokens of `turn`: system texts, functions, schema and messages."""
    texts = [*turn.system, turn.schema or ""]
    for function in turn.functions:
        texts += (function.name, function.description, function.parameters)
    tokens = sum(map(_text, texts)) + (TOOLS_TOKENS if turn.functions else 0)
    for message in turn.messages:
        tokens += MESSAGE_TOKENS + sum(map(_part, message.parts))
    return max(1, math.ceil(tokens))


def _part(part: Part) -> float:
    match part:
        case Text(text) | Thinking(text):
            return _text(text)
        case Image():
            return _image(part)
        case Document("text/plain", data):
            return _text(data) + _text(part.title or "")
        case Document():
            return _pages(part.data) * PAGE_TOKENS
        case ToolCall(call_id, name, arguments):
            return _text(call_id) + _text(name) + _text(arguments)
        case ToolResult(call_id, parts):
            return _text(call_id) + sum(map(_part, parts))


def _text(text: str) -> float:
    wide = 0 if text.isascii() else len(_WIDE.findall(text))
    return (len(text) - wide) / CHARACTERS_PER_TOKEN + wide * WIDE_TOKENS


def _image(image: Image) -> float:
    size = image_size(image.data)
    if size is None:
        return MOST_IMAGE_TOKENS
    width, height = size
    scale = min(1.0, LONGEST_SIDE / max(width, height, 1))
    return min(MOST_IMAGE_TOKENS, width * height * scale * scale / PIXELS_PER_TOKEN)


def _pages(data: str) -> int:
    raw = b64decode(data)
    return len(_PAGE.findall(raw)) or max(1, len(raw) // BYTES_PER_PAGE)
