"""A turn (one request) and the events of its reply, in words of neither the CLI nor a dialect.

Dialects make a `Turn` of an HTTP body and render `Event`s; a worker runs the one and yields
the others. Both are defined here, once, because this is the lowest package that needs them.
"""

from typing import Literal, TypeAlias

from msgspec import Struct

StopReason: TypeAlias = str
"""Why a model message ended, in the words of the Messages API: `end_turn`, `tool_use`, …"""


class Text(Struct, frozen=True, tag="text"):
    """Text as the client wrote it."""

    text: str


class Image(Struct, frozen=True, tag="image"):
    """An image as data; `data` is base64, unchanged from the client."""

    media_type: str
    data: str


Part: TypeAlias = Text | Image


class Message(Struct, frozen=True):
    """One message of the conversation. `parts` is never empty."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]


class Turn(Struct, frozen=True, kw_only=True):
    """One request: the whole conversation, ending in the message to answer.

    `profile` and `model` name the spare it needs; `model` is the word the CLI is started with.
    The last of `messages` has the role `user`. `system` holds the client's system texts in order.
    """

    profile: str
    model: str
    messages: tuple[Message, ...]
    system: tuple[str, ...] = ()


class Usage(Struct, frozen=True):
    """Tokens of one turn, summed over its rounds; the four counts do not overlap."""

    input_tokens: int = 0
    cache_creation_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    """The part of `output_tokens` that the model spent on thinking."""


class TurnRecord(Struct, frozen=True, kw_only=True):
    """What a conversation's record keeps of a finished turn. It is no event: a dialect that never
    sees it cannot show it.

    `session` is the id of the CLI's transcript, None where the profile keeps none. `last_line` is
    the id of the line in it that ends the turn: the transcript holds the turn once it ends with
    that. `cost` is that of this turn alone, in US dollars by the CLI's own prices.
    `context_tokens` is what the last round took of the model's window of `context_window` tokens,
    its own output included. 0 where the CLI did not say.
    """

    session: str | None = None
    last_line: str | None = None
    cost: float = 0.0
    context_tokens: int = 0
    context_window: int = 0


class TextDelta(Struct, frozen=True, tag="text"):
    """More text of the answer."""

    text: str


class ThinkingDelta(Struct, frozen=True, tag="thinking"):
    """More of the model's thinking, where the model shows it."""

    text: str


class ToolStarted(Struct, frozen=True, tag="tool_started"):
    """The model called a built-in tool, which the CLI now runs by itself."""

    name: str


class RoundStarted(Struct, frozen=True, tag="round_started"):
    """The service has accepted a request of this turn and begun a model message."""

    model: str


class RoundEnded(Struct, frozen=True, tag="round_ended"):
    """A model message is complete. After `tool_use` another round follows."""

    stop_reason: StopReason


class RoundBroken(Struct, frozen=True, tag="round_broken"):
    """A model message was cut off. What came of it is void; the CLI may try another round."""


class Retrying(Struct, frozen=True, tag="retrying"):
    """The CLI met an error upstream and tries again after `delay` seconds."""

    attempt: int
    delay: float
    status: int | None


class AccountLimit(Struct, frozen=True, tag="account_limit"):
    """What the service said of the account's usage window. `resets_at` is in epoch seconds."""

    status: str
    window: str | None = None
    utilization: float | None = None
    resets_at: float | None = None


class Finished(Struct, frozen=True, tag="finished"):
    """The turn is over and was answered; always the last event."""

    stop_reason: StopReason
    usage: Usage


Event: TypeAlias = (
    TextDelta
    | ThinkingDelta
    | ToolStarted
    | RoundStarted
    | RoundEnded
    | RoundBroken
    | Retrying
    | AccountLimit
    | Finished
)
