"""The protocol: how a turn ends badly, and what noise does not end it."""

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from maxd.workers.faults import (
    BackendUnavailable,
    ContextTooLong,
    Fault,
    ProtocolBroken,
    UpstreamRefused,
    UpstreamUnreachable,
    UsageLimit,
    WorkerDied,
)
from maxd.workers.phases import Phase
from maxd.workers.protocol import (
    GARBAGE_LIMIT,
)
from maxd.workers.turn import (
    AccountLimit,
    Finished,
    Message,
    RoundBroken,
    RoundEnded,
    RoundStarted,
    Text,
    TextDelta,
)
from tests.workers.printed import (
    HISTORY,
    NOW,
    READY,
    SUBAGENT,
    TURN,
    WHOLE,
    answer,
    api,
    begun,
    block,
    line,
    question,
    result,
    said,
    start,
    stop,
    text,
    told,
)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"api_error_status": 400, "result": "API Error: 400 CANARY"}, UpstreamRefused),
        ({"api_error_status": 401, "result": "Failed to authenticate CANARY"}, BackendUnavailable),
        ({"result": "Prompt is too long CANARY"}, ContextTooLong),
        ({"result": "Not logged in · Please run /login CANARY"}, BackendUnavailable),
        ({"terminal_reason": "api_error", "result": "CANARY"}, UpstreamUnreachable),
        ({"subtype": "error_during_execution", "errors": ["CANARY"]}, WorkerDied),
    ],
)
@pytest.mark.parametrize("when", [b"", start() + text("half"), start() + text("whole") + stop()])
def test_an_error_is_a_fault_whenever_it_comes(
    fields: dict[str, object], kind: type[Fault], when: bytes
) -> None:
    for turn in (TURN, HISTORY):
        protocol = begun(turn=turn)
        fault = protocol.feed(when + result(**fields, is_error=True))[-1]
        assert type(fault) is kind
        assert "CANARY" not in fault.message
        assert protocol.phase is Phase.OVER
        assert protocol.data_to_send() == b""


def test_a_usage_limit_says_when_it_ends() -> None:
    info = {"status": "rejected", "resetsAt": NOW + 90, "rateLimitType": "five_hour"}
    limit, fault = begun().feed(
        line(type="rate_limit_event", rate_limit_info=info)
        + result(is_error=True, api_error_status=429)
    )
    assert limit == AccountLimit("rejected", "five_hour", None, NOW + 90)
    assert isinstance(fault, UsageLimit)
    assert fault.retry_after == 90


@pytest.mark.parametrize("unasked", [start(), said(block("b")), result(), SUBAGENT])
def test_an_idle_worker_that_speaks_is_not_trusted(unasked: bytes) -> None:
    protocol = begun()
    protocol.feed(WHOLE)
    assert protocol.phase is Phase.IDLE
    noise = answer("models") + line(type="system", subtype="status") + b"noise\n"
    assert protocol.feed(noise) == []
    (fault,) = protocol.feed(unasked + WHOLE)
    assert isinstance(fault, ProtocolBroken)
    with pytest.raises(RuntimeError):
        protocol.proceed(TURN, 0)


def test_the_next_turn_of_a_conversation_is_told_the_new_messages_only() -> None:
    protocol = begun(turn=HISTORY)
    while protocol.phase is Phase.IMPORTING:
        protocol.feed(result())
    protocol.data_to_send()
    protocol.feed(WHOLE)
    new = (Message("user", (Text("more"),)), Message("user", (Text("now"),)))
    more = replace(TURN, messages=(*TURN.messages, *new))
    written = protocol.proceed(more, len(TURN.messages))
    assert b"more" in written
    assert b"initialize" not in written
    assert b"now" not in written, "the first of the two is remembered first"
    assert protocol.feed(result()) == []
    assert b"now" in protocol.data_to_send()
    assert isinstance(protocol.feed(WHOLE)[-1], Finished)


