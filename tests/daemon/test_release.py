"""Which events reach the client in which streaming mode."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.daemon.release import Release
from maxd.workers.faults import UpstreamFault
from maxd.workers.turn import (
    Event,
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

STARTED = RoundStarted("claude-sonnet-4-5")
TOOL_ROUND: list[Event] = [
    STARTED,
    TextDelta("Let me look."),
    ToolStarted("Bash"),
    RoundEnded("tool_use"),
]
LAST_ROUND: list[Event] = [STARTED, TextDelta("It is "), TextDelta("42."), RoundEnded("end_turn")]
END: list[Event] = [Finished("end_turn", Usage())]


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_live_lets_everything_through_as_it_comes() -> None:
    release = Release("live")
    for event in TOOL_ROUND + LAST_ROUND + END:
        assert release.feed([event]) == [event]


def test_smart_shows_only_the_text_of_the_last_round() -> None:
    assert text(Release("smart").feed(TOOL_ROUND + TOOL_ROUND + LAST_ROUND + END)) == "It is 42."


def test_smart_holds_text_back_until_its_round_has_ended() -> None:
    release = Release("smart")
    assert release.feed(LAST_ROUND[:3]) == [STARTED]
    assert release.feed(LAST_ROUND[3:]) == [*LAST_ROUND[1:3], RoundEnded("end_turn")]


def test_smart_drops_no_other_event() -> None:
    others: list[Event] = [ThinkingDelta("hm"), Retrying(1, 0.5, 529), ToolStarted("Bash")]
    assert Release("smart").feed(others) == others


@pytest.mark.parametrize("stop", ["end_turn", "max_tokens", "refusal", "stop_sequence"])
def test_smart_shows_the_text_whatever_ended_the_round(stop: str) -> None:
    events: list[Event] = [STARTED, TextDelta("As far as"), RoundEnded(stop), *END]
    assert text(Release("smart").feed(events)) == "As far as"


CUT: list[Event] = [STARTED, TextDelta("I see: "), RoundEnded("max_tokens")]


def test_smart_joins_what_was_cut_short_and_what_the_model_then_went_on_with() -> None:
    assert text(Release("smart").feed([*CUT, *LAST_ROUND, *END])) == "I see: It is 42."
    broken: list[Event] = [STARTED, TextDelta("It w"), RoundBroken()]
    assert text(Release("smart").feed([*CUT, *broken, *LAST_ROUND, *END])) == "I see: It is 42."


def test_smart_drops_what_was_cut_short_on_the_way_to_a_tool() -> None:
    assert text(Release("smart").feed([*CUT, *TOOL_ROUND, *LAST_ROUND, *END])) == "It is 42."


def test_smart_drops_what_was_refused_when_the_model_answers_after_all() -> None:
    refused: list[Event] = [STARTED, TextDelta("First, take"), RoundEnded("refusal")]
    assert text(Release("smart").feed([*refused, *LAST_ROUND, *END])) == "It is 42."
    assert text(Release("smart").feed([*refused, *refused, *END])) == "First, take"


def test_smart_shows_what_is_held_when_the_turn_is_finished() -> None:
    assert Release("smart").feed([TextDelta("a"), *END]) == [TextDelta("a"), *END]


def test_smart_forgets_a_round_that_broke() -> None:
    release = Release("smart")
    events = release.feed([STARTED, TextDelta("It is"), RoundBroken(), *LAST_ROUND, *END])
    assert text(events) == "It is 42."


def test_live_ends_a_turn_that_broke_where_the_client_has_seen_it() -> None:
    release = Release("live")
    release.feed([STARTED, TextDelta("It is")])
    with pytest.raises(UpstreamFault):
        release.feed([RoundBroken(), *LAST_ROUND])


@pytest.mark.parametrize("before", [[], TOOL_ROUND, LAST_ROUND])
def test_live_goes_on_where_the_client_has_seen_nothing_of_what_broke(before: list[Event]) -> None:
    release = Release("live")
    release.feed([*before, STARTED])
    assert text(release.feed([RoundBroken(), *LAST_ROUND])) == "It is 42."


@given(
    st.lists(
        st.sampled_from([*TOOL_ROUND, *LAST_ROUND, *CUT, RoundBroken(), RoundEnded("refusal")])
    ),
    st.lists(st.integers(0, 40)),
)
def test_smart_does_not_depend_on_how_the_events_were_cut(
    events: list[Event], cuts: list[int]
) -> None:
    whole, pieces = Release("smart"), Release("smart")
    released: list[Event] = []
    start = 0
    for cut in [*sorted(cuts), len(events)]:
        released += pieces.feed(events[start:cut])
        start = max(start, cut)
    assert released + pieces.feed(END) == whole.feed(events + END)
