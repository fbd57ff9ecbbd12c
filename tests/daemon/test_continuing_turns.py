"""Which turns leave a worker that may be kept, by what it is known, and what it is given next."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from maxd.daemon import lineage
from maxd.workers.faults import Fault, Overloaded, UpstreamFault
from maxd.workers.turn import Event, RoundBroken, RoundEnded, Text, TextDelta, ToolStarted
from tests.daemon.continuing_bench import (
    DIED,
    QUESTION,
    ROUND,
    STARTED,
    Bench,
    KnowingWorker,
    answered,
    ask,
    following,
    read,
)
from tests.daemon.stand_ins import FINISHED


async def test_the_next_turn_asks_for_the_worker_that_has_answered_this_one() -> None:
    bench = Bench()
    turn = ask()
    for number in range(5):
        reply = await answered(bench, turn, continues=number > 0)
        assert bench.heads[-1] is not None
        turn = following(turn, reply)
    wanted = [wanted["head"] for wanted in bench.pool.wanted]
    assert wanted == [None, *bench.heads[:4]]
    workers = [lease.worker for lease in bench.pool.leases]
    known = [worker.known for worker in workers if isinstance(worker, KnowingWorker)]
    assert known == [[0], [2], [4], [6], [8]]


async def test_a_worker_that_does_not_continue_is_given_everything() -> None:
    bench = Bench()
    turn = following(ask(), await answered(bench, ask()))
    await answered(bench, turn, continues=False)
    worker = bench.pool.leases[-1].worker
    assert isinstance(worker, KnowingWorker)
    assert (worker.known, worker.turns) == ([0], [turn])


@pytest.mark.parametrize("profile", ["chat", "agent"])
async def test_the_head_is_of_what_the_client_saw(profile: str) -> None:
    """In smart mode the model said more than that, on its way to a tool."""
    bench = Bench()
    turn = ask(profile=profile)
    looking: list[Event] = [STARTED, TextDelta("Let me look."), RoundEnded("tool_use")]
    reply = await answered(bench, turn, *looking, ToolStarted("Bash"), *ROUND, FINISHED)
    assert reply == ("It is 42. " if profile == "agent" else "Let me look.\n\nIt is 42. ")
    assert bench.heads == [lineage.after_reply(turn, "c", (Text(reply),))]
    assert bench.heads == [lineage.history(following(turn, reply), "c")[0]]


@pytest.mark.parametrize("count", range(5))
async def test_a_client_that_leaves_before_the_end_leaves_nothing_to_continue(count: int) -> None:
    bench = Bench()
    with bench.run(ask()) as stream:
        worker = bench.grant()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, stream)
            await wait_all_tasks_blocked()
            for event in [*ROUND, FINISHED][:count]:
                worker.outbox.send_nowait([event])
                await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert (bench.heads == [None]) == (count < 4)


async def test_cancelled_while_the_end_is_sent_the_client_may_not_have_it() -> None:
    bench = Bench()
    with trio.CancelScope() as connection, bench.run(ask()) as stream:
        worker = bench.grant()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, stream)
            await wait_all_tasks_blocked()
            worker.outbox.send_nowait([*ROUND, FINISHED])
        assert stream.finished
        connection.cancel()
        await trio.sleep_forever()
    assert connection.cancelled_caught
    assert bench.heads == [None]


async def test_stopped_while_the_end_is_sent_the_client_may_not_have_it() -> None:
    bench = Bench()
    with bench.run(ask()) as stream:
        worker = bench.grant()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, stream)
            await wait_all_tasks_blocked()
            worker.outbox.send_nowait([*ROUND, FINISHED])
        bench.turns.stop(Overloaded("maxd is stopping"))
        with pytest.raises(Overloaded):
            await stream.next_events()
    assert bench.heads == [None]
    assert len(bench.turns.conversations) == 0


async def test_an_error_while_the_end_is_sent() -> None:
    bench = Bench()

    async def send() -> None:
        with bench.run(ask()) as stream:
            worker = bench.grant()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, stream)
                await wait_all_tasks_blocked()
                worker.outbox.send_nowait([*ROUND, FINISHED])
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await send()
    assert bench.heads == [None]


FAULTS = [UpstreamFault("failed"), DIED, Overloaded("busy")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("count", [1, 2, 3])
async def test_after_a_fault_nothing_is_continued(fault: Fault, count: int) -> None:
    """The front has told the client of it, and leaves the block as after an answer."""
    bench = Bench()
    with bench.run(ask()) as stream:
        worker = bench.grant()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def expect() -> None:
                with pytest.raises(type(fault)):
                    await read(stream)

            await wait_all_tasks_blocked()
            worker.outbox.send_nowait(ROUND[:count])
            worker.outbox.send_nowait(fault)
    assert bench.heads == [None]


async def test_a_broken_answer_is_not_continued_though_the_worker_has_finished_another() -> None:
    """The client has a part of the first, and the worker holds the second."""
    bench = Bench()
    with bench.run(ask()) as stream:
        worker = bench.grant()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def expect() -> None:
                with pytest.raises(UpstreamFault):
                    await read(stream)

            await wait_all_tasks_blocked()
            worker.outbox.send_nowait(ROUND[:2])
            await wait_all_tasks_blocked()
            worker.outbox.send_nowait([RoundBroken(), *ROUND, FINISHED])
    assert bench.heads == [None]
    assert len(bench.turns.conversations) == 0


@pytest.mark.parametrize("profile", ["chat", "agent"])
async def test_a_round_that_broke_unseen_leaves_doubt(profile: str) -> None:
    bench = Bench()
    held = [TextDelta("It is 4")] if profile == "agent" else []
    broken: list[Event] = [STARTED, *held, RoundBroken()]
    reply = await answered(bench, ask(profile=profile), *broken, *ROUND, FINISHED)
    assert reply == "It is 42. "
    assert bench.heads == [None]


@pytest.mark.parametrize("text", ["", " ", "\n"])
async def test_no_history_leads_to_a_blank_reply(text: str) -> None:
    bench = Bench()
    turn = ask()
    said = [TextDelta(text)] if text else []
    await answered(bench, turn, STARTED, *said, RoundEnded("end_turn"), FINISHED)
    for later in (turn, ask(*turn.messages, QUESTION), following(turn, text)):
        assert lineage.history(later, "c")[0] != bench.heads[0]


async def test_new_messages_alone_follow_the_whole_conversation() -> None:
    bench = Bench()
    with bench.run(ask(), conversation="mine") as stream:
        worker = bench.grant()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, stream)
            await wait_all_tasks_blocked()
            worker.outbox.send_nowait([*ROUND, FINISHED])
    with bench.run(ask(QUESTION), conversation="mine") as stream:
        worker = bench.grant(continues=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, stream)
            await wait_all_tasks_blocked()
            worker.outbox.send_nowait([*ROUND, FINISHED])
    assert bench.pool.wanted[1]["head"] == bench.heads[0]
    assert bench.pool.wanted[1]["whole"] is False
    assert worker.known == [0]
    # The same conversation sent whole goes on from there.
    whole = following(following(ask(), "It is 42."), "It is 42.")
    assert lineage.history(whole, "c")[0] == bench.heads[1]


async def test_two_turns_of_equal_conversations_ask_for_the_same_head() -> None:
    """Which of them gets the worker is the scheduler's to say."""
    bench = Bench()
    turn = following(ask(), await answered(bench, ask()))
    with bench.run(turn), bench.run(turn):
        pass
    assert [wanted["head"] for wanted in bench.pool.wanted[1:]] == [bench.heads[0]] * 2
