"""Clients that take their last message out again, and the lenient head they go on by."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from msgspec.structs import replace

from maxd.daemon import lineage
from maxd.workers.turn import Image, Message, Text, Turn
from tests.daemon.histories import (
    PIXEL,
    SCOPE,
    assistant,
    many,
    questions,
    texts,
    turn,
    turns,
    user,
)

if TYPE_CHECKING:
    from maxd.daemon.lineage import Head

VOLATILE = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nTime: {}\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
RUNTIME = "Runtime: agent=main sessionId=x model=maxproxy/claude-sonnet-4"


class OpenClaw:
    """A client that ends every request with a message which it never sends again. `heads` is
    what the worker that has given the last answer is known by."""

    def __init__(self) -> None:
        self.kept: list[Message] = []
        self.requests = 0
        self.heads: tuple[Head | None, Head | None] = (None, None)

    def request(self, *said: Message) -> Turn:
        self.kept += said
        self.requests += 1
        volatile = user(VOLATILE.format(self.requests))
        return turn(*self.kept, volatile, system=("You are OpenClaw.",))

    def take(self, asked: Turn, reply: str) -> None:
        self.heads = (
            lineage.after_reply(asked, SCOPE, (Text(reply),)),
            lineage.lenient(asked, SCOPE, (Text(reply),)),
        )
        self.kept.append(assistant(reply))


def test_a_session_of_openclaw_goes_on_by_the_lenient_head() -> None:
    client = OpenClaw()
    client.take(client.request(user(f"{RUNTIME}\n\nhi")), "Hello!")
    for number in range(1, 10):
        asked = client.request(user(f"question {number}"))
        head, known = lineage.history(asked, SCOPE)
        exact, lenient = client.heads
        assert head == lenient != exact
        # What the worker is given: the new question, and the next volatile message.
        assert asked.messages[known:] == (client.kept[-1], user(VOLATILE.format(number + 1)))
        client.take(asked, f"answer {number}")


def test_a_result_of_a_tool_may_stand_before_the_volatile_message() -> None:
    """It will come in a message of the user's, perhaps with a picture behind it."""
    client = OpenClaw()
    client.take(client.request(user(f"{RUNTIME}\n\nlook")), "I call the tool.")
    result = user("result of call 1")
    picture = user(Image("image/png", PIXEL))
    asked = client.request(result, picture)
    assert lineage.history(asked, SCOPE)[0] == client.heads[1]
    client.take(asked, "I see a cat.")
    assert lineage.history(client.request(user("thanks")), SCOPE)[0] == client.heads[1]


def openclaw_strays() -> dict[str, Turn]:
    """What the same client sends that is not the next turn of the session."""
    client = OpenClaw()
    first = client.request(user(f"{RUNTIME}\n\nhi"))
    *_, volatile = first.messages
    question = client.kept[0]
    following = (user("more"), user(VOLATILE.format(2)))
    openclaw = ("You are OpenClaw.",)

    def said(*messages: Message, system: Sequence[str] = openclaw) -> Turn:
        return turn(*messages, *following, system=system)

    answer = assistant("Hello!")
    return {
        "retry": first,
        "heartbeat": said(question, answer, system=("Heartbeat.",)),
        "new session": said(),
        "compaction": said(user("Summary of the conversation so far: hi")),
        "another answer": said(question, assistant("Hello?")),
        "both messages gone": said(answer),
        "the other one gone": said(volatile, answer),
        "both in the other order": said(volatile, question, answer),
        "another volatile one": said(question, user(VOLATILE.format(7)), answer),
        "one message more": said(question, answer, user("extra"), assistant("Hello!")),
        "question changed": said(user(f"{RUNTIME}\n\nho"), answer),
        "answer gone": said(question, question, assistant("Hello!")),
    }


@pytest.mark.parametrize("stray", openclaw_strays().values(), ids=openclaw_strays())
def test_nothing_else_goes_on_by_either_head(stray: Turn) -> None:
    client = OpenClaw()
    client.take(client.request(user(f"{RUNTIME}\n\nhi")), "Hello!")
    assert None not in client.heads
    assert lineage.history(stray, SCOPE)[0] not in client.heads


@pytest.mark.parametrize(
    "asked",
    [turn(user("one")), turn(user("one"), assistant("two"), user("three"))],
    ids=["first", "later"],
)
def test_an_answer_follows_something_the_user_has_said(asked: Turn) -> None:
    assert lineage.lenient(asked, SCOPE, (Text("x"),)) is None
    base = lineage.after_reply(asked, SCOPE, (Text("x"),))
    assert lineage.lenient(turn(user("three")), SCOPE, (Text("x"),), base) is None
    assert lineage.lenient(turn(user("three"), user("four")), SCOPE, (Text("x"),), base) is not None


@many
@given(turns, texts, questions)
def test_the_lenient_head_is_that_of_the_conversation_without_the_last_message(
    asked: Turn, reply: str, following: Message
) -> None:
    *kept, _ = asked.messages
    head = lineage.lenient(asked, SCOPE, (Text(reply),))
    if not kept or kept[-1].role == "assistant" or not reply.strip():
        assert head is None
    else:
        later = replace(asked, messages=(*kept, assistant(reply), following))
        assert lineage.history(later, SCOPE) == (head, len(kept) + 1)
        assert head != lineage.after_reply(asked, SCOPE, (Text(reply),))
        without = replace(asked, messages=tuple(kept))
        assert head == lineage.after_reply(without, SCOPE, (Text(reply),))
