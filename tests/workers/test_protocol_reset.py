"""The protocol of a reset: what is written, and what counts as one."""

import pytest
from msgspec.structs import replace

from maxd.workers.faults import ProtocolBroken
from maxd.workers.phases import Phase
from maxd.workers.profiles import AGENT, CHAT
from maxd.workers.protocol import Cleared, Protocol
from maxd.workers.turn import Finished, Turn
from tests.workers.printed import (
    HISTORY,
    TURN,
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
    user,
)

ANSWERED = start() + text("hello") + stop() + result(session_id="one")
INIT = line(type="system", subtype="init", session_id="two", tools=[])
# As printed, without what nobody reads: 2.1.330 ends with a `local_command`.
NEW = (
    line(type="conversation_reset", new_conversation_id="x", trigger="clear", session_id="one")
    + line(type="system", subtype="background_tasks_changed", tasks=[], session_id="one")
    + INIT
    + result(session_id="two", num_turns=0, result="", stop_reason=None, local_command="clear")
)
OLD = (
    INIT
    + said(block("(no content)"), model="<synthetic>")
    + result(session_id="two", num_turns=0, result="", stop_reason=None)
)


def idle(turn: Turn = TURN) -> Protocol:
    protocol = begun(turn=turn)
    assert isinstance(protocol.feed(ANSWERED)[-1], Finished)
    return protocol


def resetting() -> Protocol:
    protocol = idle()
    protocol.reset()
    return protocol


def test_it_is_the_command_and_nothing_else() -> None:
    """With the empty block that other messages end in, the CLI would not take it for one."""
    (written,) = lines(idle().reset())
    assert written["type"] == "user"
    assert written["message"]["content"] == [{"type": "text", "text": "/clear"}]
    assert "shouldQuery" not in written


@pytest.mark.parametrize("printed", [NEW, OLD], ids=["2.1.330", "2.1.197"])
def test_then_another_conversation_begins_without_binding(printed: bytes) -> None:
    protocol = resetting()
    assert protocol.phase.name == "RESETTING"
    assert protocol.feed(printed) == [Cleared()]
    assert protocol.data_to_send() == b""
    assert protocol.phase.name == "READY"
    (asked,) = lines(protocol.begin(TURN))
    assert asked["message"]["content"][0] == {"type": "text", "text": "hi"}
    answer = start("msg_2") + text("again") + stop() + result(session_id="two")
    assert isinstance(protocol.feed(answer)[-1], Finished)


def test_byte_by_byte() -> None:
    protocol = resetting()
    outputs = [output for at in range(len(NEW)) for output in protocol.feed(NEW[at : at + 1])]
    assert outputs == [Cleared()]


def test_a_history_is_imported_after_it() -> None:
    protocol = idle(Turn(profile="chat", model="sonnet", messages=TURN.messages, system=("S",)))
    protocol.reset()
    protocol.feed(NEW)
    other = Turn(profile="chat", model="sonnet", messages=HISTORY.messages, system=("S",))
    (first,) = lines(protocol.begin(other))
    assert first["shouldQuery"] is False
    assert protocol.phase is Phase.IMPORTING
    protocol.feed(result(num_turns=0, session_id="two"))
    assert [one["type"] for one in lines(protocol.data_to_send())] == ["assistant", "user"]


def test_again_and_again() -> None:
    protocol = idle()
    for number in range(3):
        protocol.reset()
        name = f"session {number}"
        assert protocol.feed(result(num_turns=0, session_id=name)) == [Cleared()]
        protocol.begin(TURN)
        # The same id for its message, which must not be taken for a repetition.
        events = protocol.feed(start() + text("hello") + stop() + result(session_id=name))
        assert isinstance(events[-1], Finished)
        assert len(events) == 4


def test_a_second_conversation_has_to_have_the_system_texts_of_the_first() -> None:
    protocol = resetting()
    protocol.feed(NEW)
    with pytest.raises(RuntimeError):
        protocol.begin(HISTORY)
    assert protocol.phase is Phase.READY


@pytest.mark.parametrize(
    "printed",
    {
        "error": result(is_error=True, num_turns=0, session_id="two"),
        "limit": result(is_error=True, api_error_status=429, session_id="two"),
        "words": result(num_turns=0, result="/clear isn't available", session_id="two"),
        "turn": result(num_turns=1, result="", session_id="two"),
        "same session": result(num_turns=0, result="", session_id="one"),
        "no session": result(num_turns=0, result=""),
        "asked": start(),
        "answered": said(block("a summary")),
        "broken": line(type="result", is_error="perhaps"),
    }.items(),
    ids=lambda item: item[0],
)
def test_anything_else_is_no_reset(printed: tuple[str, bytes]) -> None:
    protocol = resetting()
    (fault,) = protocol.feed(printed[1])
    assert isinstance(fault, ProtocolBroken)
    assert protocol.phase is Phase.OVER
    assert protocol.feed(NEW) == []


def test_without_a_session_before_none_can_be_told_from_it() -> None:
    protocol = begun()
    protocol.feed(start() + text("hello") + stop() + result())
    protocol.reset()
    (fault,) = protocol.feed(NEW)
    assert isinstance(fault, ProtocolBroken)


@pytest.mark.parametrize("protocol", [Protocol(CHAT), ready(), begun(), resetting()])
def test_only_an_idle_worker_is_reset(protocol: Protocol) -> None:
    phase = protocol.phase
    with pytest.raises(RuntimeError):
        protocol.reset()
    assert protocol.phase is phase


def test_a_worker_with_tools_is_never_reset() -> None:
    protocol = begun(AGENT)
    protocol.feed(ANSWERED)
    with pytest.raises(RuntimeError):
        protocol.reset()
    assert protocol.phase is Phase.IDLE
    protocol.proceed(replace(TURN, messages=(user("go on"),)), 0)


def test_a_worker_that_is_being_reset_is_not_asked() -> None:
    protocol = resetting()
    with pytest.raises(RuntimeError):
        protocol.begin(TURN)
    with pytest.raises(RuntimeError):
        protocol.proceed(replace(TURN, messages=(user("go on"),)), 0)


def test_what_an_interrupted_turn_left_open_is_not_told_in_the_next() -> None:
    protocol = begun()
    protocol.feed(start() + text("hel"))
    protocol.interrupt()
    protocol.feed(result(session_id="one"))
    protocol.reset()
    assert protocol.feed(NEW) == [Cleared()]
    protocol.begin(TURN)
    fresh = begun()
    after = start("msg_2") + text("hello") + stop() + result(session_id="two")
    assert protocol.feed(after) == fresh.feed(after)
