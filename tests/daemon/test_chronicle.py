"""Totals, events, errors and history, as they are counted."""

from maxd.daemon.chronicle import ERRORS_KEPT, EVENTS_KEPT, MOST_REASONS, TURN_FAILED, Chronicle
from maxd.daemon.history import POINTS, STEP
from maxd.daemon.slots import Key
from maxd.daemon.turn_facts import Timings
from maxd.workers.faults import BackendUnavailable, UpstreamFault, WorkerDied
from tests.daemon.telling import replied, turn

KEY = Key("chat", "sonnet")
DIED = WorkerDied("the claude CLI ended by itself")


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_turns_are_counted_by_how_they_end() -> None:
    chronicle = Chronicle()
    chronicle.turn_ended(turn())
    chronicle.turn_ended(turn(outcome="cancelled", usage=None, cost=0.0))
    chronicle.turn_ended(turn(outcome="overloaded", reason="too many", usage=None, cost=0.0))
    totals = chronicle.totals()
    assert (totals.turns, totals.finished, totals.cancelled, totals.failed) == (3, 1, 1, 1)
    assert (totals.input_tokens, totals.cache_read_tokens, totals.output_tokens) == (10, 20, 5)
    assert totals.cost_usd == 0.25
    [error] = chronicle.errors()
    assert (error.code, error.reason, error.request) == ("overloaded", "too many", "req_1")
    assert [event.detail for event in chronicle.events()] == ["overloaded", "cancelled", "finished"]


def test_workers_are_counted_by_why_they_end() -> None:
    chronicle = Chronicle()
    for name in ("w1", "w2", "w3", "w4"):
        chronicle.worker_started(name, KEY)
    chronicle.worker_gone("w1", "its turn is over", None, stuck=False)
    chronicle.worker_gone("w2", None, DIED, stuck=False)
    chronicle.worker_gone("w3", None, UpstreamFault("the service failed"), stuck=False)
    totals = chronicle.totals()
    assert (totals.workers_started, totals.workers_killed, totals.workers_died) == (4, 2, 1)
    assert totals.kills_by_reason == {"its turn is over": 1, TURN_FAILED: 1}
    assert [error.reason for error in chronicle.errors()] == [DIED.message]
    assert set(chronicle.members) == {"w4"}


def test_a_worker_that_is_stuck_stays_with_its_process_id() -> None:
    chronicle = Chronicle()
    chronicle.worker_started("w1", KEY)
    chronicle.worker_ready("w1", 4711, 0.6)
    chronicle.worker_gone("w1", "its turn was cut short", None, stuck=True)
    assert chronicle.members["w1"].pid == 4711
    assert chronicle.events()[0].what == "worker stuck"


def test_a_worker_is_known_by_the_conversation_it_served_last() -> None:
    clock = Clock()
    chronicle = Chronicle(clock)
    chronicle.worker_started("w1", KEY)
    chronicle.worker_ready("w1", 4711, 0.6)
    clock.now += 50
    chronicle.turn_ended(turn(conversation="conv_7"))
    assert chronicle.members["w1"].conversation == "conv_7"
    assert chronicle.members["w1"].active_at == clock.now
    chronicle.turn_ended(turn(worker="w9"))


def test_the_cli_that_is_lost_is_an_error() -> None:
    chronicle = Chronicle()
    chronicle.cli_changed(BackendUnavailable("claude is not logged in"))
    chronicle.cli_changed(None)
    assert [error.code for error in chronicle.errors()] == ["backend_unavailable"]
    assert chronicle.events()[0].what == "claude CLI can be used"


def test_requests_that_never_became_a_turn_are_counted_as_refused() -> None:
    chronicle = Chronicle()
    chronicle.replied(replied())
    chronicle.replied(replied(status=429, turn=True))
    chronicle.replied(replied(method="GET", status=404))
    assert chronicle.totals().refused == 1


def test_nothing_grows_for_ever() -> None:
    clock = Clock()
    chronicle = Chronicle(clock)
    for number in range(3 * POINTS):
        clock.now += STEP
        chronicle.worker_started(f"w{number}", KEY)
        chronicle.worker_gone(f"w{number}", f"reason {number}", None, stuck=False)
        chronicle.turn_ended(turn(outcome=f"code {number}", reason="r"))
    assert len(chronicle.events()) == EVENTS_KEPT
    assert len(chronicle.errors()) == ERRORS_KEPT
    assert len(chronicle.history()) == POINTS
    assert len(chronicle.totals().kills_by_reason) == MOST_REASONS + 1
    assert chronicle.members == {}


def test_history_has_medians_of_steps_and_forgets() -> None:
    clock = Clock()
    chronicle = Chronicle(clock)
    for total in (1.0, 2.0, 9.0):
        chronicle.turn_ended(turn(timings=Timings(first_text=total / 2, total=total)))
    chronicle.turn_ended(turn(outcome="overloaded", timings=Timings()))
    [point] = chronicle.history()
    assert (point.turns, point.failed, point.first_text, point.total) == (4, 1, 1.0, 2.0)
    clock.now += STEP
    chronicle.turn_ended(turn(timings=Timings()))
    assert [(point.turns, point.total) for point in chronicle.history()] == [(4, 2.0), (1, None)]
    clock.now += STEP * (POINTS + 1)
    assert chronicle.history() == []


def test_a_clock_that_is_set_back_loses_no_turn() -> None:
    clock = Clock()
    chronicle = Chronicle(clock)
    chronicle.turn_ended(turn())
    clock.now -= 3600
    chronicle.turn_ended(turn())
    assert [point.turns for point in chronicle.history()] == [1], "the one from the future waits"
    assert chronicle.totals().turns == 2
