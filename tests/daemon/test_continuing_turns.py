"""Which turns leave a worker that may be kept, by what it is known, and what it is given next."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from maxd.daemon import lineage
from maxd.daemon.conversations import Conversations
from maxd.daemon.lease import Lease
from maxd.daemon.slots import Key
from maxd.daemon.turn_stream import TurnStream
from maxd.daemon.turns import Turns
from maxd.workers.faults import Fault, Overloaded, ProtocolBroken, UpstreamFault, WorkerDied
from maxd.workers.profiles import BUILT_IN
from maxd.workers.turn import (
    Effort,
    Event,
    Message,
    RoundBroken,
    RoundEnded,
    RoundStarted,
    Text,
    TextDelta,
    ToolStarted,
    Turn,
)
from maxd.workers.worker import Outbox
from tests.daemon.stand_ins import FINISHED, AskedPool, IdleWorker, logger

CHAT = Key("chat", "sonnet")
DIED = WorkerDied("the claude CLI ended by itself")
QUESTION = Message("user", (Text("And now?"),))
STARTED = RoundStarted("claude-sonnet-4-7")
ROUND: list[Event] = [STARTED, TextDelta("It is 42. "), RoundEnded("end_turn")]


class KnowingWorker(IdleWorker):
    """Remembers how much of each turn it was said to know."""

    def __init__(self, number: int = 1) -> None:
        super().__init__(number)
        self.known: list[int] = []

    def assign_nowait(
        self, turn: Turn, outbox: Outbox, known: int = 0, *, reset: bool = False
    ) -> None:
        self.known.append(known)
        super().assign_nowait(turn, outbox, known)


class KnowingPool(AskedPool):
    """Remembers what each lease was asked for, besides."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[dict[str, Any]] = []

    def lease(self, key: Key, client: str, *, again: bool = False, **wanted: Any) -> Lease:
        self.wanted.append(wanted)
        return super().lease(key, client, again=again)

    def holds(self, head: bytes) -> bool:
        return any(lease.head == head for lease in self.given_back)


class Bench:
    """Turns over a pool that only remembers."""

    def __init__(self, *, resets: bool = False, probed: str = "") -> None:
        self.pool = KnowingPool()
        self.turns = Turns(
            self.pool.as_pool,
            BUILT_IN,
            Conversations(),
            logger()[0],
            allows_reset=lambda version: resets and version in (None, probed),
        )

    @contextmanager
    def run(self, turn: Turn, *, conversation: str | None = None) -> Iterator[TurnStream]:
        with self.turns.run(
            turn, client="c", request_id="q", conversation_id=conversation
        ) as stream:
            yield stream

    def grant(self, *, continues: bool = False, resets: bool = False) -> KnowingWorker:
        worker = KnowingWorker(len(self.pool.leases))
        self.pool.leases[-1].grant(worker, continues=continues, resets=resets)
        return worker

    @property
    def heads(self) -> list[bytes | None]:
        """What the workers that were given back are known by."""
        return [lease.head for lease in self.pool.given_back]


def ask(*said: Message, profile: str = "chat") -> Turn:
    return Turn(
        profile=profile, model="sonnet", system=("Be brief.",), messages=said or (QUESTION,)
    )


def following(turn: Turn, reply: str) -> Turn:
    """The client's next request."""
    answer = Message("assistant", (Text(reply),))
    return ask(*turn.messages, answer, QUESTION, profile=turn.profile)


async def read(stream: TurnStream) -> list[Event]:
    """All events up to Finished."""
    events: list[Event] = []
    while not stream.finished:
        events += await stream.next_events()
    return events


async def answered(bench: Bench, turn: Turn, *events: Event, continues: bool = False) -> str:
    """Run a turn to its end; return what the client saw of the answer."""
    with bench.run(turn) as stream:
        worker = bench.grant(continues=continues)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def answer() -> None:
                await wait_all_tasks_blocked()
                for event in events or (*ROUND, FINISHED):
                    worker.outbox.send_nowait([event])

            told = await read(stream)
    return "".join(event.text for event in told if isinstance(event, TextDelta))


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


