"""What the loopback model can be told to answer: one model message, or a fault.

The same Structs are written in Python by tests and in JSON by prompts and script files; their
fields are the JSON's keys, and an unknown key is refused so that a typing error is seen.
Times are in seconds. A chunk is one delta of the stream.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct, field

Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Tokens = Annotated[int, Meta(ge=0)]
Point = Annotated[int, Meta(ge=-1)]
"""A moment of a stream: after so many chunks (or after the last, where there are fewer);
0 is after `message_start`, -1 before the first byte of the answer."""

HeaderName = Annotated[
    str, Meta(pattern=r"^(?!(content-length|transfer-encoding|connection)$)[a-z0-9-]+$")
]
HeaderValue = Annotated[str, Meta(pattern=r"^[!-~]([ -~]*[!-~])?$")]


class TextBlock(Struct, frozen=True, forbid_unknown_fields=True, tag="text"):
    """A text block. A chunk is `chunk` words or characters (0: everything at once), and each
    chunk comes `pace` seconds after the one before it."""

    text: str
    pace: Seconds = 0
    chunk: Annotated[int, Meta(ge=0)] = 1
    unit: Literal["words", "characters"] = "words"

    def chunks(self) -> Iterator[str]:
        """The text in pieces that join up to exactly it."""
        if self.chunk == 0:
            pieces = [self.text] if self.text else []
        elif self.unit == "characters":
            pieces = [
                self.text[at : at + self.chunk] for at in range(0, len(self.text), self.chunk)
            ]
        else:
            words = re.findall(r"\s*\S+|\s+$", self.text)
            size = self.chunk
            pieces = ["".join(words[at : at + size]) for at in range(0, len(words), size)]
        return iter(pieces)


class ThinkingBlock(TextBlock, frozen=True, forbid_unknown_fields=True, tag="thinking"):
    """A thinking block; it is chunked and paced like a text."""


class ToolUseBlock(Struct, frozen=True, forbid_unknown_fields=True, tag="tool_use"):
    """A call of a tool. Without an `id` it gets a fresh one."""

    name: str
    input: dict[str, Any] = field(default_factory=dict)
    id: str | None = None


Block: TypeAlias = TextBlock | ThinkingBlock | ToolUseBlock


class Usage(Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens of the message. What is None is estimated from the sizes, cached ones as none."""

    input: Tokens | None = None
    output: Tokens | None = None
    cache_read: Tokens = 0
    cache_creation: Tokens = 0


class Error(Struct, frozen=True, forbid_unknown_fields=True):
    """An error of the API. Type and message follow from the status unless they are given.

    It stands in place of the answer or, with `after`, in the middle of the stream.
    """

    status: Annotated[int, Meta(ge=400, le=599)] = 500
    type: str | None = None
    message: str | None = None
    after: Annotated[int, Meta(ge=0)] | None = None


Window: TypeAlias = Literal["five_hour", "seven_day", "seven_day_overage_included"]


class Limit(Struct, frozen=True, forbid_unknown_fields=True):
    """The account's usage window, as the service tells it in `anthropic-ratelimit-unified-*`.

    `rejected` makes the reply a 429 unless it has an error of its own. The window ends at
    `resets_at` (epoch seconds) or else in `resets_in` seconds. `utilization` is a fraction.
    """

    status: Literal["allowed", "allowed_warning", "rejected"]
    window: Window = "five_hour"
    resets_at: Annotated[int, Meta(ge=0)] | None = None
    resets_in: Annotated[int, Meta(ge=0)] = 3600
    utilization: Annotated[float, Meta(ge=0, le=10)] | None = None


class Reply(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model message. All of it is optional; `Reply()` is an empty message.

    The content is `blocks`, or in short form (not both) `thinking`, then `text` or as many
    `words`, then a call of `tool` with `input`; `pace`, `chunk` and `unit` belong to the short
    form. `stop_reason` follows from the content unless given. `delay` comes before the first
    byte. `cut` closes the connection, `stall` goes silent for ever, each at its point.
    `headers` are added to the answer's own. Raises ValueError for a contradiction.
    """

    text: str | None = None
    words: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    thinking: str | None = None
    tool: str | None = None
    input: dict[str, Any] = field(default_factory=dict)
    pace: Seconds = 0
    chunk: Annotated[int, Meta(ge=0)] = 1
    unit: Literal["words", "characters"] = "words"
    blocks: tuple[Block, ...] | None = None
    stop_reason: str | None = None
    usage: Usage = Usage()
    delay: Seconds = 0
    error: Annotated[int, Meta(ge=400, le=599)] | Error | None = None
    cut: Point | None = None
    stall: Point | None = None
    limit: Limit | None = None
    headers: dict[HeaderName, HeaderValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        short = any(x is not None for x in (self.text, self.words, self.thinking, self.tool))
        if self.blocks is not None and short:
            raise ValueError("give either `blocks` or text, words, thinking and tool")
        if self.text is not None and self.words is not None:
            raise ValueError("give either `text` or `words`")
        if self.input and self.tool is None:
            raise ValueError("`input` needs a `tool`")
        if self.cut is not None and self.stall is not None:
            raise ValueError("give either `cut` or `stall`")
        in_stream = isinstance(self.error, Error) and self.error.after is not None
        if in_stream and (self.cut is not None or self.stall is not None):
            raise ValueError("an error with `after` ends the stream: no `cut` or `stall` with it")

    def content(self) -> tuple[Block, ...]:
        """The blocks of the message, whichever form it was given in."""
        if self.blocks is not None:
            return self.blocks
        blocks: list[Block] = []
        if self.thinking is not None:
            blocks.append(ThinkingBlock(self.thinking, self.pace, self.chunk, self.unit))
        text = self.text
        if self.words is not None:
            # Numbered, so that a lost or doubled one is seen.
            text = " ".join(f"word{number}" for number in range(1, self.words + 1))
        if text is not None:
            blocks.append(TextBlock(text, self.pace, self.chunk, self.unit))
        if self.tool is not None:
            blocks.append(ToolUseBlock(self.tool, self.input))
        return tuple(blocks)
