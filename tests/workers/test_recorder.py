"""What is kept of a turn: as a whole protocol tells it, from the lines of the CLI."""

from typing import Any

import pytest
from msgspec.structs import replace

from maxd.workers.profiles import AGENT, CHAT, Profile
from maxd.workers.turn import (
    Finished,
    Function,
    Message,
    Text,
    ToolChoice,
    ToolResult,
    TurnRecord,
    Usage,
)
from tests.workers.printed import (
    HISTORY,
    SUBAGENT,
    TURN,
    api,
    begun,
    block,
    line,
    lines,
    ready,
    result,
    said,
    start,
    stop,
    text,
)

FULL = {"input_tokens": 9, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 3}
WINDOWS = {
    "claude-small": {"costUSD": 1.0, "contextWindow": 100},
    "claude-big[1m]": {"costUSD": 2.0, "contextWindow": 1_000_000},
}


def opened(model: str = "claude-big-20260101", usage: object = FULL) -> bytes:
    message = {"id": "msg_1", "model": model, "content": [], "usage": usage}
    return api("message_start", message=message)


def closed(usage: object = None, reason: str = "end_turn") -> bytes:
    return api("message_delta", delta={"stop_reason": reason}, usage=usage)


def whole(line_id: str = "a1", **of_the_result: object) -> bytes:
    return start() + text("x") + said(block("x"), uuid=line_id) + stop() + result(**of_the_result)


def record(printed: bytes, profile: Profile = AGENT) -> TurnRecord:
    protocol = begun(profile)
    assert isinstance(protocol.feed(printed)[-1], Finished)
    return protocol.record


def test_nothing_is_known_before_the_first_turn() -> None:
    assert begun(AGENT).record == TurnRecord()


def test_a_cli_that_says_nothing_leaves_an_empty_record() -> None:
    assert record(start() + text("x") + stop() + result()) == TurnRecord()


def test_session_and_last_line_are_those_of_the_turn() -> None:
    told = record(
        start()
        + said(block("first"), uuid="a1")
        + stop("tool_use")
        + start("msg_2")
        + said(block("thinking"), uuid="a2")
        + said(block("x"), uuid="a3")
        + SUBAGENT
        + said(block("the CLI itself"), uuid="a4", model="<synthetic>")
        + stop()
        + result(session_id="s1")
    )
    assert (told.session, told.last_line) == ("s1", "a3")


def test_a_profile_that_keeps_no_transcript_has_no_session() -> None:
    told = record(whole(session_id="s1"), CHAT)
    assert (told.session, told.last_line) == (None, None)


def test_a_turn_without_a_last_line_does_not_have_that_of_another() -> None:
    protocol = begun(AGENT)
    protocol.feed(whole(session_id="s1"))
    protocol.proceed(TURN, 0)
    protocol.feed(start() + text("x") + stop() + result(session_id="s1"))
    assert (protocol.record.session, protocol.record.last_line) == ("s1", None)


def test_a_turn_that_fails_leaves_the_record_of_the_last_that_did_not() -> None:
    protocol = begun(AGENT)
    protocol.feed(whole(session_id="s1", total_cost_usd=1.0))
    before = protocol.record
    protocol.proceed(TURN, 0)
    protocol.feed(start("msg_2") + said(block("x"), uuid="a7") + result(is_error=True))
    assert protocol.record == before


@pytest.mark.parametrize(
    ("end", "tokens"),
    [
        (None, 14),
        ({"output_tokens": 6}, 20),
        ({"output_tokens": 6, "input_tokens": None, "cache_read_input_tokens": 0}, 20),
        ({"output_tokens": 6, "input_tokens": 10, "cache_read_input_tokens": 30}, 48),
        ("of a new shape", 14),
    ],
)
def test_the_context_is_what_the_last_round_took(end: object, tokens: int) -> None:
    earlier = opened(usage={"input_tokens": 1000}) + closed({"output_tokens": 500}, "tool_use")
    printed = earlier + opened() + SUBAGENT + text("x") + closed(end) + result()
    assert record(printed).context_tokens == tokens


def test_the_context_of_an_answer_that_came_whole() -> None:
    usage = {**FULL, "output_tokens": 4}
    message = {"id": "msg_9", "model": "m", "content": [block("x")], "usage": usage}
    printed = line(type="assistant", message=message, uuid="a1") + result()
    assert record(printed).context_tokens == 18


