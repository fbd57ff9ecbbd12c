"""The protocol on what real CLIs printed, and however their bytes are cut.

`recorded/*.jsonl` is what claude 2.1.330 printed while it talked to the loopback model, without
the fields that nothing here reads.
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxd.workers.faults import (
    UpstreamRefused,
    UsageLimit,
)
from maxd.workers.profiles import (
    AGENT,
    CHAT,
    Profile,
)
from maxd.workers.protocol import (
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
    Turn,
    Usage,
)
from tests.workers.printed import (
    HISTORY,
    NOW,
    TURN,
    lines,
    told,
)

RECORDED = Path(__file__).parent / "recorded"
MODEL = "claude-sonnet-5-5"


def conversation(name: str) -> tuple[Profile, Turn, bytes]:
    profile, turn = {
        "import_and_answer": (CHAT, HISTORY),
        "tool_with_permission": (AGENT, TURN),
        "subagent": (AGENT, TURN),
    }.get(name, (CHAT, TURN))
    return profile, turn, (RECORDED / f"{name}.jsonl").read_bytes()


def play(profile: Profile, turn: Turn, pieces: list[bytes]) -> tuple[list[object], bytes]:
    """All that a protocol says and sends, when its worker prints `pieces`."""
    protocol = Protocol(profile, clock=lambda: NOW)
    outputs: list[Output] = []
    sent = protocol.ask_ready()
    for piece in pieces:
        new = protocol.feed(piece)
        outputs += new
        sent += protocol.data_to_send()
        if any(isinstance(output, Ready) for output in new):
            sent += protocol.begin(turn)
    return told(outputs), sent


def first_line_alone(data: bytes) -> list[bytes]:
    """The worker says nothing more before it is given its turn."""
    first, rest = data.split(b"\n", 1)
    return [first + b"\n", rest]


def without_ids(sent: bytes) -> list[dict[str, Any]]:
    """The lines of `sent`; imported answers have ids that are made up each time."""
    told = lines(sent)
    for one in told:
        one.pop("uuid", None)
        one.get("message", {}).pop("id", None)
    return told


NAMES = sorted(path.stem for path in RECORDED.glob("*.jsonl"))


@pytest.mark.parametrize("name", NAMES)
def test_byte_by_byte_means_the_same_as_whole(name: str) -> None:
    profile, turn, data = conversation(name)
    whole, sent = play(profile, turn, first_line_alone(data))
    single, sent_for_single = play(profile, turn, [bytes([byte]) for byte in data])
    assert single == whole
    assert without_ids(sent_for_single) == without_ids(sent)


@settings(max_examples=50)
@given(st.data())
def test_any_cut_means_the_same(draw: st.DataObject) -> None:
    """The answer holds characters of two, three and four bytes, which are cut as well."""
    profile, turn, data = conversation("import_and_answer")
    first, rest = first_line_alone(data)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(rest)), max_size=20)))
    pieces = [rest[a:b] for a, b in zip([0, *cuts], [*cuts, len(rest)], strict=True)]
    assert play(profile, turn, [first, *pieces])[0] == play(profile, turn, [first, rest])[0]


READ: dict[str, list[object]] = {
    "import_and_answer": [
        RoundStarted(MODEL, Usage(12, 7, 100, 1)),
        TextDelta("Grüße,"),
        TextDelta(" 世界"),
        TextDelta(" 🙂!"),
        RoundEnded("end_turn"),
        Finished("end_turn", Usage(12, 7, 100, 5, 0)),
    ],
    "tool_with_permission": [
        RoundStarted(MODEL, Usage(13374, output_tokens=1)),
        TextDelta("I"),
        TextDelta(" will"),
        TextDelta(" look."),
        ToolStarted("Bash", "touch made.txt && echo hi"),
        RoundEnded("tool_use"),
        RoundStarted(MODEL, Usage(13452, output_tokens=1)),
        ThinkingDelta("That"),
        ThinkingDelta(" was"),
        ThinkingDelta(" easy."),
        TextDelta("It"),
        TextDelta(" says"),
        TextDelta(" hi."),
        RoundEnded("end_turn"),
        Finished("end_turn", Usage(26826, 0, 0, 26, 0)),
    ],
    "subagent": [
        RoundStarted(MODEL, Usage(13036, output_tokens=1)),
        TextDelta("Delegating."),
        ToolStarted("Task", "count"),
        RoundEnded("tool_use"),
        RoundStarted(MODEL, Usage(13312, output_tokens=1)),
        TextDelta("Three."),
        RoundEnded("end_turn"),
        Finished("end_turn", Usage(26348, 0, 0, 26, 0)),
    ],
    "broken_stream": [
        RoundStarted(MODEL, Usage(448, output_tokens=1)),
        TextDelta("one"),
        TextDelta(" two"),
        TextDelta(" three"),
        RoundBroken(),
        RoundStarted(MODEL, Usage(448, output_tokens=4)),
        TextDelta("A fresh answer."),
        RoundEnded("end_turn"),
        Finished("end_turn", Usage(896, 0, 0, 5, 0)),
    ],
    "retries": [
        Retrying(1, 0.608, 500),
        Retrying(2, 1.098, 529),
        RoundStarted(MODEL, Usage(448, output_tokens=1)),
        TextDelta("At"),
        TextDelta(" last."),
        RoundEnded("end_turn"),
        Finished("end_turn", Usage(448, 0, 0, 2, 0)),
    ],
    "usage_limit": [
        AccountLimit("rejected", "five_hour", None, 4102444800.0),
        (UsageLimit, "usage limit of the account reached"),
    ],
    "bad_request": [(UpstreamRefused, "the service refused the conversation as invalid")],
}


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_turn_is_read_as_it_was(name: str) -> None:
    profile, turn, data = conversation(name)
    outputs, sent = play(profile, turn, first_line_alone(data))
    assert outputs == [Ready("2.1.330"), *READ[name]]
    answers = [one for one in lines(sent) if one["type"] == "control_response"]
    assert len(answers) == data.count(b'"control_request"')


def test_recordings_hold_nothing_of_the_machine_they_were_made_on() -> None:
    for name in NAMES:
        data = (RECORDED / f"{name}.jsonl").read_text()
        assert "sk-ant" not in data
        assert "/tmp/" not in data
        for message in data.splitlines():
            assert msgspec.json.decode(message)
