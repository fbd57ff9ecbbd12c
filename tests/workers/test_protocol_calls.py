"""The protocol of calls of the client's functions, where the CLI asks early, late or twice."""

import pytest
from msgspec.structs import replace

from maxd.workers.faults import ProtocolBroken
from maxd.workers.phases import Phase
from maxd.workers.protocol import Protocol
from maxd.workers.turn import (
    AccountLimit,
    CallStarted,
    Finished,
    Function,
    Message,
    Text,
    ToolResult,
    Turn,
)
from tests.workers.printed import NOW, TURN, api, begun, line, lines, start, stop

ASKED = replace(TURN, functions=(Function("clock", "", '{"type":"object"}'),))


def call(model_id: str) -> bytes:
    block = {"type": "tool_use", "id": model_id, "name": "mcp__client__clock", "input": {}}
    return api("content_block_start", content_block=block) + api("content_block_stop")


def whole_call(model_id: str) -> bytes:
    block = {"type": "tool_use", "id": model_id, "name": "mcp__client__clock", "input": {}}
    said = {"id": "msg_7", "model": "m", "content": [block]}
    return line(type="assistant", message=said)


def question(model_id: str, number: int = 1) -> bytes:
    params = {"name": "clock", "arguments": {}, "_meta": {"claudecode/toolUseId": model_id}}
    rpc = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    asked = {"subtype": "mcp_message", "server_name": "client", "message": rpc}
    return line(type="control_request", request_id=f"q{number}", request=asked)


def bring(protocol: Protocol, *texts: str) -> bytes:
    """The results of the calls that wait, in their order."""
    given = zip(protocol.pending, texts, strict=True)
    parts = tuple(ToolResult(call_id, (Text(text),)) for call_id, text in given)
    turn: Turn = replace(ASKED, messages=(Message("user", parts),))
    return protocol.proceed(turn, 0)


def answers(data: bytes) -> dict[str, str]:
    """The texts of the answers to questions, by the ids of the requests."""
    found = {}
    for told in lines(data):
        response = told["response"]
        rpc = response["response"]["mcp_response"]
        found[response["request_id"]] = rpc["result"]["content"][0]["text"]
    return found


def test_a_question_in_the_middle_of_a_message_does_not_end_it() -> None:
    """Else the calls behind it would be said by a worker that nobody has asked."""
    protocol = begun(turn=ASKED)
    out = protocol.feed(start() + call("t1") + question("t1") + call("t2"))
    assert protocol.phase is Phase.ANSWERING
    out += protocol.feed(stop("tool_use"))
    assert len([event for event in out if isinstance(event, CallStarted)]) == 2
    assert isinstance(out[-1], Finished)
    assert protocol.data_to_send() == b""
    assert answers(bring(protocol, "noon", "one")) == {"q1": "noon"}
    protocol.feed(question("t2", 2))
    assert answers(protocol.data_to_send()) == {"q2": "one"}


def test_results_wait_for_questions_that_come_after_them() -> None:
    protocol = begun(turn=ASKED)
    protocol.feed(start() + call("t1") + call("t2") + stop("tool_use"))
    assert bring(protocol, "noon", "one") == b""
    assert protocol.feed(question("t2", 2) + question("t1", 1)) == []
    assert answers(protocol.data_to_send()) == {"q1": "noon", "q2": "one"}
    assert protocol.phase is Phase.ANSWERING


def test_of_a_message_in_whole_blocks_the_question_is_the_end() -> None:
    protocol = begun(turn=ASKED)
    assert not isinstance(protocol.feed(whole_call("t1"))[-1], Finished)
    out = protocol.feed(question("t1"))
    assert isinstance(out[-1], Finished)
    assert protocol.phase is Phase.PARKED
    assert answers(bring(protocol, "noon")) == {"q1": "noon"}


CUT = api("message_stop")
"""The CLI invents one where the stream was cut (2.1.330, not each time)."""


def test_a_message_cut_in_a_call_is_asked_for_again() -> None:
    protocol = begun(turn=ASKED)
    protocol.feed(start() + call("t1") + CUT)
    assert protocol.phase is Phase.ANSWERING
    out = protocol.feed(start("msg_2") + call("t2") + stop("tool_use"))
    assert isinstance(out[-1], Finished)
    assert len(protocol.pending) == 1


@pytest.mark.parametrize("asked_first", [True, False])
def test_a_call_of_a_message_that_was_cut_is_not_made(asked_first: bool) -> None:
    """What else the message would have called nobody knows."""
    protocol = begun(turn=ASKED)
    end = question("t1") + CUT if asked_first else CUT + question("t1")
    out = protocol.feed(start() + call("t1") + end)
    assert isinstance(out[-1], ProtocolBroken)
    assert protocol.phase is Phase.OVER


def test_one_call_at_a_time_turns_the_others_down_and_waits_for_it() -> None:
    protocol = begun(turn=replace(ASKED, parallel_calls=False))
    protocol.feed(start() + call("t1") + call("t2") + stop("tool_use"))
    assert len(protocol.pending) == 1
    protocol.feed(question("t1", 1) + question("t2", 2))
    told = answers(protocol.data_to_send())
    assert told.keys() == {"q2"}
    assert "one function" in told["q2"]
    assert answers(bring(protocol, "noon")) == {"q1": "noon"}


@pytest.mark.parametrize(("resets_in", "told"), [(100, True), (-1, False), (None, True)])
def test_what_is_said_of_the_account_behind_the_calls_is_told_in_the_next_turn(
    resets_in: int | None, told: bool
) -> None:
    protocol = begun(turn=ASKED)
    info = {"status": "allowed_warning", "rateLimitType": "five_hour"}
    limit = info if resets_in is None else info | {"resetsAt": NOW + resets_in}
    protocol.feed(start() + call("t1") + stop("tool_use"))
    assert protocol.feed(line(type="rate_limit_event", rate_limit_info=limit)) == []
    bring(protocol, "noon")
    out = protocol.feed(start("msg_2") + start("msg_3"))
    assert [isinstance(event, AccountLimit) for event in out].count(True) == told
    assert isinstance(out[0], AccountLimit) == told
