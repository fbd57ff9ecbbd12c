"""The protocol: what bytes from a worker mean, and what it must be told."""

import json

import pytest

from maxd.workers.faults import (
    ProtocolBroken,
)
from maxd.workers.phases import Phase
from maxd.workers.profiles import (
    AGENT,
    CHAT,
    Profile,
)
from maxd.workers.protocol import (
    Models,
    Output,
    Protocol,
    Ready,
)
from maxd.workers.turn import (
    AccountLimit,
    Finished,
    Retrying,
    RoundBroken,
    RoundEnded,
    RoundStarted,
    TextDelta,
    ThinkingDelta,
    ToolStarted,
    Usage,
)
from tests.workers.printed import (
    HISTORY,
    READY,
    SUBAGENT,
    TURN,
    WHOLE,
    answer,
    api,
    begun,
    block,
    line,
    lines,
    question,
    ready,
    result,
    said,
    start,
    stop,
    text,
)

# Becoming ready


def test_readiness_is_asked_for_and_answered() -> None:
    protocol = Protocol(CHAT)
    assert lines(protocol.ask_ready()) == [
        {
            "type": "control_request",
            "request_id": "ready",
            "request": {"subtype": "get_binary_version"},
        }
    ]
    assert protocol.phase.name == "STARTING"
    assert protocol.feed(READY) == [Ready("2.1.330")]
    assert protocol.phase.name == "READY"
    assert protocol.data_to_send() == b""


@pytest.mark.parametrize(
    "reply",
    [
        answer("ready", "error"),
        answer("ready"),
        answer("ready", version=None),
        answer("ready", version=7),
        line(type="control_response", response={"subtype": "success", "request_id": "ready"}),
    ],
)
def test_an_answer_without_a_version_is_readiness_too(reply: bytes) -> None:
    assert Protocol(CHAT).feed(reply) == [Ready("")]


def test_models_are_the_clis_own_words() -> None:
    protocol = ready()
    (asked,) = lines(protocol.ask_models())
    assert asked["request"] == {"subtype": "list_models"}
    (output,) = protocol.feed(answer("models", models=[{"value": "opus"}]))
    assert isinstance(output, Models)
    assert output.listed is not None
    assert json.loads(bytes(output.listed)) == {"models": [{"value": "opus"}]}
    assert ready().feed(answer("models", "error")) == [Models(None)]


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ANSWERING, Phase.IDLE])
def test_a_turn_begins_only_on_a_ready_worker(phase: Phase) -> None:
    protocol = Protocol(CHAT)
    if phase is not Phase.STARTING:
        protocol = begun()
    if phase is Phase.IDLE:
        protocol.feed(WHOLE)
    assert protocol.phase is phase
    with pytest.raises(RuntimeError):
        protocol.begin(TURN)
    assert protocol.phase is phase


@pytest.mark.parametrize("late", [READY, answer("models"), answer("ready", "error")])
def test_a_second_answer_to_an_old_question_changes_nothing(late: bytes) -> None:
    protocol = begun()
    assert protocol.feed(late) == []
    assert protocol.phase.name == "ANSWERING"
    assert isinstance(protocol.feed(WHOLE)[-1], Finished)


# Binding and importing


def test_the_binding_and_the_first_message_are_one_write() -> None:
    bind, message = lines(ready().begin(TURN))
    assert bind["request_id"] == "bind"
    assert bind["request"] == {"subtype": "initialize", "systemPrompt": []}
    assert message["message"]["content"][0]["text"] == "hi"
    assert "shouldQuery" not in message


def texts(data: bytes) -> list[str]:
    return [one["message"]["content"][0]["text"] for one in lines(data) if "message" in one]


def test_each_group_follows_the_result_of_the_one_before() -> None:
    protocol = ready()
    assert texts(protocol.begin(HISTORY)) == ["one"]
    assert protocol.phase.name == "IMPORTING"
    assert protocol.feed(answer("bind") + line(type="system", subtype="init")) == []
    assert protocol.data_to_send() == b""
    assert protocol.feed(result(num_turns=0)) == []
    assert texts(protocol.data_to_send()) == ["two", "three"]
    assert protocol.data_to_send() == b""
    assert protocol.phase.name == "IMPORTING"
    assert protocol.feed(result(num_turns=0)) == []
    assert texts(protocol.data_to_send()) == ["four", "five"]
    assert protocol.phase.name == "ANSWERING"
    assert isinstance(protocol.feed(WHOLE)[-1], Finished)
    assert protocol.data_to_send() == b""


