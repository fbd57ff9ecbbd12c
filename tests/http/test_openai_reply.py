"""OpenAI chat completions, outwards: read back with the types of OpenAI's own SDK."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from maxd.http.openai_reply import FINISH, Collector, StreamEncoder
from maxd.workers.faults import UpstreamOverloaded, WorkerDied
from maxd.workers.turn import (
    AccountLimit,
    CallDelta,
    CallStarted,
    Event,
    Finished,
    Retrying,
    RoundBroken,
    RoundEnded,
    RoundStarted,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolStarted,
    Usage,
)

USAGE = Usage(
    input_tokens=3,
    cache_creation_tokens=20,
    cache_read_tokens=100,
    output_tokens=7,
    thinking_tokens=5,
)
USAGE_TOLD = {
    "prompt_tokens": 123,
    "completion_tokens": 7,
    "total_tokens": 130,
    "prompt_tokens_details": {"cached_tokens": 100},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
SILENT: list[Event] = [
    RoundStarted("m"),
    ThinkingDelta("hm"),
    ThinkingEnded("s1"),
    ToolStarted("Bash"),
    RoundEnded("tool_use"),
    RoundBroken(),
    Retrying(1, 0.5, 529),
    AccountLimit("allowed"),
]
END = Finished("end_turn", USAGE)
DONE = b"data: [DONE]\n\n"


def encoder(*, include_usage: bool = False, show_thinking: bool = False) -> StreamEncoder:
    return StreamEncoder(
        reply_id="chatcmpl-1",
        created=1700000000,
        model="sonnet:chat",
        include_usage=include_usage,
        show_thinking=show_thinking,
    )


def events(data: bytes) -> list[str]:
    """The data of the server-sent events, as every client cuts them: by lines."""
    assert data == b"" or data.endswith(b"\n\n")
    assert b"\r" not in data
    lines = data.split(b"\n\n")[:-1]
    assert all(line.startswith(b"data: ") and b"\n" not in line for line in lines)
    return [line.removeprefix(b"data: ").decode() for line in lines]


def chunks(data: bytes) -> list[dict[str, Any]]:
    """The chunks, each of which the SDK's own type accepts without a change."""
    told = [json.loads(event) for event in events(data) if event != "[DONE]"]
    for chunk in told:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    return told


def deltas(data: bytes) -> list[dict[str, Any]]:
    return [chunk["choices"][0]["delta"] for chunk in chunks(data) if chunk["choices"]]


ROLE = {"role": "assistant", "content": ""}


def test_a_stream_begins_with_the_role_and_ends_with_done() -> None:
    data = encoder().encode([*SILENT, TextDelta("Hel"), TextDelta("lo"), END])
    assert data.endswith(DONE)
    assert data.count(DONE) == 1
    assert deltas(data) == [ROLE, {"content": "Hel"}, {"content": "lo"}, {}]
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks(data)]
    assert finishes == [None, None, None, "stop"]


def test_a_chunk_has_the_keys_of_openais_own() -> None:
    first, *_ = chunks(encoder().encode([TextDelta("x")]))
    assert first == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "sonnet:chat",
        "choices": [{"index": 0, "delta": ROLE, "logprobs": None, "finish_reason": None}],
    }


def test_what_has_no_words_in_this_dialect_is_not_sent() -> None:
    stream = encoder()
    assert stream.encode([]) == b""
    assert stream.encode(SILENT) == b""
    assert deltas(stream.encode([TextDelta("x")])) == [ROLE, {"content": "x"}]


def test_an_answer_without_text_is_a_whole_stream_too() -> None:
    assert deltas(encoder().encode([END])) == [ROLE, {}]


@pytest.mark.parametrize("include_usage", [False, True])
def test_usage_comes_once_if_asked_for_after_the_finish_and_before_done(
    include_usage: bool,
) -> None:
    data = encoder(include_usage=include_usage).encode([TextDelta("x"), END])
    told = chunks(data)
    with_usage = [chunk for chunk in told if chunk.get("usage")]
    if not include_usage:
        assert not any("usage" in chunk for chunk in told)
        return
    assert with_usage == [told[-1]]
    assert told[-1]["choices"] == []
    assert told[-1]["usage"] == USAGE_TOLD
    assert told[-2]["choices"][0]["finish_reason"] == "stop"
    assert all(chunk["usage"] is None for chunk in told[:-1])
    assert events(data)[-1] == "[DONE]"


@pytest.mark.parametrize("include_usage", [False, True])
def test_a_heartbeat_is_a_chunk_that_says_nothing(include_usage: bool) -> None:
    stream = encoder(include_usage=include_usage)
    assert deltas(stream.heartbeat()) == [ROLE, {}]
    assert deltas(stream.heartbeat()) == [{}]
    beat = chunks(stream.heartbeat())[0]
    assert beat["choices"][0]["finish_reason"] is None
    assert beat.get("usage") is None
    assert deltas(stream.encode([TextDelta("x")])) == [{"content": "x"}]


@pytest.mark.parametrize("begun", [False, True])
def test_a_stream_that_fails_ends_with_the_error_and_not_with_done(begun: bool) -> None:
    stream = encoder()
    if begun:
        stream.encode([TextDelta("half")])
    (event,) = events(stream.error(WorkerDied("the claude CLI ended by itself")))
    assert json.loads(event) == {
        "error": {
            "message": "the claude CLI ended by itself",
            "type": "server_error",
            "param": None,
            "code": "worker_died",
        }
    }


def test_an_error_event_is_on_one_line_whatever_it_says() -> None:
    (event,) = events(encoder().error(UpstreamOverloaded("two\r\n\nlines\u2028", param="x\n")))
    assert json.loads(event)["error"]["message"] == "two\r\n\nlines\u2028"


