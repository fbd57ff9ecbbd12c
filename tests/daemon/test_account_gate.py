"""Turns at the gate of the account: refused before a worker is asked for, and out of the queue."""

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from maxd.daemon.account import Account, Closure
from maxd.daemon.account_gate import AccountGate
from maxd.daemon.conversations import Conversations
from maxd.daemon.first_contact import FirstContact
from maxd.daemon.turn_stream import TurnStream
from maxd.daemon.turns import Turns
from maxd.workers.cli import Login
from maxd.workers.faults import UsageLimit
from maxd.workers.profiles import BUILT_IN
from maxd.workers.turn import AccountLimit, RoundEnded, RoundStarted, Turn
from tests.daemon.stand_ins import FINISHED, TURN, AskedPool, IdleWorker, logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maxd.workers.turn import Event

NOW = 1_800_000_000.0
REJECTED = AccountLimit("rejected", "five_hour", None, NOW + 100)
OF_OPUS = AccountLimit("rejected", "seven_day_opus", None, NOW + 100)
OPUS_TURN = Turn(profile="chat", model="opus", messages=TURN.messages)
ANSWER: "list[Event]" = [RoundStarted("claude"), RoundEnded("end_turn")]


class Bench:
    """Turns with a gate over a pool that only remembers what it was asked."""

    def __init__(self, login: Login | None = None) -> None:
        self.pool = AskedPool()
        self.closed: list[Closure] = []
        self.opened: list[Closure] = []
        self.now = NOW
        log, capture = logger()
        self.entries = capture.entries
        self.gate = AccountGate(
            Account(wall=lambda: self.now, monotonic=lambda: self.now),
            FirstContact(lambda: login, wall=lambda: NOW),
            log,
            on_closed=self.closed.append,
            on_opened=self.opened.append,
        )
        self.turns = Turns(self.pool.as_pool, BUILT_IN, Conversations(), log, gate=self.gate)

    @contextmanager
    def run(self, turn: Turn = TURN) -> "Iterator[TurnStream]":
        with self.turns.run(turn, client="c", request_id="q") as stream:
            yield stream

    def grant(self, lease: int) -> IdleWorker:
        worker = IdleWorker(lease)
        self.pool.leases[lease].grant(worker)
        return worker


async def read(stream: TurnStream, outcome: "list[Event | UsageLimit]") -> None:
    try:
        while events := await stream.next_events():
            outcome += events
    except UsageLimit as fault:
        outcome.append(fault)


@pytest.mark.parametrize(
    ("limit", "opus", "sonnet"), [(REJECTED, True, True), (OF_OPUS, True, False)]
)
async def test_a_window_used_up_in_one_turn_refuses_those_that_wait_and_those_that_come(
    limit: AccountLimit, opus: bool, sonnet: bool
) -> None:
    bench = Bench()
    met: list[Event | UsageLimit] = []
    running: list[Event | UsageLimit] = []
    queued: dict[str, list[Event | UsageLimit]] = {"opus": [], "sonnet": []}
    async with trio.open_nursery() as nursery:
        with (
            bench.run(OPUS_TURN) as first,
            bench.run() as second,
            bench.run(OPUS_TURN) as third,
            bench.run() as fourth,
        ):
            nursery.start_soon(read, first, met)
            nursery.start_soon(read, second, running)
            nursery.start_soon(read, third, queued["opus"])
            nursery.start_soon(read, fourth, queued["sonnet"])
            worker, other = bench.grant(0), bench.grant(1)
            await wait_all_tasks_blocked()
            worker.outbox.send_nowait([limit])
            await wait_all_tasks_blocked()
            for model, is_refused in (("opus", opus), ("sonnet", sonnet)):
                faults = [each for each in queued[model] if isinstance(each, UsageLimit)]
                assert [fault.retry_after for fault in faults] == [100] * is_refused
            asked = len(bench.pool.leases)
            with pytest.raises(UsageLimit), bench.run(OPUS_TURN):
                pass
            assert len(bench.pool.leases) == asked, "no worker was asked for"
            other.outbox.send_nowait([*ANSWER, FINISHED])
            other.outbox.close()
            await wait_all_tasks_blocked()
            assert running == [*ANSWER, FINISHED], "it was running"
            nursery.cancel_scope.cancel()
    assert len(bench.closed) == 1
    [entry] = [each for each in bench.entries if each["event"] == "usage window used up"]
    assert entry["resets_at"] == NOW + 100
    assert bench.gate.turns == set()


@pytest.mark.parametrize(("turn", "opens"), [(OPUS_TURN, True), (TURN, False)])
async def test_that_it_is_open_again_is_told_when_it_has_been_seen(turn: Turn, opens: bool) -> None:
    bench = Bench()
    outcome: list[Event | UsageLimit] = []
    async with trio.open_nursery() as nursery:
        with bench.run(OPUS_TURN) as stream:
            nursery.start_soon(read, stream, outcome)
            worker = bench.grant(0)
            await wait_all_tasks_blocked()
            worker.outbox.send_nowait([OF_OPUS])
            await wait_all_tasks_blocked()
            worker.outbox.send_nowait(ANSWER)
            await wait_all_tasks_blocked()
            assert bench.opened == [], "it had begun before"
            bench.now += 101
            with bench.run(turn) as later:
                nursery.start_soon(read, later, outcome)
                worker = bench.grant(1)
                await wait_all_tasks_blocked()
                assert bench.opened == []
                worker.outbox.send_nowait(ANSWER)
                await wait_all_tasks_blocked()
                worker.outbox.send_nowait(ANSWER)
                await wait_all_tasks_blocked()
                assert bench.opened == bench.closed[:opens], "once"
                nursery.cancel_scope.cancel()


async def test_a_refusal_of_our_own_is_no_news_of_the_account() -> None:
    bench = Bench()
    outcome: list[Event | UsageLimit] = []
    with bench.run() as stream:
        stream.stop(UsageLimit("m", retry_after=5, window="five_hour", resets_at=NOW + 5))
        await read(stream, outcome)
    assert isinstance(outcome[0], UsageLimit)
    assert bench.closed == []


async def test_one_turn_goes_first_where_the_login_may_need_renewing() -> None:
    bench = Bench(Login(state="logged_in", method="claude.ai"))
    outcomes: list[list[Event | UsageLimit]] = [[], []]
    async with trio.open_nursery() as nursery:
        with bench.run() as first, bench.run() as second:
            nursery.start_soon(read, first, outcomes[0])
            await wait_all_tasks_blocked()
            nursery.start_soon(read, second, outcomes[1])
            workers = bench.grant(0), bench.grant(1)
            await wait_all_tasks_blocked()
            assert [len(worker.turns) for worker in workers] == [1, 0]
            workers[0].outbox.send_nowait(ANSWER)
            await wait_all_tasks_blocked()
            assert [len(worker.turns) for worker in workers] == [1, 1]
            nursery.cancel_scope.cancel()