def test_a_refused_binding_ends_the_turn() -> None:
    (fault,) = begun().feed(answer("bind", "error"))
    assert isinstance(fault, ProtocolBroken)


def test_a_result_before_any_turn_means_nothing() -> None:
    protocol = ready()
    assert protocol.feed(result()) == []
    assert protocol.phase.name == "READY"


# What the events are


@pytest.mark.parametrize(
    ("printed", "outputs"),
    [
        (start(), [RoundStarted("m")]),
        (text("a") + text("b"), [TextDelta("a"), TextDelta("b")]),
        (text(""), []),
        (api("content_block_start", content_block=block("a")), [TextDelta("a")]),
        (api("content_block_start", content_block=block("")), []),
        (
            # The input has yet to come, and the call is told when it is whole.
            api("content_block_start", content_block={"type": "tool_use", "name": "Bash"}),
            [],
        ),
        (
            api("content_block_delta", delta={"type": "thinking_delta", "thinking": "hm"}),
            [ThinkingDelta("hm")],
        ),
        (api("content_block_delta", delta={"type": "input_json_delta", "partial_json": "{"}), []),
        (api("content_block_delta", delta={"type": "news", "text": "no"}), []),
        (api("content_block_delta"), []),
        (api("message_start"), []),
        (api("message_delta", delta={"stop_reason": None}), []),
        (api("message_delta", delta={"stop_reason": "refusal"}), [RoundEnded("refusal")]),
        (api("ping") + api("news", delta={"type": "text_delta", "text": "no"}), []),
        (
            line(
                type="system",
                subtype="api_retry",
                attempt=2,
                retry_delay_ms=1500.5,
                error_status=529,
            ),
            [Retrying(2, 1.5005, 529)],
        ),
        (
            line(
                type="system", subtype="api_retry", attempt=1, retry_delay_ms=5, error_status=None
            ),
            [Retrying(1, 0.005, None)],
        ),
        (line(type="system", subtype="status", attempt=1), []),
        (
            line(
                type="rate_limit_event",
                rate_limit_info={
                    "status": "allowed_warning",
                    "resetsAt": 9,
                    "rateLimitType": "seven_day",
                    "utilization": 0.9,
                },
            ),
            [AccountLimit("allowed_warning", "seven_day", 0.9, 9.0)],
        ),
        (line(type="tool_progress", heartbeat=True), []),
        (line(type="user", message={"role": "user", "content": "no"}), []),
    ],
)
def test_what_a_line_means(printed: bytes, outputs: list[Output]) -> None:
    assert begun().feed(printed) == outputs


def test_a_subagent_is_never_heard() -> None:
    outputs = begun(AGENT).feed(start() + text("a") + SUBAGENT + text("b") + stop() + result())
    assert outputs == [
        RoundStarted("m"),
        TextDelta("a"),
        TextDelta("b"),
        RoundEnded("end_turn"),
        Finished("end_turn", Usage()),
    ]


def test_the_clis_own_voice_is_never_text() -> None:
    assert begun().feed(said(block("You've hit your limit"), model="<synthetic>")) == []


def test_usage_is_that_of_the_result() -> None:
    usage = {
        "input_tokens": 1,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": None,
        "output_tokens": 4,
        "output_tokens_details": {"thinking_tokens": 3},
    }
    finished = begun().feed(start() + stop("max_tokens") + result(stop_reason=None, usage=usage))
    assert finished[-1] == Finished("max_tokens", Usage(1, 2, 0, 4, 3))


# Messages that come whole: the CLI asks again without streaming


