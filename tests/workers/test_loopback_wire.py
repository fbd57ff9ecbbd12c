"""The loopback model's bytes: events, JSON, faults and limits."""

import json
from typing import Any

import pytest

from maxd.workers.loopback.reply import (
    Error,
    Limit,
    Reply,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
    Usage,
)
from maxd.workers.loopback.usage import input_tokens
from maxd.workers.loopback.wire import Answer, answer

STREAM: dict[str, Any] = {"model": "claude-x", "stream": True, "messages": []}
WHOLE: dict[str, Any] = {"model": "claude-x", "messages": []}


def answered(reply: Reply, body: dict[str, Any] = STREAM) -> Answer:
    return answer(reply, body, 400, "0007", 1_000_000.0)


def sent(reply: Reply, body: dict[str, Any] = STREAM) -> bytes:
    return b"".join(frame.data for frame in answered(reply, body).frames)


def events(reply: Reply) -> list[dict[str, Any]]:
    parsed = []
    for block in sent(reply).decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        parsed.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {parsed[-1]['type']}"
    return parsed


def kinds(reply: Reply) -> list[str]:
    return [event["type"].replace("content_block_", "") for event in events(reply)]


def test_a_stream_tells_the_whole_message() -> None:
    blocks = (
        ThinkingBlock("I see"),
        TextBlock("one two"),
        ToolUseBlock("Bash", {"command": "ls é"}),
        ToolUseBlock("Read", id="toolu_mine"),
    )
    told = [event for event in events(Reply(blocks=blocks)) if event["type"] != "ping"]
    assert told[0]["message"]["id"] == "msg_0007"
    assert told[0]["message"]["model"] == "claude-x"
    starts = [e["content_block"] for e in told if e["type"] == "content_block_start"]
    assert [start["type"] for start in starts] == ["thinking", "text", "tool_use", "tool_use"]
    assert [start.get("id") for start in starts[2:]] == ["toolu_0007_2", "toolu_mine"]
    deltas = [(e["index"], e["delta"]) for e in told if e["type"] == "content_block_delta"]
    assert "".join(d.get("thinking", "") for _, d in deltas) == "I see"
    assert [d["text"] for _, d in deltas if d["type"] == "text_delta"] == ["one", " two"]
    arguments = "".join(d["partial_json"] for i, d in deltas if i == 2)
    assert json.loads(arguments) == {"command": "ls é"}
    assert sum(d["type"] == "signature_delta" for _, d in deltas) == 1
    assert [e["index"] for e in told if e["type"] == "content_block_stop"] == [0, 1, 2, 3]
    assert told[-2]["delta"]["stop_reason"] == "tool_use"
    assert told[-1] == {"type": "message_stop"}


def test_the_whole_message_says_the_same_as_the_stream() -> None:
    reply = Reply(thinking="hm", text="hi", tool="Bash", input={"a": 1})
    message = json.loads(sent(reply, WHOLE))
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]
    assert message["stop_reason"] == "tool_use"
    assert message["usage"] == events(reply)[-2]["usage"]
    assert dict(answered(reply, WHOLE).headers)["content-length"] == str(len(sent(reply, WHOLE)))


def test_pace_is_between_the_chunks() -> None:
    reply = Reply(text="a b c", pace=0.5, delay=2)
    assert [frame.wait for frame in answered(reply).frames if frame.wait] == [0.5, 0.5]
    assert answered(reply).delay == 2
    assert answered(reply, WHOLE).delay == 3
    assert answered(reply).patient
    assert not answered(Reply(text="a b c")).patient


def test_usage_is_estimated_unless_given() -> None:
    assert events(Reply(text="x" * 40))[-2]["usage"] == {
        "input_tokens": 100,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 10,
    }
    given = Usage(input=1, output=2, cache_read=3, cache_creation=4)
    told = events(Reply(text="x", usage=given, stop_reason="max_tokens"))
    assert list(told[-2]["usage"].values()) == [1, 4, 3, 2]
    assert told[-2]["delta"]["stop_reason"] == "max_tokens"
    assert told[0]["message"]["usage"]["output_tokens"] == 1