@pytest.mark.parametrize(
    ("model", "usages", "window"),
    [
        ("claude-big-20260101", WINDOWS, 1_000_000),
        ("claude-small", WINDOWS, 100),
        ("claude-other", WINDOWS, 0),
        ("", WINDOWS, 0),
        ("claude-other", {"alias": {"costUSD": 1.0, "contextWindow": 7}}, 7),
        ("claude-other", {}, 0),
        ("claude-small", {"claude-small": {"contextWindow": "many"}}, 0),
        ("claude-small", ["of a new shape"], 0),
    ],
)
def test_the_window_is_that_of_the_model_that_answered(
    model: str, usages: object, window: int
) -> None:
    printed = opened(model) + text("x") + closed() + result(modelUsage=usages)
    assert record(printed).context_window == window


def test_a_cost_that_adds_up_is_told_for_each_turn() -> None:
    protocol = begun(AGENT)
    costs = []
    for total in (1.5, 2.0, 2.0):
        protocol.feed(whole(total_cost_usd=total))
        costs.append(protocol.record.cost)
        protocol.proceed(TURN, 0)
    assert costs == [1.5, 0.5, 0.0]


def test_what_the_cli_tells_of_the_turn_alone_is_better() -> None:
    own = {"a": {"costUSD": 0.25}, "b": {"costUSD": 0.5}}
    told = record(whole(total_cost_usd=100.0, model_usage_since_last_result=own))
    assert told.cost == 0.75


@pytest.mark.parametrize("total", ["new", None, -1, [1]])
def test_a_cost_of_a_new_shape_is_no_cost(total: object) -> None:
    assert record(whole(total_cost_usd=total)).cost == 0


def test_what_came_before_the_turn_is_not_its_cost() -> None:
    protocol = begun(CHAT, HISTORY)
    for _ in range(2):
        protocol.feed(result(num_turns=0, total_cost_usd=1.0))
    protocol.feed(whole(total_cost_usd=1.5))
    assert protocol.record.cost == 0.5


def test_figures_of_a_new_shape_do_not_cost_the_turn() -> None:
    odd: dict[str, Any] = {"modelUsage": 1, "total_cost_usd": {}, "session_id": "s"}
    odd["model_usage_since_last_result"] = "x"
    printed = opened(usage=[1]) + text("x") + closed(7) + result(**odd)
    protocol = begun(CHAT)
    assert protocol.feed(printed)[-1] == Finished("end_turn", Usage())


def test_a_resumed_worker_is_bound_and_given_what_it_does_not_hold() -> None:
    bind, message = lines(ready(AGENT).begin(HISTORY, known=4, resumed=True))
    assert bind["request"] == {
        "subtype": "initialize",
        "appendSystemPrompt": "Be brief.",
        "systemPromptSnapshot": False,
    }
    assert message["message"]["content"][0] == {"type": "text", "text": "five"}
    assert "systemPromptSnapshot" not in lines(ready(AGENT).begin(HISTORY))[0]["request"]


@pytest.mark.parametrize("own", [False, True])
def test_an_answer_that_had_to_be_asked_for_again_costs_both(own: bool) -> None:
    def costs(total: float, rest: float) -> dict[str, Any]:
        since = {"claude-small": {"costUSD": rest}} if own else None
        return {"total_cost_usd": total, "modelUsageSinceLastResult": since}

    function = Function("clock", "", '{"type":"object"}')
    asked = replace(TURN, functions=(function,), tool_choice=ToolChoice("required"))
    protocol = begun(turn=asked)
    protocol.feed(whole(**costs(1.0, 1.0)))
    assert protocol.data_to_send(), "it is asked again"
    called = {"type": "tool_use", "id": "toolu_1", "name": "mcp__client__clock", "input": {}}
    printed = start("msg_2") + api("content_block_start", content_block=called)
    protocol.feed(printed + api("content_block_stop") + stop("tool_use"))
    assert protocol.record.cost == 1.0
    (call_id,) = protocol.pending
    results = Message("user", (ToolResult(call_id, (Text("noon"),)),))
    protocol.proceed(replace(asked, messages=(results,)), 0)
    protocol.feed(start("msg_3") + api("content_block_start", content_block=called))
    protocol.feed(api("content_block_stop") + stop("tool_use"))
    assert protocol.record.cost == 0.0
