"""OpenAI Responses, outwards: events of a turn as those of a stream, and as one object."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from maxd.http.responses_items import new_response_id
from maxd.http.responses_reply import Collector, Reply, StreamEncoder, begin
from maxd.http.responses_request import parse
from maxd.http.responses_thinking import seal, unseal
from maxd.workers.faults import UpstreamFault
from maxd.workers.turn import (
    CallDelta,
    CallStarted,
    Event,
    Finished,
    RoundEnded,
    RoundStarted,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ThinkingEnded,
    ToolStarted,
    Usage,
)
from tests.http.responding import body, function

if TYPE_CHECKING:
    from maxd.http.responses_objects import ResponseObject

USAGE = Usage(
    input_tokens=1,
    cache_creation_tokens=20,
    cache_read_tokens=300,
    output_tokens=40,
    thinking_tokens=5,
)
DONE = Finished("end_turn", USAGE)
# The types of the SDK refuse what is not as OpenAI's API has it.
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def reply(*, seals: bool = False, summarizes: bool = False, **fields: object) -> Reply:
    parsed = parse(body(**fields))
    return Reply(
        begin(parsed, new_response_id(), stores=True),
        summarizes=summarizes,
        seals=seals,
        searches=True,
    )


def events_of(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream, each checked against the SDK's types."""
    found = []
    for block in data.decode().split("\n\n")[:-1]:
        name, _, payload = block.partition("\n")
        assert "\n" not in payload
        event = json.loads(payload.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_python(event, strict=False)
        found.append(event)
    return found


def stream(answer: Reply, *batches: Sequence[Event]) -> list[dict[str, Any]]:
    encoder = StreamEncoder(answer)
    told = events_of(b"".join(encoder.encode(batch) for batch in batches))
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    return told


def kinds(told: Sequence[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in told]


CALLING = (
    RoundStarted("m"),
    TextDelta("I "),
    TextDelta("see"),
    CallStarted("call1", "f"),
    CallDelta('{"a":'),
    CallDelta("1}"),
    CallStarted("call2", "f"),
    CallDelta("{}"),
    RoundEnded("tool_use"),
    Finished("tool_use", USAGE),
)


def test_text_and_calls_are_items_one_after_the_other() -> None:
    told = stream(reply(tools=[function()]), CALLING[:3], CALLING[3:6], CALLING[6:])
    assert kinds(told) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    output = told[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["message", "function_call", "function_call"]
    assert output[0]["content"][0]["text"] == "I see"
    assert (output[1]["call_id"], output[1]["arguments"]) == ("call1", '{"a":1}')
    assert len({item["id"] for item in output}) == 3
    # An item is told as it was when it was told, and by one id.
    assert told[2]["item"] == {**output[0], "status": "in_progress", "content": []}
    assert told[9]["item"] == {**output[1], "status": "in_progress", "arguments": ""}
    for event in told[2:-1]:
        assert (
            event.get("item_id", output[event["output_index"]]["id"])
            == (output[event["output_index"]]["id"])
        )


def test_one_object_is_what_the_stream_ends_with() -> None:
    answer = reply(tools=[function()])
    collector = Collector(answer)
    assert collector.feed(CALLING[:4]) is None
    whole = collector.feed(CALLING[4:])
    assert whole is not None
    found = json.loads(whole)
    Response.model_validate(found)
    streamed = stream(reply(tools=[function()]), CALLING)[-1]["response"]
    for response in (found, streamed):
        response["completed_at"] = response["created_at"] = 0
        own = response.pop("id").removeprefix("resp_")
        for item in response["output"]:
            item["id"] = item["id"].replace(own, "")
    assert found == streamed
    assert found["usage"] == {
        "input_tokens": 321,
        "input_tokens_details": {"cached_tokens": 300, "cache_write_tokens": 20},
        "output_tokens": 40,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 361,
    }


def test_what_was_asked_for_is_given_back() -> None:
    fields: dict[str, Any] = {
        "instructions": "i",
        "metadata": {"a": "b"},
        "max_output_tokens": 9,
        "parallel_tool_calls": False,
        "tools": [function(strict=None, description="d")],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        "previous_response_id": "resp_1",
    }
    told = stream(reply(**fields, reasoning={"effort": "low", "summary": "auto"}), [DONE])
    for event in (told[0], told[-1]):
        response = event["response"]
        assert {name: response[name] for name in fields if name != "text"} == {
            name: value for name, value in fields.items() if name != "text"
        }
        assert response["text"]["format"] == fields["text"]["format"]
        assert response["reasoning"] == {"effort": "low", "summary": "auto"}
        assert response["store"] is True
    assert told[0]["response"]["status"] == "in_progress"
    assert told[0]["response"]["output"] == []


THINKING = (ThinkingDelta("hm "), ThinkingDelta("hm"), ThinkingEnded("sig"), TextDelta("a"), DONE)


def test_line_breaks_of_the_request_end_no_line_of_the_stream() -> None:
    told = {
        "tools": [function("f")],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "text"}},
    }
    parsed = parse(json.dumps(json.loads(body(**told)), indent=1).encode())
    answer = Reply(
        begin(parsed, new_response_id(), stores=True), summarizes=False, seals=False, searches=True
    )
    events = stream(answer, [TextDelta("hi"), DONE])
    for each in (events[0], events[-1]):
        assert each["response"]["tools"] == told["tools"]
        assert each["response"]["tool_choice"] == told["tool_choice"]


def test_thinking_is_a_summary() -> None:
    told = stream(reply(summarizes=True), THINKING)
    assert kinds(told)[2:9] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    thought = told[-1]["response"]["output"][0]
    assert thought["summary"] == [{"type": "summary_text", "text": "hm hm"}]
    assert "encrypted_content" not in thought


@pytest.mark.parametrize("summarizes", [False, True])
def test_thinking_can_be_taken_along(summarizes: bool) -> None:
    answer = reply(summarizes=summarizes, seals=True)
    told = stream(answer, THINKING)
    thought, text = told[-1]["response"]["output"]
    assert [part["text"] for part in thought["summary"]] == (["hm hm"] if summarizes else [])
    assert thought["encrypted_content"] == seal("hm hm", "sig")
    assert text["type"] == "message"
    item = answer.response.output[0]
    assert item.id == thought["id"]
    assert unseal(item) == Thinking("hm hm", "sig")  # type: ignore[arg-type]


def test_thinking_that_nobody_asked_for_is_not_told() -> None:
    told = stream(reply(), THINKING)
    assert [item["type"] for item in told[-1]["response"]["output"]] == ["message"]


def test_a_search_is_told() -> None:
    events = (
        ToolStarted("WebSearch"),
        ToolStarted("Bash"),
        RoundStarted("m"),
        TextDelta("a"),
        DONE,
    )
    told = stream(reply(), events)
    assert kinds(told)[2:7] == [
        "output_item.added",
        "web_search_call.in_progress",
        "web_search_call.searching",
        "web_search_call.completed",
        "output_item.done",
    ]
    search, _ = told[-1]["response"]["output"]
    assert (search["type"], search["status"]) == ("web_search_call", "completed")


@pytest.mark.parametrize(
    ("stop_reason", "reason"),
    [
        ("max_tokens", "max_output_tokens"),
        ("model_context_window_exceeded", "max_output_tokens"),
        ("refusal", "content_filter"),
    ],
)
def test_an_answer_that_was_cut_is_incomplete(stop_reason: str, reason: str) -> None:
    told = stream(reply(), [TextDelta("a"), Finished(stop_reason, USAGE)])
    assert kinds(told)[-1] == "incomplete"
    response = told[-1]["response"]
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": reason}
    assert response["output"][0]["status"] == "incomplete"
    assert response["completed_at"] is None


def test_heartbeats_and_failures_are_numbered_too() -> None:
    encoder = StreamEncoder(reply())
    data = encoder.heartbeat() + encoder.encode([TextDelta("a")]) + encoder.heartbeat()
    data += encoder.error(UpstreamFault("it broke"))
    told = events_of(data)
    assert kinds(told) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "in_progress",
        "failed",
    ]
    assert [event["sequence_number"] for event in told] == list(range(7))
    assert told[5]["response"]["output"] == []
    assert told[6]["response"]["status"] == "failed"
    assert told[6]["response"]["error"] == {"code": "server_error", "message": "it broke"}


def test_a_stream_may_fail_before_it_begins() -> None:
    told = events_of(StreamEncoder(reply()).error(UpstreamFault("it broke")))
    assert kinds(told) == ["created", "in_progress", "failed"]


def test_the_end_is_told_of_before_it_is_sent() -> None:
    ended: list[ResponseObject] = []
    answer = reply()
    answer.on_end = ended.append
    encoder = StreamEncoder(answer)
    encoder.encode([TextDelta("a")])
    assert ended == []
    encoder.encode([DONE])
    assert [response.status for response in ended] == ["completed"]