def test_images_count_by_the_piece() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "A" * 1_000_000}}
    result = {"type": "tool_result", "content": [image, "odd", {"type": "text"}]}
    body = {"messages": [{"content": [image, result]}, {"content": "x"}, "odd"]}
    assert input_tokens(body, 2_000_400) == 3_100


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        (0, ["message_start"]),
        (1, ["message_start", "start", "ping", "delta"]),
        (99, ["message_start", "start", "ping", "delta", "delta", "stop"]),
    ],
)
def test_faults_come_at_their_point(point: int, expected: list[str]) -> None:
    assert kinds(Reply(text="a b", cut=point)) == expected
    assert kinds(Reply(text="a b", stall=point)) == expected
    assert answered(Reply(text="a b", cut=point)).ending == "cut"
    assert answered(Reply(text="a b", stall=point)).ending == "stall"
    broken = Reply(text="a b", error=Error(529, after=point))
    assert kinds(broken) == [*expected, "error"]
    assert events(broken)[-1]["error"] == {"type": "overloaded_error", "message": "Overloaded"}
    assert answered(broken).ending == "end"


@pytest.mark.parametrize("body", [STREAM, WHOLE])
def test_a_silent_fault_sends_no_status_line(body: dict[str, Any]) -> None:
    assert answered(Reply(cut=-1), body).silent
    assert answered(Reply(stall=-1), body).silent
    assert not answered(Reply(stall=0), body).silent


def test_a_whole_message_with_a_fault_is_half_sent() -> None:
    half, entire = sent(Reply(text="hello", cut=3), WHOLE), sent(Reply(text="hello"), WHOLE)
    assert half == entire[: len(entire) // 2]
    assert dict(answered(Reply(text="hello", cut=3), WHOLE).headers)["content-length"] == str(
        len(entire)
    )


@pytest.mark.parametrize("body", [STREAM, WHOLE])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (404, "not_found_error"),
        (418, "invalid_request_error"),
        (429, "rate_limit_error"),
        (503, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_errors_have_the_shape_of_the_api(status: int, kind: str, body: dict[str, Any]) -> None:
    reply = Reply(error=status, headers={"retry-after": "7"})
    assert answered(reply, body).status == status
    assert dict(answered(reply, body).headers)["retry-after"] == "7"
    told = json.loads(sent(reply, body))
    assert told["type"] == "error"
    assert told["error"]["type"] == kind
    assert told["error"]["message"]
    assert told["request_id"] == "req_0007"
    own = json.loads(sent(Reply(error=Error(status, type="t", message="m")), body))
    assert own["error"] == {"type": "t", "message": "m"}


def limits(limit: Limit) -> dict[str, str]:
    headers = dict(answered(Reply(text="x", limit=limit)).headers)
    prefix = "anthropic-ratelimit-unified-"
    return {k.removeprefix(prefix): v for k, v in headers.items() if k.startswith(prefix)}


def test_a_rejected_limit_is_a_429_with_the_windows_end() -> None:
    reply = Reply(limit=Limit("rejected", resets_at=1_000_060))
    assert answered(reply).status == 429
    assert dict(answered(reply).headers)["retry-after"] == "60"
    told = limits(Limit("rejected", resets_at=1_000_060))
    assert (told["status"], told["reset"]) == ("rejected", "1000060")
    assert told["representative-claim"] == "five_hour"


def test_a_warning_names_the_threshold_that_was_passed() -> None:
    told = limits(Limit("allowed_warning", window="seven_day", utilization=0.8, resets_in=10))
    assert told["7d-surpassed-threshold"] == "0.75"
    assert told["7d-utilization"] == "0.8"
    assert told["7d-reset"] == "1000010"
    assert "5h-surpassed-threshold" not in limits(Limit("allowed"))
    assert answered(Reply(text="x", limit=Limit("allowed_warning"))).status == 200
