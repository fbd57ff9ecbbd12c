"""Where an answer is cut, whatever pieces it comes in."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.daemon.cut import Cut, quarters
from maxd.workers.turn import (
    CallDelta,
    CallStarted,
    Event,
    Finished,
    RoundBroken,
    RoundEnded,
    RoundStarted,
    TextDelta,
    ThinkingDelta,
    ToolStarted,
    Usage,
)

END = Finished("end_turn", Usage(input_tokens=5, output_tokens=9))
CALL: list[Event] = [CallStarted("id", "name"), CallDelta('{"a":'), CallDelta("1}")]


def texts(*pieces: str) -> list[Event]:
    return [TextDelta(piece) for piece in pieces]


def said(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def cut(events: list[Event], *stop: str, max_tokens: int | None = None) -> list[Event]:
    """What comes out, one event at a time."""
    filtered = Cut(stop, max_tokens)
    return [out for event in events for out in filtered.feed([event])]


def test_what_needs_no_cut_passes_as_it_is() -> None:
    events = [RoundStarted("m"), ThinkingDelta("hm"), *texts("a", "b"), ToolStarted("Bash"), *CALL,
              RoundEnded("tool_use"), END]  # fmt: skip
    assert cut(events) == events
    assert Cut((), None).feed(events) == events
    assert said(cut(events, "xyz", max_tokens=100)) == "ab"


@pytest.mark.parametrize(
    ("pieces", "stop", "expected", "which"),
    [
        (["a STOP b"], ["STOP"], "a ", "STOP"),
        (["a ST", "OP b"], ["STOP"], "a ", "STOP"),
        (["S", "T", "O", "P"], ["STOP"], "", "STOP"),
        (["a SSTOP"], ["STOP"], "a S", "STOP"),
        (["aab", "aabaac"], ["aabaac"], "aab", "aabaac"),
        # The one that ends first, and of two that end together the longer.
        (["x abc y"], ["abcd", "b"], "x a", "b"),
        (["x abc y"], ["c", "abc"], "x ", "abc"),
        (["\n\nUser:"], ["\n\nUser:", "\n\nHuman:"], "", "\n\nUser:"),
        (["ü€😀!"], ["😀"], "ü€", "😀"),
    ],
)
def test_a_stop_text_ends_the_answer_before_it(
    pieces: list[str], stop: list[str], expected: str, which: str
) -> None:
    made = cut([*texts(*pieces, " more"), RoundEnded("end_turn"), END], *stop)
    assert said(made) == expected
    last = made[-1]
    assert isinstance(last, Finished)
    assert (last.stop_reason, last.stop_sequence) == ("stop_sequence", which)
    assert last.usage == Usage(output_tokens=-(-quarters(expected) // 4))
    assert not any(isinstance(event, RoundEnded) for event in made)


def test_the_beginning_of_a_stop_text_waits_and_is_let_through_in_its_place() -> None:
    filtered = Cut(("STOP",), None)
    assert filtered.feed(texts("a ST")) == texts("a ")
    assert filtered.feed([ThinkingDelta("hm")]) == [ThinkingDelta("hm")]
    assert filtered.feed(texts("O")) == []
    assert filtered.feed(texts("ry")) == texts("STOry")
    assert filtered.feed(texts("S")) == []
    assert filtered.feed([*CALL]) == [*texts("S"), *CALL]
    assert filtered.feed(texts("S")) == []
    assert filtered.feed([RoundEnded("end_turn"), END]) == [
        *texts("S"), RoundEnded("end_turn"), END
    ]  # fmt: skip


def test_what_waits_of_a_round_that_broke_is_void() -> None:
    assert cut([*texts("S"), RoundBroken(), *texts("TOP"), END], "STOP") == [
        RoundBroken(), *texts("TOP"), END
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "max_tokens", "expected"),
    [
        ("x" * 16, 4, "x" * 16),
        ("x" * 17, 4, "x" * 16),
        ("é" * 9, 4, "é" * 8),
        ("語" * 9, 4, "語" * 4),
        ("😀" * 9, 4, "😀" * 2),
        ("😀", 1, ""),
    ],
)
def test_an_answer_ends_after_about_so_many_tokens(
    text: str, max_tokens: int, expected: str
) -> None:
    made = cut([*texts(*text), END], max_tokens=max_tokens)
    assert said(made) == expected
    last = made[-1]
    assert isinstance(last, Finished)
    if expected == text:
        assert last == END
    else:
        assert last.stop_reason == "max_tokens"
        assert last.usage.output_tokens <= max_tokens


def test_a_call_is_let_through_whole_or_not_at_all() -> None:
    # "name" and the arguments are 11 quarters.
    assert cut([*CALL, RoundEnded("tool_use"), END], max_tokens=3) == [
        *CALL,
        RoundEnded("tool_use"),
        END,
    ]
    made = cut([*texts("ab"), *CALL, RoundEnded("tool_use"), END], max_tokens=3)
    assert made == [*texts("ab"), Finished("max_tokens", Usage(output_tokens=1))]
    two = cut([*CALL, *CALL, RoundEnded("tool_use"), END], max_tokens=5)
    assert two == [*CALL, Finished("max_tokens", Usage(output_tokens=3))]


def test_thinking_does_not_count() -> None:
    events = [ThinkingDelta("x" * 1000), *texts("four"), END]
    assert cut(events, max_tokens=1) == events


def test_after_the_cut_nothing_comes() -> None:
    filtered = Cut(("x",), None)
    assert isinstance(filtered.feed([*texts("x"), *CALL, END])[-1], Finished)
    assert filtered.feed([*texts("y"), END]) == []


ALPHABET = st.sampled_from("ab\n語")
PIECES = st.lists(st.text(ALPHABET, max_size=5), max_size=8)
STOPS = st.lists(st.text(ALPHABET, min_size=1, max_size=4), max_size=3)
_OTHERS: list[list[Event]] = [[ThinkingDelta("hm")], [ToolStarted("Bash")], CALL]
OTHERS = st.sampled_from(_OTHERS)


def joined(events: list[Event]) -> list[object]:
    """The events, texts that follow each other as one, thinking and tools apart."""
    told: list[object] = []
    for event in events:
        if isinstance(event, ThinkingDelta | ToolStarted):
            continue
        if isinstance(event, TextDelta):
            if told and isinstance(told[-1], str):
                told[-1] += event.text
            else:
                told.append(event.text)
        else:
            told.append(event)
    return told


@given(PIECES, st.data(), STOPS, st.none() | st.integers(1, 8))
def test_any_pieces_make_the_same_answer(
    pieces: list[str], data: st.DataObject, stop: list[str], max_tokens: int | None
) -> None:
    events = texts(*(piece for piece in pieces if piece))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(events)))
        others: list[Event] = data.draw(OTHERS)
        events[place:place] = others
    events.append(END)
    # Character by character, and all at once.
    single: list[Event] = []
    for event in events:
        single.extend(texts(*event.text) if isinstance(event, TextDelta) else [event])
    expected = joined(cut(single, *stop, max_tokens=max_tokens))
    assert joined(Cut(stop, max_tokens).feed(events)) == expected
    places = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=4)))
    filtered = Cut(stop, max_tokens)
    made = [
        out
        for begin, end in pairwise([0, *places, len(events)])
        for out in filtered.feed(events[begin:end])
    ]
    assert joined(made) == expected


@given(PIECES, STOPS, st.none() | st.integers(1, 8))
def test_no_part_of_a_stop_text_is_let_through(
    pieces: list[str], stop: list[str], max_tokens: int | None
) -> None:
    whole = "".join(pieces)
    filtered = Cut(stop, max_tokens)
    told = ""
    for piece in pieces:
        told += said(filtered.feed(texts(piece)))
        # All that is out stays before the first stop text of the whole answer.
        ends = [(whole.find(s) + len(s), whole.find(s)) for s in stop if s in whole]
        assert len(told) <= (min(ends)[1] if ends else len(whole))
    told += said(filtered.feed([END]))
    assert whole.startswith(told)
    assert not any(s in told for s in stop)
    if max_tokens is not None:
        assert quarters(told) <= max_tokens * 4


def test_the_input_is_that_of_all_rounds() -> None:
    """Or a key would have what it asks for nothing by asking for one token."""
    cut = Cut((), 1)
    round_ = RoundStarted("m", Usage(1, 2, 3, 4))
    told = cut.feed([round_, RoundEnded("tool_use"), round_, TextDelta("12345")])
    assert told[-1] == Finished("max_tokens", Usage(2, 4, 6, output_tokens=1))
