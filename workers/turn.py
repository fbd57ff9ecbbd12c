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


class Document(Struct, frozen=True, tag="document"):
    """A file as data: `application/pdf` as base64, or `text/plain` as the text itself."""

    media_type: Literal["application/pdf", "text/plain"]
    data: str
    title: str | None = None


class Thinking(Struct, frozen=True, tag="thinking"):
    """The model's thinking in an earlier answer, as the service signed it."""

    text: str
    signature: str


class ToolCall(Struct, frozen=True, tag="tool_call"):
    """A call of one of the client's functions, in an assistant message. `arguments` is the JSON
    text of an object; `id` is what its result names, and unique in the conversation."""

    id: str
    name: str
    arguments: str


class ToolResult(Struct, frozen=True, tag="tool_result"):
    """What a call has brought, in a user message."""

    call_id: str
    parts: tuple[Text | Image | Document, ...]
    is_error: bool = False


Part: TypeAlias = Text | Image | Document | Thinking | ToolCall | ToolResult


class Message(Struct, frozen=True):
    """One message of the conversation. `parts` is never empty. The results of one round of calls
    stand together in a user message of their own, whatever follows them."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]


class Function(Struct, frozen=True):
    """One of the client's functions. `parameters` is the JSON text of its schema, as sent."""

    name: str
    description: str
    parameters: str


class ToolChoice(Struct, frozen=True):
    """Whether functions may or must be called. With `names`, only those."""

    mode: Literal["auto", "none", "required"] = "auto"
    names: tuple[str, ...] = ()


Effort: TypeAlias = Literal["none", "low", "medium", "high", "xhigh", "max"]


class Turn(Struct, frozen=True, kw_only=True):
    """One request: the whole conversation, ending in the message to answer.

    `profile` and `model` name the spare it needs; `model` is the word the CLI is started with.
    The last of `messages` has the role `user`. `system` holds the client's system texts in order.
    `schema` is the JSON text of the schema that the answer must have. `stop` holds texts before
    which the answer ends, and `max_tokens` is where it is cut.
    """

    profile: str
    model: str
    messages: tuple[Message, ...]
    system: tuple[str, ...] = ()
    functions: tuple[Function, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_calls: bool = True
    schema: str | None = None
    effort: Effort | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()


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


class ThinkingEnded(Struct, frozen=True, tag="thinking_ended"):
    """The thinking that came before is whole; `signature` is the service's own of it."""

    signature: str


class CallStarted(Struct, frozen=True, tag="call_started"):
    """The model calls one of the client's functions."""

    id: str
    name: str


class CallDelta(Struct, frozen=True, tag="call_delta"):
    """More of the JSON text of the arguments of the call that was started last. Each call has at
    least one: `{}` where the model gave none."""

    arguments: str


class ToolStarted(Struct, frozen=True, tag="tool_started"):
    """The model called a built-in tool, which the CLI now runs by itself. `detail` is one line of
    what it was asked for: a command, a path. It is part of the conversation, and never logged."""

    name: str
    detail: str = ""


class RoundStarted(Struct, frozen=True, tag="round_started"):
    """The service has accepted a request of this turn and begun a model message. `usage` is what
    it told of the input by then."""

    model: str
    usage: Usage = Usage()


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


class UsageWindow(Struct, frozen=True):
    """One of the account's usage windows. `utilization` is the part of it that is used (1 is all),
    `resets_at` is in epoch seconds."""

    name: str
    status: str | None = None
    utilization: float | None = None
    resets_at: float | None = None


class AccountLimit(Struct, frozen=True, tag="account_limit"):
    """What the service said of the account's usage windows. `resets_at` is in epoch seconds.

    `status` is that of `window`, the one that counts most at the moment; `windows` holds what was
    told of each (2.1.330; nothing by 2.1.197). `uses_overage`: the window is used up, and extra
    usage that is paid for is drawn on.
    """

    status: str
    window: str | None = None
    utilization: float | None = None
    resets_at: float | None = None
    uses_overage: bool = False
    windows: tuple[UsageWindow, ...] = ()

    @property
    def used_up(self) -> bool:
        """Whether a refusal by the service that comes with this means a window that is used up.

        The CLI says `rejected` of every 429, of a short rate limit too. Then it names no window
        and no reset, or (2.1.330) tells of the named window itself that it is open.
        """
        if self.status != "rejected" or (self.window is None and self.resets_at is None):
            return False
        return not any(
            each.name == self.window and each.status in ("allowed", "allowed_warning")
            for each in self.windows
        )


class Finished(Struct, frozen=True, tag="finished"):
    """The turn is over and was answered; always the last event. `stop_reason` is `tool_use` when
    the calls that came before it wait for their results, and `stop_sequence` the text of
    `Turn.stop` that ended it, if one did."""

    stop_reason: StopReason
    usage: Usage
    stop_sequence: str | None = None


Event: TypeAlias = (
    TextDelta
    | ThinkingDelta
    | ThinkingEnded
    | CallStarted
    | CallDelta
    | ToolStarted
    | RoundStarted
    | RoundEnded
    | RoundBroken
    | Retrying
    | AccountLimit
    | Finished
)
