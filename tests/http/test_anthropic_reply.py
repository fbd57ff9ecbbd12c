"""From the events of a turn to a Messages stream and object, as the official SDK reads them."""

import json
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent, TextBlock, ThinkingBlock, ToolUseBlock
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from maxd.http.anthropic_reply import asked
from maxd.workers.faults import Overloaded, UsageLimit
from maxd.workers.turn import (
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
from tests.http.messaging import HI, read, request

STREAMED: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
THINKS = {"thinking": {"type": "adaptive"}}
USAGE = Usage(3, 5, 7, 11, 2)
END = Finished("end_turn", USAGE)


def sent(*batches: list[Event], **fields: object) -> list[dict[str, Any]]:
    """The events of the stream as JSON; each one's name is its type."""
    encoder = asked(read(request(HI, **fields)), "req_1").encoder()
    out = []
    for chunk in b"".join(map(encoder.encode, batches)).decode().split("\n\n")[:-1]:
        name, data = chunk.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        out.append(event)
    return out


def streamed(*batches: list[Event], **fields: object) -> Message:
    """The message that the SDK makes of the stream."""
    snapshot = None
    buffers: dict[int, bytes] = {}
    for event in sent(*batches, **fields):
        snapshot = accumulate_event(
            event=STREAMED.validate_python(event), current_snapshot=snapshot, json_bufs=buffers
        )
    assert snapshot is not None
    return snapshot


def collected(*batches: list[Event], **fields: object) -> Message:
    collector = asked(read(request(HI, **fields)), "req_1").collector()
    *early, body = map(collector.feed, batches)
    assert early == [None] * len(early)
    assert body is not None
    return Message.model_validate_json(body)


def both(*batches: list[Event], **fields: object) -> Message:
    """The one message, streamed or not."""
    one, other = streamed(*batches, **fields), collected(*batches, **fields)
    assert one.to_dict(mode="json", exclude_unset=False) | {"id": ""} == other.to_dict(
        mode="json", exclude_unset=False
    ) | {"id": ""}
    return other


def test_a_text() -> None:
    found = both(
        [RoundStarted("m"), TextDelta("Hel")], [TextDelta("lo"), RoundEnded("end_turn"), END]
    )
    assert found.content == [TextBlock(type="text", text="Hello")]
    assert (found.role, found.type, found.model) == ("assistant", "message", "sonnet:chat")
    assert (found.stop_reason, found.stop_sequence) == ("end_turn", None)
    assert found.id.startswith("msg_")
    assert found.usage.input_tokens == 3
    assert found.usage.cache_creation_input_tokens == 5
    assert found.usage.cache_read_input_tokens == 7
    assert found.usage.output_tokens == 11
    assert found.usage.output_tokens_details is not None
    assert found.usage.output_tokens_details.thinking_tokens == 2


def test_the_events_of_a_stream_in_their_order() -> None:
    events = sent(
        [RoundStarted("m", Usage(3, 0, 7, 1)), ThinkingDelta("hm")],
        [ThinkingEnded("c2ln"), TextDelta("a"), TextDelta("b")],
        [CallStarted("c1", "f"), CallDelta('{"a"'), CallDelta(":1}"), RoundEnded("tool_use")],
        [Finished("tool_use", USAGE)],
        **THINKS,
    )
    assert [(event["type"], event.get("index")) for event in events] == [
        ("message_start", None),
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("content_block_start", 2),
        ("content_block_delta", 2),
        ("content_block_delta", 2),
        ("content_block_stop", 2),
        ("message_delta", None),
        ("message_stop", None),
    ]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert [delta["type"] for delta in deltas] == [
        "thinking_delta", "signature_delta", "text_delta", "text_delta", "input_json_delta",
        "input_json_delta",
    ]  # fmt: skip
    assert events[0]["message"]["content"] == []
    assert events[0]["message"]["stop_reason"] is None
    assert events[0]["message"]["usage"]["input_tokens"] == 3
    assert events[0]["message"]["usage"]["cache_read_input_tokens"] == 7
    assert events[-2]["usage"]["output_tokens"] == 11


def test_calls() -> None:
    found = both(
        [RoundStarted("m"), TextDelta("See.")],
        [CallStarted("c1", "f"), CallDelta('{"a":'), CallDelta("[1]}")],
        [CallStarted("c2", "g"), CallDelta("{}"), RoundEnded("tool_use")],
        [Finished("tool_use", USAGE)],
    )
    assert found.content == [
        TextBlock(type="text", text="See."),
        ToolUseBlock(type="tool_use", id="c1", name="f", input={"a": [1]}),
        ToolUseBlock(type="tool_use", id="c2", name="g", input={}),
    ]
    assert found.stop_reason == "tool_use"


def test_a_call_that_was_cut_off_has_no_arguments() -> None:
    found = collected([CallStarted("c1", "f"), CallDelta('{"a":'), Finished("max_tokens", USAGE)])
    assert found.content == [ToolUseBlock(type="tool_use", id="c1", name="f", input={})]


THOUGHTS: list[Event] = [
    RoundStarted("m"),
    ThinkingDelta("hm "),
    ThinkingDelta("hm"),
    ThinkingEnded("c2ln"),
    TextDelta("a"),
    END,
]


def test_thinking_is_shown_to_those_who_ask() -> None:
    assert both(THOUGHTS, **THINKS).content == [
        ThinkingBlock(type="thinking", thinking="hm hm", signature="c2ln"),
        TextBlock(type="text", text="a"),
    ]
    assert both(THOUGHTS).content == [TextBlock(type="text", text="a")]
    assert both(THOUGHTS, thinking={"type": "disabled"}).content == [
        TextBlock(type="text", text="a")
    ]


def test_thinking_by_its_signature_alone() -> None:
    found = both(THOUGHTS, thinking={"type": "adaptive", "display": "omitted"})
    assert found.content[0] == ThinkingBlock(type="thinking", thinking="", signature="c2ln")


def test_thinking_without_a_signature_ends_with_what_follows() -> None:
    found = both([ThinkingDelta("hm"), TextDelta("a"), END], **THINKS)
    assert found.content[0] == ThinkingBlock(type="thinking", thinking="hm", signature="")


def test_each_round_has_blocks_of_its_own() -> None:
    found = both(
        [RoundStarted("m"), TextDelta("a"), ToolStarted("Bash"), RoundEnded("tool_use")],
        [RoundStarted("m"), TextDelta("b"), RoundEnded("end_turn"), END],
    )
    assert [block.text for block in found.content if block.type == "text"] == ["a", "b"]


def test_a_broken_round_is_void_where_it_was_not_told() -> None:
    events: list[Event] = [RoundStarted("m"), ThinkingDelta("x"), RoundBroken(), RoundStarted("m")]
    found = collected([*events, TextDelta("b"), END], **THINKS)
    assert found.content == [TextBlock(type="text", text="b")]
    assert len(streamed([*events, TextDelta("b"), END], **THINKS).content) == 2


@pytest.mark.parametrize(
    "reason",
    ["max_tokens", "refusal", "pause_turn", "model_context_window_exceeded"],
)
def test_reasons_are_told_in_the_services_words(reason: str) -> None:
    assert both([TextDelta("a"), Finished(reason, USAGE)]).stop_reason == reason


def test_the_sequence_that_ended_it() -> None:
    found = both([TextDelta("a"), Finished("stop_sequence", USAGE, "END")])
    assert (found.stop_reason, found.stop_sequence) == ("stop_sequence", "END")


def test_an_empty_answer() -> None:
    assert both([END]).content == []


def test_events_that_say_nothing_to_the_client() -> None:
    assert sent([Retrying(1, 1.0, 529), ToolStarted("Bash")]) == []


def test_heartbeats_are_pings() -> None:
    encoder = asked(read(request(HI)), "req_1").encoder()
    assert encoder.heartbeat() == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert encoder.encode([TextDelta("a")]).startswith(b"event: message_start")
    assert encoder.heartbeat() == b'event: ping\ndata: {"type":"ping"}\n\n'


def test_an_error_in_the_middle() -> None:
    encoder = asked(read(request(HI)), "req_1").encoder()
    encoder.encode([TextDelta("a")])
    name, data, *rest = encoder.error(Overloaded("full")).decode().split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: ")) == {
        "type": "error",
        "error": {
            "type": "overloaded_error",
            "message": "full",
            "details": {"error_code": "overloaded"},
        },
        "request_id": "req_1",
    }
    assert rest == ["", ""]
    assert b"rate_limit_error" in encoder.error(UsageLimit("usage limit"))


