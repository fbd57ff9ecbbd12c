"""A conversation as it is known between its turns. It holds no text."""

from msgspec import Struct


class Conversation(Struct, kw_only=True):
    """What is kept of one conversation. Times are in epoch seconds, costs in US dollars.

    `id` and `scope` (whose it is: the hash of an API key) name it. `head` is what its next turn is
    known by, `root` what binds its worker. `session` names the CLI's own transcript, made in
    `session_directory`, where there is one that ends with the last turn, in the line
    `session_line`. `context_tokens` is how much of the model's window of
    `context_window` tokens the last turn took.
    """

    id: str
    scope: str
    profile: str
    model: str
    root: bytes
    head: bytes
    created: float
    last_used: float
    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    context_tokens: int = 0
    context_window: int = 0
    session: str | None = None
    session_directory: str | None = None
    session_line: str | None = None