# Calls of the client's functions

CALLS: list[Event] = [
    TextDelta("Let me look."),
    CallStarted("call1", "read"),
    CallDelta('{"path":'),
    CallDelta('"a"}'),
    CallStarted("call2", "now"),
    CallDelta("{}"),
]
CALLED = Finished("tool_use", USAGE)


def test_calls_come_index_by_index_and_the_text_before_them_stays() -> None:
    data = encoder().encode([*CALLS, CALLED])
    assert deltas(data) == [
        ROLE,
        {"content": "Let me look."},
        {"tool_calls": [
            {"index": 0, "id": "call1", "type": "function",
             "function": {"name": "read", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"path":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"a"}'}}]},
        {"tool_calls": [
            {"index": 1, "id": "call2", "type": "function",
             "function": {"name": "now", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]  # fmt: skip
    assert chunks(data)[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_calls_in_a_whole_reply() -> None:
    choice = whole_reply([*CALLS, CALLED])["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "Let me look.",
        "refusal": None,
        "tool_calls": [
            {
                "id": "call1",
                "type": "function",
                "function": {"name": "read", "arguments": '{"path":"a"}'},
            },
            {"id": "call2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
        ],
    }
    without_text = whole_reply([*CALLS[1:], CALLED])["choices"][0]["message"]
    assert without_text["content"] is None


@pytest.mark.parametrize("reason", ["end_turn", "max_tokens", "stop_sequence"])
def test_where_calls_were_made_the_reply_ends_with_them(reason: str) -> None:
    end = Finished(reason, Usage())
    assert whole_reply([*CALLS, end])["choices"][0]["finish_reason"] == "tool_calls"
    assert (
        chunks(encoder().encode([*CALLS, end]))[-1]["choices"][0]["finish_reason"] == "tool_calls"
    )


def test_thinking_is_shown_where_it_is_wanted() -> None:
    thought: list[Event] = [ThinkingDelta("h"), ThinkingDelta("m"), ThinkingEnded("s"),
                            TextDelta("x"), END]  # fmt: skip
    told = deltas(encoder(show_thinking=True).encode(thought))
    assert told == [
        ROLE,
        {"reasoning_content": "h"},
        {"reasoning_content": "m"},
        {"content": "x"},
        {},
    ]
    assert deltas(encoder().encode(thought)) == [ROLE, {"content": "x"}, {}]
    message = whole_reply(thought, show_thinking=True)["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("hm", "x")
    assert "reasoning_content" not in whole_reply(thought)["choices"][0]["message"]
    plain = whole_reply([TextDelta("x"), END], show_thinking=True)["choices"][0]["message"]
    assert "reasoning_content" not in plain


ALL = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1).map(TextDelta),
    st.sampled_from(SILENT),
)


@given(st.lists(ALL), st.lists(st.integers(0, 20)), st.booleans(), st.booleans())
def test_however_events_come_the_stream_is_the_same(
    before: list[Event], cuts: list[int], beats: bool, include_usage: bool
) -> None:
    told = [*before, END]
    stream = encoder(include_usage=include_usage)
    places = [0, *sorted(min(cut, len(told)) for cut in cuts), len(told)]
    data = b""
    for begin, end in pairwise(places):
        if beats and begin < len(told):
            data += stream.heartbeat()
        data += stream.encode(told[begin:end])
    whole = encoder(include_usage=include_usage).encode(told)
    assert [d for d in deltas(data) if d] == [d for d in deltas(whole) if d]
    assert deltas(data)[0] == ROLE
    assert deltas(data).count(ROLE) == 1
    constant = {(c["id"], c["object"], c["created"], c["model"]) for c in chunks(data)}
    assert constant == {("chatcmpl-1", "chat.completion.chunk", 1700000000, "sonnet:chat")}
    finished = [c for c in chunks(data) if c["choices"] and c["choices"][0]["finish_reason"]]
    assert len(finished) == 1
    assert sum(bool(c.get("usage")) for c in chunks(data)) == include_usage
    assert events(data)[-1] == "[DONE]"
    text = "".join(event.text for event in told if isinstance(event, TextDelta))
    assert "".join(d.get("content", "") for d in deltas(data)) == text
    assert whole_reply(told)["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "stop"),
        ("pause_turn", "stop"),
        ("a_later_release", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
    ],
)
def test_stop_reasons_are_told_in_openais_words(reason: str, finish: str) -> None:
    end = Finished(reason, Usage())
    assert chunks(encoder().encode([end]))[-1]["choices"][0]["finish_reason"] == finish
    assert whole_reply([end])["choices"][0]["finish_reason"] == finish
    assert set(FINISH.values()) <= {"stop", "length", "content_filter"}


# A reply in one piece


def whole_reply(told: list[Event], *, show_thinking: bool = False) -> dict[str, Any]:
    collector = Collector(
        reply_id="chatcmpl-1",
        created=1700000000,
        model="sonnet:chat",
        show_thinking=show_thinking,
    )
    *before, last = told
    for event in before:
        assert collector.feed([event]) is None
    body = collector.feed([last])
    assert body is not None
    reply: dict[str, Any] = json.loads(body)
    ChatCompletion.model_validate(reply, strict=True)
    return reply


def test_a_whole_reply_has_the_keys_of_openais_own() -> None:
    assert whole_reply([*SILENT, TextDelta("Hel"), TextDelta("lo"), END]) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "sonnet:chat",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE_TOLD,
    }


def test_there_is_no_reply_before_the_end() -> None:
    collector = Collector(reply_id="x", created=1, model="m")
    assert collector.feed([]) is None
    assert collector.feed([*SILENT, TextDelta("x")]) is None