EVENTS = st.one_of(
    st.builds(TextDelta, st.text(alphabet="ab\n", min_size=1, max_size=3)),
    st.builds(ThinkingDelta, st.just("t")),
    st.just(ThinkingEnded("s")),
    st.just(RoundStarted("m")),
    st.just(RoundEnded("tool_use")),
    st.just(ToolStarted("Bash")),
)
CALLS = st.builds(lambda: [CallStarted("c", "f"), CallDelta("{"), CallDelta("}")])


@given(st.lists(st.lists(EVENTS, max_size=4) | CALLS, max_size=6), st.booleans())
def test_a_stream_and_an_object_say_the_same(batches: list[list[Event]], thinks: bool) -> None:
    both(*batches, [END], **(THINKS if thinks else {}))


@given(st.lists(st.lists(EVENTS | st.just(RoundBroken()), max_size=4) | CALLS, max_size=6))
def test_blocks_open_and_close_in_turn(batches: list[list[Event]]) -> None:
    opened = None
    count = 0
    events = sent(*batches, [END], **THINKS)
    assert events[0]["type"] == "message_start"
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    for event in events[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert opened is None
                assert event["index"] == count
                opened = count
                count += 1
            case "content_block_delta":
                assert event["index"] == opened
            case kind:
                assert kind == "content_block_stop"
                assert event["index"] == opened
                opened = None
    assert opened is None
