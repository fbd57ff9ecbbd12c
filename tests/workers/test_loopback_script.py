"""What the loopback model answers: scripts, directives, and the echo."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.workers.loopback.environment import environment
from maxd.workers.loopback.reply import Error, Reply, TextBlock, ToolUseBlock
from maxd.workers.loopback.script import BadDirective, Request, parse_directive, play, reply_to


def request(*messages: dict[str, Any]) -> Request:
    return Request(path="/v1/messages", headers={}, body={"messages": list(messages)})


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


ASSISTANT = {"role": "assistant", "content": [text("…")]}
TOOL_RESULT = user([{"type": "tool_result", "tool_use_id": "t", "content": "<<loopback 1>>"}])
SYSTEM = {"role": "system", "content": '<<loopback {"text":"not me"} >>'}
REMINDER = '<system-reminder><<loopback {"text":"nor me"} >></system-reminder>'
THREE = 'go on <<loopback {"replies":[{"text":"a"},{"tool":"Bash"},{"text":"c"}]} >> please'


def answer(*messages: dict[str, Any]) -> Reply:
    return reply_to(request(*messages), play(None))


@pytest.mark.parametrize(
    "content", [THREE, [text(REMINDER), text(THREE)], [text(THREE + REMINDER)]]
)
def test_which_reply_is_due_follows_from_the_request_alone(content: object) -> None:
    round_trip = [ASSISTANT, TOOL_RESULT]
    first = user(content)
    assert answer(first, SYSTEM) == Reply(text="a")
    assert answer(first, SYSTEM, *round_trip) == Reply(tool="Bash")
    assert answer(first, *round_trip, *round_trip) == Reply(text="c")


def test_a_later_directive_counts_and_an_exhausted_one_gives_way_to_the_echo() -> None:
    one = user('<<loopback {"text":"only"}>>')
    assert answer(user(THREE), ASSISTANT, one) == Reply(text="only")
    echoed = answer(one, ASSISTANT, user("and now?")).text
    assert echoed is not None
    assert "and now?" in echoed
    assert "2 earlier messages" in echoed


def test_a_directive_may_hold_its_own_delimiters_and_another_directive() -> None:
    inner = 'sub <<loopback {"text":"inner >>"} >>'
    outer = json.dumps({"tool": "Agent", "input": {"prompt": inner, "sh": "cat <<E >>f"}})
    reply = answer(user(f"x <<loopback {outer} >> y"))
    assert reply.input == {"prompt": inner, "sh": "cat <<E >>f"}


@pytest.mark.parametrize(
    ("directive", "reason"),
    [
        ("<<loopback", "broken"),
        ("<<loopback {'text':1}>>", "broken"),
        ('<<loopback {"text":"x"}', "not followed by"),
        ('<<loopback {"txt":"x"}>>', "unknown field `txt`"),
        ('<<loopback {"replies":[{"pace":-1}]}>>', r"\$.replies\[0\].pace"),
        ('<<loopback {"replies":[],"x":1}>>', "unknown field `x`"),
        ('<<loopback {"delay":NaN}>>', "NaN is not JSON"),
        ('<<loopback {"delay":1e999}>>', "<= 86400"),
        ('<<loopback {"error":200}>>', ">= 400"),
        ('<<loopback {"headers":{"content-length":"1"}}>>', "regex"),
        ('<<loopback {"headers":{"x":"a\\r\\nb: c"}}>>', "regex"),
        ('<<loopback {"text":"x","words":3}>>', "either `text` or `words`"),
        ('<<loopback {"cut":1,"stall":1}>>', "either `cut` or `stall`"),
        ("<<loopback " + "[" * 100_000, "too deep|broken"),
        ("<<loopback [1]>>", "Expected `object`"),
    ],
)
def test_a_malformed_directive_says_what_is_wrong(directive: str, reason: str) -> None:
    with pytest.raises(BadDirective, match=reason):
        parse_directive(directive)


def test_the_echo_is_deterministic_and_ignores_what_the_cli_added() -> None:
    messages = (user([text("<system-reminder>noise</system-reminder>"), text("What is maxd?")]),)
    assert answer(*messages) == answer(*messages, SYSTEM)
    echoed = answer(*messages).text or ""
    assert "You asked: What is maxd?\n" in echoed
    assert "noise" not in echoed
    assert "no earlier message" in echoed


@pytest.mark.parametrize("content", [None, 5, [5, {"type": "text", "text": 5}, {}], "", []])
def test_odd_messages_are_answered_too(content: object) -> None:
    assert "(no text)" in (answer(user(content)).text or "")


def test_a_script_comes_first_and_may_pass() -> None:
    script = play([Reply(text="a"), Reply(text="b")])
    replies = [reply_to(request(user(THREE)), script).text for _ in range(4)]
    assert replies == ["a", "b", "b", "b"]
    assert reply_to(request(user(THREE)), play(lambda _: None)).text == "a"
    assert reply_to(request(user("x")), play(lambda _: Reply(text="mine"))).text == "mine"


def test_short_and_long_form_mean_the_same() -> None:
    short = Reply(text="hi", tool="Bash", input={"command": "ls"}, pace=0.5)
    long = Reply(blocks=(TextBlock("hi", pace=0.5), ToolUseBlock("Bash", {"command": "ls"})))
    assert short.content() == long.content()
    assert msgspec.json.decode(msgspec.json.encode(long), type=Reply) == long
    assert Reply(words=3).content() == (TextBlock("word1 word2 word3"),)
    with pytest.raises(ValueError, match="blocks"):
        Reply(text="a", blocks=())
    with pytest.raises(ValueError, match="`input` needs"):
        Reply(input={"a": 1})
    with pytest.raises(ValueError, match="with `after`"):
        Reply(error=Error(after=1), stall=2)


@given(st.text(), st.integers(0, 5), st.sampled_from(["words", "characters"]))
def test_chunks_join_up_to_the_text(whole: str, chunk: int, unit: Any) -> None:
    chunks = list(TextBlock(whole, 0, chunk, unit).chunks())
    assert "".join(chunks) == whole
    assert all(chunks)


def test_the_environment_names_one_made_up_credential() -> None:
    key = environment("http://127.0.0.1:1", "/home/x")
    login = environment("http://127.0.0.1:1", "/home/x", subscription=True)
    assert key["ANTHROPIC_BASE_URL"] == login["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:1"
    assert key["HOME"] == "/home/x"
    assert set(key) ^ set(login) == {"ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"}
    assert "CLAUDE_CONFIG_DIR" not in key
