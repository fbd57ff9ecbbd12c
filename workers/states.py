"""The states of a worker, and what may happen in each: a table, so that it can be read and tested.

The same words stand in logs, on the status page and in tests.
"""

from enum import StrEnum


class State(StrEnum):
    STARTING = "starting"
    """The process has been started and has not answered yet."""
    SPARE = "spare"
    """Ready, bound to nothing, frozen if the configuration says so."""
    LEASED = "leased"
    """One turn has the exclusive right to it."""
    IDLE = "idle"
    """It holds a conversation and waits for that conversation's next turn."""
    PARKED = "parked"
    """Its model has called the client's functions and waits for the next request."""
    ENDING = "ending"
    """Its process tree is being killed."""
    GONE = "gone"
    """Nothing of its process tree is left."""
    STUCK = "stuck"
    """Its process tree could not be killed in time; it is shown and no longer waited for."""


class Happening(StrEnum):
    READY = "ready"
    LEASE = "lease"
    FINISH = "finish"
    PARK = "park"
    KILL = "kill"
    GONE = "gone"
    STUCK = "stuck"


TRANSITIONS: dict[tuple[State, Happening], State] = {
    (State.STARTING, Happening.READY): State.SPARE,
    (State.STARTING, Happening.KILL): State.ENDING,
    (State.SPARE, Happening.LEASE): State.LEASED,
    (State.SPARE, Happening.KILL): State.ENDING,
    (State.LEASED, Happening.KILL): State.ENDING,
    (State.LEASED, Happening.FINISH): State.IDLE,
    (State.IDLE, Happening.LEASE): State.LEASED,
    (State.IDLE, Happening.KILL): State.ENDING,
    (State.LEASED, Happening.PARK): State.PARKED,
    (State.PARKED, Happening.LEASE): State.LEASED,
    (State.PARKED, Happening.KILL): State.ENDING,
    # A second reason to kill changes nothing.
    (State.ENDING, Happening.KILL): State.ENDING,
    (State.ENDING, Happening.GONE): State.GONE,
    (State.ENDING, Happening.STUCK): State.STUCK,
}


class IllegalTransition(Exception):
    """Something happened that cannot happen in this state. The state is unchanged."""

    def __init__(self, state: State, happening: Happening) -> None:
        super().__init__(f"{happening} cannot happen to a worker that is {state}")
        self.state = state
        self.happening = happening


def after(state: State, happening: Happening) -> State:
    """The state that follows. Raises IllegalTransition where the table has no row."""
    try:
        return TRANSITIONS[state, happening]
    except KeyError:
        raise IllegalTransition(state, happening) from None
