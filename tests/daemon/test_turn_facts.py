"""Where the time of a turn has gone."""

import pytest

from maxd.daemon.lease import Lease
from maxd.daemon.turn_facts import Timings, server_timing, timings
from maxd.daemon.turn_watch import TurnWatch
from maxd.workers.turn import TurnRecord
from tests.daemon.stand_ins import FINISHED, TURN, IdleWorker
from tests.daemon.telling import turn


@pytest.mark.parametrize(
    ("start", "queue", "spawn"),
    [
        # A spare that was ready before the request came.
        ((1.0, 2.0), 5.0, 0.0),
        # One that was being started when it came.
        ((9.0, 12.0), 3.0, 2.0),
        # One that was started for it, after a wait for room.
        ((12.0, 15.0), 2.0, 3.0),
        # No process at all.
        (None, 5.0, 0.0),
    ],
)
def test_the_wait_for_a_worker_is_for_room_or_for_its_start(
    start: tuple[float, float] | None, queue: float, spawn: float
) -> None:
    found = timings(10.0, 15.0, start, 16.0, 18.0)
    assert (found.queue, found.spawn) == (queue, spawn)
    assert (found.first_text, found.total) == (6.0, 8.0)


def test_what_has_not_happened_is_not_told() -> None:
    assert timings(10.0, None, None, None, None) == Timings()
    assert server_timing(Timings()) == ""
    assert server_timing(Timings(queue=0.0, spawn=1.25)) == "queue;dur=0.0, spawn;dur=1250.0"


def test_a_server_timing_header_is_in_milliseconds() -> None:
    known = Timings(queue=0.0012, spawn=0.0, first_text=0.5, total=2.0)
    assert server_timing(known) == (
        "queue;dur=1.2, spawn;dur=0.0, first_token;dur=500.0, total;dur=2000.0"
    )


@pytest.mark.parametrize(
    ("outcome", "failed"), [("finished", False), ("cancelled", False), ("overloaded", True)]
)
def test_a_client_that_goes_away_is_no_failure(outcome: str, failed: bool) -> None:
    assert turn(outcome=outcome).failed is failed


def test_the_line_in_the_log_has_ids_and_timings() -> None:
    fields = turn(key="laptop").log_fields()
    assert fields["request"] == "req_1"
    assert fields["key"] == "laptop"
    assert fields["dialect"] == "chat"
    assert (fields["queued"], fields["spawn"], fields["first_text"], fields["total"]) == (
        0.5,
        0.0,
        1.0,
        2.0,
    )


async def test_a_worker_that_did_not_end_the_turn_does_not_cost_what_the_turn_before_did() -> None:
    class Recording(IdleWorker):
        kept = TurnRecord(cost=1.0)

        @property
        def record(self) -> TurnRecord:
            return self.kept

    worker = Recording()
    costs = []
    for after in (None, TurnRecord(cost=2.0)):
        watch, lease = TurnWatch(TURN, "conv"), Lease(lambda lease: None)
        lease.grant(worker, continues=True)
        watch.leased(lease)
        worker.kept = after or worker.kept
        facts = watch.facts(FINISHED, None, request="q", dialect="", key=None)
        costs.append(facts.cost)
    assert costs == [0.0, 2.0]
