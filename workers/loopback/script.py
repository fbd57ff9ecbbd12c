"""Where the loopback model's answer comes from: a script, the prompt's directive, or an echo.

A directive is `<<loopback {…} >>` in a user's text, with a `Reply` or `{"replies": [Reply, …]}`
as JSON. Which of the replies is due follows from the request alone: it is the number of
assistant messages after the one that holds the directive. So a loop of tool calls, a retry and
a regenerated answer need no state here. Past the last reply comes the echo.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct, field

from maxd.workers.loopback.reply import Reply

DIRECTIVE = "<<loopback"
REMINDER = ("<system-reminder>", "</system-reminder>")
# What a command of the CLI's own, such as /clear, leaves in the message after it.
COMMAND_TRACES = ("<local-command-", "<command-name>")
# Enough to recognise one's own words; an echo of a whole pasted file helps nobody.
ECHO = 400


class Request(Struct, kw_only=True):
    """One recorded request to `/v1/messages`.

    `path` includes the query. Of a header that carries a credential only its presence is kept.
    `arrived` and `ended` are readings of the monotonic clock in seconds, which all processes of
    a machine share. `gone` is True if the client went away before it had the whole answer.
    """

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    arrived: float = field(default_factory=time.monotonic)
    ended: float | None = None
    gone: bool = False


Script: TypeAlias = Callable[[Request], Reply | None] | Sequence[Reply]
"""A function of the request (None: go on with directive and echo), or replies to be served
one per request in their order, the last one again and again."""


class BadDirective(ValueError):
    """A directive that cannot be understood; the message says what is wrong with it."""


class Replies(Struct, frozen=True, forbid_unknown_fields=True):
    """The long form of a directive."""

    replies: list[Reply]


def play(script: Script | None) -> Callable[[Request], Reply | None]:
    """Start `script` from its beginning."""
    if callable(script):
        return script
    replies = list(script or ())
    served = iter(replies)

    def next_reply(_request: Request) -> Reply | None:
        return next(served, replies[-1] if replies else None)

    return next_reply


def reply_to(request: Request, script: Callable[[Request], Reply | None]) -> Reply:
    """The answer to `request`. Raises BadDirective, and whatever `script` raises."""
    answer = script(request)
    if answer is None:
        messages = [m for m in request.body.get("messages", ()) if isinstance(m, dict)]
        answer = directed(messages) or echo(messages)
    return answer


def directed(messages: Sequence[dict[str, Any]]) -> Reply | None:
    """The reply that the last directive in `messages` asks for now, if it does."""
    answered = 0
    for message in reversed(messages):
        if message.get("role") == "assistant":
            answered += 1
        text = user_text(message)
        if DIRECTIVE in text:
            replies = parse_directive(text)
            return replies[answered] if answered < len(replies) else None
    return None


def parse_directive(text: str) -> list[Reply]:
    """The replies of the first directive in `text`. Raises BadDirective."""
    # The first: a later one may be inside its JSON, in the prompt of a subagent for example.
    _, _, rest = text.partition(DIRECTIVE)
    rest = rest.lstrip()
    try:
        # Only a parser finds the end: `>>` may well stand in a shell command.
        form, end = json.JSONDecoder(parse_constant=refuse).raw_decode(rest)
        if not rest[end:].lstrip().startswith(">>"):
            raise BadDirective("its JSON is not followed by `>>`")
        if isinstance(form, dict) and "replies" in form:
            return msgspec.convert(form, Replies).replies
        return [msgspec.convert(form, Reply)]
    except json.JSONDecodeError as error:
        raise BadDirective(f"its JSON is broken: {error}") from None
    except RecursionError:
        raise BadDirective("its JSON is nested too deep") from None
    except msgspec.ValidationError as error:
        raise BadDirective(str(error)) from None


def refuse(constant: str) -> None:
    """Python's parser would take NaN and Infinity, which are no JSON and no time."""
    raise BadDirective(f"{constant} is not JSON")


def echo(messages: Sequence[dict[str, Any]]) -> Reply:
    """The built-in answer: what was asked, and how much came before it."""
    spoken = [m for m in messages if m.get("role") in ("user", "assistant")]
    for earlier in range(len(spoken) - 1, -1, -1):
        text = user_text(spoken[earlier]).strip()
        if text:
            asked = text if len(text) <= ECHO else f"{text[:ECHO]}…"
            break
    else:
        earlier, asked = len(spoken), "(no text)"
    context = "no earlier message" if earlier == 0 else f"{earlier} earlier messages"
    if earlier == 1:
        context = "1 earlier message"
    return Reply(
        text=f"Hello from the loopback model, which runs on this machine and needs no account. "
        f"You asked: {asked}\nI was given {context}."
    )


def user_text(message: dict[str, Any]) -> str:
    """What the user wrote in `message`: no tool results, and nothing that the CLI added."""
    if message.get("role") != "user":
        return ""
    spoken = (text for text in texts(message.get("content")) if not text.startswith(COMMAND_TRACES))
    return "\n".join(text for text in map(without_reminders, spoken) if text.strip())


def texts(content: object) -> Iterator[str]:
    """The texts of a message's content, which is a string or a list of blocks."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Iterable):
        for block in content:
            if isinstance(block, dict) and block.get("type") == "text":
                text = block.get("text")
                if isinstance(text, str):
                    yield text


def without_reminders(text: str) -> str:
    """`text` without the `<system-reminder>` passages of the CLI."""
    opening, closing = REMINDER
    kept, position = [], 0
    while (start := text.find(opening, position)) >= 0:
        end = text.find(closing, start)
        if end < 0:
            break
        kept.append(text[position:start])
        position = end + len(closing)
    return "".join(kept) + text[position:]
