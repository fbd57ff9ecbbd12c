"""What a conversation is known by after a reply."""

import pytest
from hypothesis import assume, given

from maxd.daemon import lineage
from maxd.workers.turn import Message, Text, Turn
from tests.daemon.histories import BASE, SCOPE, many, questions, texts, turn, turns


@many
@given(turns, texts, questions)
def test_the_head_after_a_reply_is_that_of_the_next_request(
    asked: Turn, reply: str, following: Message
) -> None:
    assume(reply.strip())
    head = lineage.after_reply(asked, SCOPE, (Text(reply),))
    answer = Message("assistant", (Text(reply),))
    later = turn(
        *asked.messages,
        answer,
        following,
        system=asked.system,
        profile=asked.profile,
        model=asked.model,
    )
    assert lineage.history(later, SCOPE) == (head, len(asked.messages) + 1)
    # And where the client sends only what is new, it follows the head.
    only = turn(following, system=asked.system, profile=asked.profile, model=asked.model)
    assert lineage.after_reply(only, SCOPE, (Text("x"),), head) == lineage.after_reply(
        later, SCOPE, (Text("x"),)
    )


@pytest.mark.parametrize("reply", ["", " ", "\n\t ", "\u00a0\u2003"])
def test_a_blank_reply_has_no_head(reply: str) -> None:
    """No client sends it back, so no history could have it."""
    assert lineage.after_reply(BASE, SCOPE, (Text(reply),)) is None


@many
@given(turns, turns)
def test_no_history_is_known_by_a_blank_reply(asked: Turn, other: Turn) -> None:
    blank = lineage.after_blank(asked, SCOPE)
    assert blank not in (lineage.history(asked, SCOPE)[0], lineage.history(other, SCOPE)[0])
    assert blank != lineage.after_messages(asked, SCOPE)