def test_a_message_that_was_streamed_is_not_told_twice() -> None:
    repeated = line(
        type="assistant", message={"id": "msg_1", "model": "m", "content": [block("hello")]}
    )
    outputs = begun().feed(start() + text("hello") + repeated + stop() + result())
    assert outputs.count(TextDelta("hello")) == 1
    assert outputs.count(RoundStarted("m")) == 1


def test_a_message_in_whole_blocks_is_one_round() -> None:
    call: dict[str, object] = {"type": "tool_use", "name": "Read", "input": {}}
    outputs = begun(AGENT).feed(
        said({"type": "thinking", "thinking": "hm"})
        + said(block("I will look."))
        + said(call)
        + start("msg_2")
        + text("Done.")
        + stop()
        + result()
    )
    assert outputs == [
        RoundStarted("m"),
        TextDelta("I will look."),
        ToolStarted("Read"),
        RoundEnded("tool_use"),
        RoundStarted("m"),
        TextDelta("Done."),
        RoundEnded("end_turn"),
        Finished("end_turn", Usage()),
    ]


def test_a_whole_message_ends_with_the_result() -> None:
    assert begun().feed(said(block("hello")) + result(stop_reason=None)) == [
        RoundStarted("m"),
        TextDelta("hello"),
        RoundEnded("end_turn"),
        Finished("end_turn", Usage()),
    ]


@pytest.mark.parametrize(
    "again",
    [
        api("message_stop") + said(block("fresh")),
        said(block("fresh")),
        api("message_stop") + start("msg_2") + text("fresh") + stop(),
        start("msg_2") + text("fresh") + stop(),
    ],
)
def test_a_round_that_begins_anew_is_said_to_be_broken_once(again: bytes) -> None:
    outputs = begun().feed(start() + text("one two") + again + result())
    assert outputs == [
        RoundStarted("m"),
        TextDelta("one two"),
        RoundBroken(),
        RoundStarted("m"),
        TextDelta("fresh"),
        RoundEnded("end_turn"),
        Finished("end_turn", Usage()),
    ]


@pytest.mark.parametrize(
    "printed",
    [
        b"",
        start() + text("half"),
        start() + text("half") + api("message_stop"),
        start() + stop("tool_use") + start("msg_2") + text("half"),
        said(block("No response requested."), model="<synthetic>"),
    ],
)
def test_a_success_without_a_whole_answer_is_none(printed: bytes) -> None:
    protocol = begun()
    outputs = protocol.feed(printed + result())
    assert isinstance(outputs[-1], ProtocolBroken)
    assert not any(isinstance(output, Finished) for output in outputs)
    assert protocol.phase is Phase.OVER


# Questions of the CLI


@pytest.mark.parametrize(
    ("profile", "tool", "behavior"),
    [
        (AGENT, "Bash", "allow"),
        (AGENT, "AskUserQuestion", "deny"),
        (CHAT, "Bash", "deny"),
        (CHAT, "mcp__x__y", "deny"),
    ],
)
def test_a_question_for_permission_is_answered(profile: Profile, tool: str, behavior: str) -> None:
    protocol = begun(profile)
    tool_input = {"command": 'echo "\u2028"\n', "n": 1e3}
    asked = question(subtype="can_use_tool", tool_name=tool, input=tool_input, news=1)
    assert protocol.feed(asked) == []
    (reply,) = lines(protocol.data_to_send())
    assert reply["type"] == "control_response"
    assert reply["response"]["request_id"] == "q1"
    assert reply["response"]["subtype"] == "success"
    assert reply["response"]["response"]["behavior"] == behavior
    if behavior == "allow":
        assert reply["response"]["response"]["updatedInput"] == tool_input
    else:
        assert reply["response"]["response"]["message"]
    assert protocol.data_to_send() == b""


@pytest.mark.parametrize("subtype", ["hook_callback", "elicitation", "news", ""])
def test_any_other_question_is_answered_with_an_error(subtype: str) -> None:
    protocol = begun(AGENT)
    assert protocol.feed(question(subtype=subtype, callback_id="c", input=None)) == []
    (reply,) = lines(protocol.data_to_send())
    assert reply["response"] == {
        "subtype": "error",
        "request_id": "q1",
        "error": "not supported",
    }