@pytest.mark.parametrize("end", [result(is_error=True), answer("bind", "error")])
def test_nothing_is_said_after_the_end(end: bytes) -> None:
    protocol = begun(line_limit=1000)
    last = protocol.feed(start() + text("a") + stop() + end)[-1]
    assert isinstance(last, Fault)
    assert protocol.feed(READY + WHOLE + question(subtype="can_use_tool") + b"{}\n" * 2000) == []
    assert protocol.feed(b"x" * 3000) == []
    assert protocol.data_to_send() == b""
    assert protocol.phase is Phase.OVER


# Noise


def test_a_few_lines_that_are_no_messages_do_no_harm() -> None:
    protocol = begun()
    noise = b"Debugger attached.\n\n \r\n\xff\xfe\n[1]\n"
    outputs = protocol.feed(noise.join(one + b"\n" for one in WHOLE.splitlines()))
    assert outputs == begun().feed(WHOLE)
    assert protocol.garbage > 0


def test_a_worker_with_another_programs_voice_is_not_trusted() -> None:
    protocol = begun()
    assert protocol.feed(b"noise CANARY\n" * GARBAGE_LIMIT) == []
    (fault,) = protocol.feed(b"noise CANARY\n" * 10)
    assert isinstance(fault, ProtocolBroken)
    assert "CANARY" not in fault.message


@pytest.mark.parametrize(
    "broken",
    [
        line(type="result", is_error="CANARY"),
        line(type="stream_event", event="CANARY"),
        line(type="control_request", request_id="CANARY"),
        line(type="assistant", message=["CANARY"]),
        line(type="control_response", response={"CANARY": 1}),
    ],
)
def test_a_needed_message_that_cannot_be_read_ends_the_turn(broken: bytes) -> None:
    protocol = begun()
    (fault,) = protocol.feed(broken + WHOLE)
    assert isinstance(fault, ProtocolBroken)
    assert json.loads(broken)["type"] in fault.message
    assert "CANARY" not in fault.message


def test_a_line_without_an_end_ends_the_turn_after_what_came_before() -> None:
    protocol = begun(line_limit=1000)
    outputs = protocol.feed(start() + text("a") + b"x" * 1001)
    assert told(outputs) == [
        RoundStarted("m"),
        TextDelta("a"),
        (ProtocolBroken, "the claude CLI printed an endless line"),
    ]


def test_a_line_of_50_megabytes_is_read_in_time() -> None:
    protocol = begun()
    big = line(type="user", message={"content": "x" * 50_000_000})
    began = time.process_time()
    for at in range(0, len(big), 65536):
        assert protocol.feed(big[at : at + 65536]) == []
    # 0.1 s where this was written. Reading it again at each of the 763 reads would take minutes.
    assert time.process_time() - began < 10
    assert isinstance(protocol.feed(WHOLE)[-1], Finished)


@settings(max_examples=200)
@given(st.lists(st.sampled_from([
    start(), text("a"), stop(), stop("tool_use"), api("message_stop"), said(block("b")), SUBAGENT,
    result(), result(is_error=True), READY, answer("bind"), answer("bind", "error"),
    question(subtype="can_use_tool"), question(subtype="x"), b"noise\n", b"\n", b"{", b'"}\n',
])))  # fmt: skip
def test_whatever_is_printed_there_is_one_end_and_nothing_after_it(printed: list[bytes]) -> None:
    protocol = begun()
    outputs = [output for one in printed for output in protocol.feed(one)]
    ends = [i for i, output in enumerate(outputs) if isinstance(output, Finished | Fault)]
    if ends and isinstance(outputs[ends[0]], Finished):
        # An idle worker may speak once more, and is then not trusted.
        assert all(isinstance(outputs[i], Fault) for i in ends[1:])
        outputs = outputs[: ends[0] + 1]
        assert protocol.phase is (Phase.OVER if ends[1:] else Phase.IDLE)
    else:
        assert ends in ([], [len(outputs) - 1])
        assert bool(ends) == (protocol.phase is Phase.OVER)
    rounds = [o for o in outputs if isinstance(o, RoundStarted | RoundEnded | RoundBroken)]
    for one, other in pairwise(rounds):
        assert not (isinstance(one, RoundStarted) and isinstance(other, RoundStarted))
    if ends and isinstance(outputs[-1], Finished):
        assert isinstance(rounds[-1], RoundEnded)
