"""Which events reach the client in which streaming mode."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.daemon.release import ENOUGH, Release, parse_mode
from maxd.workers.faults import BadRequest, UpstreamFault
from maxd.workers.turn import (
    CallStarted,
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
    for event in TOOL_ROUND + LAST_ROUND[:1]:
        assert release.feed([event]) == [event]
    assert release.feed(LAST_ROUND[1:2]) == [TextDelta("\n\n"), LAST_ROUND[1]]
    for event in LAST_ROUND[2:] + END:
        assert release.feed([event]) == [event]


def test_smart_shows_only_the_text_of_the_last_round() -> None:
    assert text(Release("smart").feed(TOOL_ROUND + TOOL_ROUND + LAST_ROUND + END)) == "It is 42."


def test_smart_holds_text_back_until_the_turn_has_ended() -> None:
    release = Release("smart")
    assert release.feed(LAST_ROUND) == [STARTED, RoundEnded("end_turn")]
    assert release.feed(END) == [*LAST_ROUND[1:3], *END]


def test_smart_shows_one_answer_where_the_cli_goes_on_after_one() -> None:
    again: list[Event] = [STARTED, TextDelta("It is 43."), RoundEnded("end_turn")]
    assert text(Release("smart").feed(LAST_ROUND + again + END)) == "It is 43."
    silent: list[Event] = [STARTED, RoundEnded("end_turn")]
    assert text(Release("smart").feed(LAST_ROUND + silent + END)) == "It is 42."
    assert text(Release("smart").feed(LAST_ROUND + TOOL_ROUND + silent + END)) == ""


def test_what_was_cut_for_its_length_is_one_answer_with_what_follows() -> None:
    cut: list[Event] = [STARTED, TextDelta("It is "), RoundEnded("max_tokens")]
    rest: list[Event] = [STARTED, TextDelta("42."), RoundEnded("end_turn")]
    for mode in ("live", "smart", "adaptive"):
        assert text(Release(parse_mode(mode)).feed(cut + rest + END)) == "It is 42."


def test_text_before_a_call_that_the_client_answers_is_the_answer() -> None:
    call = CallStarted("c1", "lookup")
    events: list[Event] = [STARTED, TextDelta("Looking."), call, RoundEnded("tool_use")]
    end: list[Event] = [Finished("tool_use", Usage())]
    released = Release("smart").feed(TOOL_ROUND + events + end)
    assert released[-4:] == [TextDelta("Looking."), call, RoundEnded("tool_use"), *end]
    assert text(released) == "Looking."


def test_adaptive_shows_what_is_long_enough_to_be_the_answer() -> None:
    release = Release("adaptive")
    assert text(release.feed([STARTED, TextDelta("a" * (ENOUGH - 1))])) == ""
    assert text(release.feed([TextDelta("b")])) == "a" * (ENOUGH - 1) + "b"
    assert text(release.feed([TextDelta("c")])) == "c"
    assert text(release.feed([RoundEnded("end_turn"), *END])) == ""


def test_adaptive_drops_what_is_short_and_parts_what_was_shown() -> None:
    long: list[Event] = [STARTED, TextDelta("a" * ENOUGH), RoundEnded("tool_use")]
    said = text(Release("adaptive").feed(TOOL_ROUND + long + TOOL_ROUND + LAST_ROUND + END))
    assert said == "a" * ENOUGH + "\n\nIt is 42."


def test_adaptive_fails_where_the_client_has_a_part_of_what_broke() -> None:
    release = Release("adaptive")
    release.feed([STARTED, TextDelta("short")])
    assert text(release.feed([RoundBroken(), STARTED])) == ""
    release.feed([TextDelta("a" * ENOUGH)])
    with pytest.raises(UpstreamFault):
        release.feed([RoundBroken()])


def test_tools_are_shown_as_thinking_where_the_profile_says_so() -> None:
    tool = ToolStarted("Bash", "make test")
    assert Release("smart").feed([tool]) == [tool]
    shown = Release("smart", show_tools=True).feed([tool, ToolStarted("Agent")])
    assert shown[:2] == [ThinkingDelta("running Bash: make test\n"), tool]
    assert shown[2] == ThinkingDelta("running Agent\n")


@pytest.mark.parametrize("wrong", ["", "Live", "smart, smart", "loud", "live "])
def test_a_mode_that_does_not_exist_is_refused(wrong: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_mode(wrong)
    assert caught.value.param == "X-Maxd-Stream"


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
    assert text(release.feed([RoundBroken(), *LAST_ROUND])).strip() == "It is 42."


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