async def test_one_that_continued_and_died_is_replaced_by_an_import() -> None:
    bench = Bench()
    turn = following(ask(), await answered(bench, ask()))
    with bench.run(turn) as stream:
        first = bench.grant(continues=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, stream)
            await wait_all_tasks_blocked()
            first.outbox.send_nowait(DIED)
            first.outbox.close()
            await wait_all_tasks_blocked()
            second = bench.grant()
            await wait_all_tasks_blocked()
            second.outbox.send_nowait([*ROUND, FINISHED])
    assert (first.known, second.known) == ([2], [0])
    assert second.turns == [turn]
    assert bench.pool.wanted[-1]["head"] is None
    assert bench.pool.asked[-1] == (CHAT, "c", True)
    # The first is not kept; the second is.
    assert bench.heads[1:] == [None, lineage.after_reply(turn, "c", (Text("It is 42. "),))]


async def test_one_that_died_of_its_reset_is_not_replaced_by_another_to_be_reset() -> None:
    bench = Bench(resets=True)
    turn = ask()
    with bench.run(turn) as stream:
        first = bench.grant(resets=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, stream)
            await wait_all_tasks_blocked()
            first.outbox.send_nowait(ProtocolBroken("the claude CLI did not answer a reset"))
            first.outbox.close()
            await wait_all_tasks_blocked()
            second = bench.grant()
            await wait_all_tasks_blocked()
            second.outbox.send_nowait([*ROUND, FINISHED])
    roots = [wanted["root"] for wanted in bench.pool.wanted]
    assert roots == [lineage.binding(lineage.root(turn, "c"), turn, None), None]
    assert bench.heads == [None, lineage.after_reply(turn, "c", (Text("It is 42. "),))]


async def test_one_that_died_in_the_moment_of_its_grant_is_replaced_too() -> None:
    bench = Bench()
    turn = following(ask(), await answered(bench, ask()))
    with bench.run(turn) as stream:
        bench.grant(continues=True)
        bench.pool.leases[-1].lose()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, stream)
            await wait_all_tasks_blocked()
            second = bench.grant()
            await wait_all_tasks_blocked()
            second.outbox.send_nowait([*ROUND, FINISHED])
    assert second.known == [0]


async def test_what_died_after_the_acceptance_is_not_replaced() -> None:
    bench = Bench()
    turn = following(ask(), await answered(bench, ask()))
    with bench.run(turn) as stream:
        worker = bench.grant(continues=True)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def expect() -> None:
                with pytest.raises(WorkerDied):
                    await read(stream)

            await wait_all_tasks_blocked()
            worker.outbox.send_nowait([STARTED])
            worker.outbox.send_nowait(DIED)
    assert len(bench.pool.leases) == 2
    assert bench.heads[1:] == [None]


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


async def test_a_worker_is_reset_for_the_effort_that_it_is_set_to() -> None:
    """Or a conversation that wants none in particular would have that of a stranger's."""
    bench = Bench(resets=True)
    asked = replace(ask(), effort="low")
    with bench.run(asked) as stream:
        worker = Trying()
        bench.pool.leases[-1].grant(worker)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def answer() -> None:
                await wait_all_tasks_blocked()
                worker.outbox.send_nowait([*ROUND, FINISHED])

            await read(stream)
    (lease,) = bench.pool.given_back
    for turn in (asked, ask(), replace(ask(), effort="high")):
        with bench.run(turn):
            pass
    wanted = [each["root"] == lease.root for each in bench.pool.wanted[1:]]
    assert wanted == [True, False, False]


async def test_after_an_update_a_worker_of_the_version_before_is_not_reset() -> None:
    for probed, resets in (("", True), ("2.1.330", False)):
        bench = Bench(resets=True, probed=probed)
        await answered(bench, ask())
        assert (bench.pool.given_back[-1].root is not None) is resets
        assert bench.pool.wanted[-1]["root"] is not None


class Trying(KnowingWorker):
    """One that is set to an effort."""

    @property
    def effort(self) -> Effort | None:
        return "low"
