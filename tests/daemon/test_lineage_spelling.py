"""What clients do to a conversation on the way back: what is the same, and what is not."""

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.daemon import lineage
from maxd.http.openai_chat import decode
from maxd.workers.binding import binding
from maxd.workers.profiles import CHAT
from maxd.workers.turn import Message, Part, Text, Thinking, ToolCall, ToolResult, Turn
from tests.daemon.histories import SCOPE, assistant, many, turn, user

Spelling: TypeAlias = tuple[bool, str]
spellings = st.tuples(st.booleans(), st.sampled_from(("", " ", "\n", " \r\n\t", "\u00a0")))


def body(said: Sequence[tuple[str, str]], spelt: Sequence[Spelling], turned: bool) -> bytes:
    """A request as a client would write it."""
    out = []
    for (role, text), (as_parts, space) in zip(said, spelt, strict=True):
        text += space
        content: object = [{"type": "text", "text": text}] if as_parts else text
        message = {"role": role, "content": content}
        out.append(dict(reversed(message.items())) if turned else message)
    return json.dumps({"messages": out, "model": "m"}, ensure_ascii=turned).encode()


utf8 = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
said_texts = utf8.filter(str.strip)


# What clients do to it on the way back


@many
@given(st.lists(said_texts, min_size=1, max_size=3), said_texts, said_texts, st.data())
def test_another_spelling_in_json_is_the_same_conversation(
    asked: list[str], reply: str, following: str, data: st.DataObject
) -> None:
    said = [("system", "Be brief."), *(("user", text) for text in asked)]
    spelt = data.draw(st.lists(spellings, min_size=len(said), max_size=len(said)))
    first = decode(body(said, spelt, data.draw(st.booleans())), lambda model: ("chat", model)).turn
    said += [("assistant", reply), ("user", following)]
    spelt = data.draw(st.lists(spellings, min_size=len(said), max_size=len(said)))
    second = decode(body(said, spelt, data.draw(st.booleans())), lambda model: ("chat", model)).turn
    head = lineage.after_reply(first, SCOPE, (Text(reply),))
    assert (head, len(asked) + 1) == lineage.history(second, SCOPE)


@pytest.mark.parametrize("text", ["\\ud83d", "\\ude00\\ud83d", "a\\udfff"])
def test_no_text_without_an_encoding_gets_as_far_as_here(text: str) -> None:
    with pytest.raises(Exception, match="lone surrogates"):
        decode(
            b'{"model": "m", "messages": [{"role": "user", "content": "%b"}]}' % text.encode(), find
        )


def find(model: str) -> tuple[str, str]:
    return "chat", model


# Cost


def test_clients_spell_calls_and_results_in_their_own_way() -> None:
    def asked(answer: Sequence[Part], results: Sequence[Part]) -> Turn:
        said = Message("assistant", tuple(answer)), Message("user", tuple(results))
        return turn(user("one"), *said, assistant("three"), user("four"))

    noon, rain = ToolResult("a", (Text("noon"),)), ToolResult("b", (Text("rain "),))
    called = ToolCall("a", "clock", '{"x": 1.0, "y": [null, "\\u00e9"]}'), ToolCall("b", "f", "{}")
    spelt = ToolCall("a", "clock", '{"y":[null,"é"],"x":1}'), ToolCall("b", "f", " { } ")
    head = lineage.history(asked((Text("Let me see."), *called), (noon, rain)), SCOPE)
    others = [
        asked((Text("Let me "), Text("see.\n"), *spelt), (rain, noon)),
        asked(
            (called[0], Text("Let me see."), called[1]), (noon, ToolResult("b", (Text("rain"),)))
        ),
        asked((Thinking("Hm.", "signed"), Text("Let me see."), *called), (noon, rain)),
    ]
    assert all(lineage.history(other, SCOPE) == head for other in others)
    assert (
        lineage.history(asked((Text("Let me see."), *reversed(called)), (noon, rain)), SCOPE)
        != head
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"system": ("Be brief.",)}, {"system": ("Be brief.\n",)}),
        ({"schema": '{"type":"object"}'}, {"schema": '{ "type": "object" }'}),
    ],
    ids=["system", "schema"],
)
def test_a_worker_is_bound_to_the_letter_of_what_a_root_takes_for_the_same(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    turns = [Turn(profile="chat", model="sonnet", messages=(), **how) for how in (one, other)]
    roots = [lineage.root(turn, "c") for turn in turns]
    assert roots[0] == roots[1]
    bound = [lineage.binding(root, turn, None) for root, turn in zip(roots, turns, strict=True)]
    assert bound[0] != bound[1]
    assert bound[0] == lineage.binding(roots[0], turns[0], None)
    # Which is what the worker compares.
    lines = [binding(CHAT, turn, functions=False) for turn in turns]
    assert lines[0] != lines[1]
