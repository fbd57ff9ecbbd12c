"""The states of a worker."""

from itertools import product

import pytest

from maxd.workers.states import TRANSITIONS, Happening, IllegalTransition, State, after

ENDS = {State.GONE, State.STUCK}


@pytest.mark.parametrize(("state", "happening"), list(product(State, Happening)))
def test_every_pair_is_in_the_table_or_illegal(state: State, happening: Happening) -> None:
    if (state, happening) in TRANSITIONS:
        assert after(state, happening) is TRANSITIONS[state, happening]
        return
    with pytest.raises(IllegalTransition, match=rf"{happening} .* {state}") as caught:
        after(state, happening)
    assert (caught.value.state, caught.value.happening) == (state, happening)


@pytest.mark.parametrize(
    "life",
    [
        "starting ready spare lease leased kill ending gone gone",
        "starting ready spare lease leased finish idle lease leased finish idle kill ending gone "
        "gone",
        "starting ready spare lease leased park parked lease leased finish idle kill ending gone "
        "gone",
        "starting ready spare kill ending stuck stuck",
        "starting kill ending kill ending gone gone",
    ],
)
def test_lives(life: str) -> None:
    first, *rest = life.split()
    state = State(first)
    for happening, following in zip(rest[::2], rest[1::2], strict=True):
        state = after(state, Happening(happening))
        assert state == following


def test_every_state_can_be_reached_and_every_life_can_end() -> None:
    reached = {State.STARTING}
    for _ in State:
        reached |= {to for (state, _), to in TRANSITIONS.items() if state in reached}
    assert reached == set(State)
    ending = set(ENDS)
    for _ in State:
        ending |= {state for (state, _), to in TRANSITIONS.items() if to in ending}
    assert ending == set(State)


def test_whatever_lives_can_be_killed_and_nothing_follows_the_end() -> None:
    for state in State:
        assert ((state, Happening.KILL) in TRANSITIONS) is (state not in ENDS)
    assert not any(state in ENDS for state, _ in TRANSITIONS)


def test_a_worker_is_lent_only_when_it_is_a_spare_or_holds_the_conversation() -> None:
    leased = {pair for pair, to in TRANSITIONS.items() if to is State.LEASED}
    holders = (State.SPARE, State.IDLE, State.PARKED)
    assert leased == {(state, Happening.LEASE) for state in holders}
