"""Turns that end in calls of the client's functions, and what brings their results."""

from collections.abc import Sequence

import pytest
import trio
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from maxd.daemon import lineage
from maxd.daemon.conversations import Conversations
from maxd.daemon.turns import Turns
from maxd.workers.faults import ConversationGone
from maxd.workers.profiles import BUILT_IN, CHAT
from maxd.workers.turn import (
    CallDelta,
    CallStarted,
    Document,
    Event,
    Finished,
    Function,
    Message,
    Part,
    RoundEnded,
    RoundStarted,
    Text,
    TextDelta,
    ToolCall,
    ToolResult,
    Turn,
    Usage,
)
from tests.daemon.continuing_bench import Bench, read
from tests.daemon.stand_ins import logger

CLOCK = Function("clock", "Tells the time.", '{"type":"object"}')
WATCH = Function("clock", "Tells the time otherwise.", '{"type":"object"}')
QUESTION = Message("user", (Text("When?"),))
ASKED = Turn(profile="chat", model="sonnet", messages=(QUESTION,), functions=(CLOCK,))
CALLS: list[Event] = [
    RoundStarted("claude-sonnet-5"),
    TextDelta("Let me see. "),
    CallStarted("call1", "clock"),
    CallDelta('{"a":'),
    CallDelta(" 1.0}"),
    CallStarted("call2", "clock"),
    CallDelta("{}"),
    RoundEnded("tool_use"),
    Finished("tool_use", Usage()),
]
ANSWER = Message(
    "assistant",
    (
        # As clients hand it back: other white space, and arguments they have parsed.
        Text("Let me see."),
        ToolCall("call1", "clock", '{ "a": 1 }'),
        ToolCall("call2", "clock", "{}"),
    ),
)
NOON = ToolResult("call1", (Text("noon"),))
ONE = ToolResult("call2", (Text("one"),))
FILE = ToolResult("call2", (Document("text/plain", "one"),))
END = Finished("end_turn", Usage())


async def call(bench: Bench, asked: Turn = ASKED) -> list[Event]:
    """A turn that ends in calls, to its end; what the client was told."""
    with bench.run(asked) as stream:
        worker = bench.grant()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def answer() -> None:
                await wait_all_tasks_blocked()
                worker.outbox.send_nowait(CALLS)

            return await read(stream)


def bring(*new: Message, asked: Turn = ASKED) -> Turn:
    return replace(asked, messages=(*asked.messages, ANSWER, *new))


async def test_calls_are_told_and_leave_a_parked_worker() -> None:
    bench = Bench()
    told = await call(bench)
    assert [event for event in told if isinstance(event, CallStarted | CallDelta)] == CALLS[2:7]
    (lease,) = bench.pool.given_back
    assert lease.parked
    assert lease.head == lineage.history(bring(Message("user", (NOON, ONE))), "c")[0]


@pytest.mark.parametrize("results", [(NOON, ONE), (ONE, NOON)])
async def test_exactly_the_results_are_for_the_parked_worker(results: tuple[Part, ...]) -> None:
    bench = Bench()
    await call(bench)
    with bench.run(bring(Message("user", results))):
        pass
    assert bench.pool.wanted[-1]["head"] == bench.heads[0]


@pytest.mark.parametrize(
    "new",
    [
        [Message("user", (NOON,))],
        [Message("user", (NOON, ToolResult("call3", (Text("x"),))))],
        [Message("user", (NOON, ONE)), QUESTION],
        [QUESTION],
    ],
    ids=["one is missing", "one is another", "more is said", "none"],
)
async def test_anything_else_is_imported_into_another(new: Sequence[Message]) -> None:
    bench = Bench()
    await call(bench)
    with bench.run(bring(*new)):
        pass
    assert bench.pool.wanted[-1]["head"] is None
    assert bench.pool.wanted[-1]["whole"]


@pytest.mark.parametrize(
    "change",
    [{"functions": (WATCH,)}, {"functions": ()}, {"system": ("Be brief.",)}, {"schema": "{}"}],
    ids=str,
)
async def test_other_functions_or_another_binding_are_imported(change: dict[str, object]) -> None:
    bench = Bench()
    await call(bench)
    with bench.run(replace(bring(Message("user", (NOON, ONE))), **change)):
        pass
    assert bench.pool.wanted[-1]["head"] not in bench.heads


async def test_a_lenient_profile_takes_what_is_said_behind_the_results() -> None:
    bench = Bench()
    profiles = BUILT_IN | {"chat": replace(CHAT, lenient=True)}
    bench.turns = Turns(bench.pool.as_pool, profiles, Conversations(), logger()[0])
    await call(bench)
    with bench.run(bring(Message("user", (NOON, ONE)), QUESTION)):
        pass
    assert bench.pool.wanted[-1]["head"] == bench.heads[0]


async def test_functions_of_an_agent_are_served_without_its_tools() -> None:
    bench = Bench()
    await call(bench, replace(ASKED, profile="agent"))
    assert [key for key, *_ in bench.pool.asked] == [("chat", "sonnet")]


async def test_a_conversation_that_called_other_functions_takes_no_reset_worker() -> None:
    bench = Bench(resets=True)
    history = bring(Message("user", (NOON, ONE)), asked=replace(ASKED, functions=()))
    with bench.run(history):
        pass
    with bench.run(ASKED):
        pass
    assert [wanted["root"] is None for wanted in bench.pool.wanted] == [True, False]


@pytest.mark.parametrize(
    "new", [[QUESTION], [Message("user", (ONE,))], [Message("user", (NOON, FILE))]]
)
async def test_a_parked_worker_that_is_found_under_another_id_gets_exactly_its_results_too(
    new: list[Message],
) -> None:
    bench = Bench()
    await call(bench)
    with bench.run(bring(*new), conversation="mine"):
        pass
    with bench.run(bring(Message("user", (NOON, ONE))), conversation="mine"):
        pass
    assert [wanted["head"] for wanted in bench.pool.wanted[1:]] == [None, bench.heads[0]]


@pytest.mark.parametrize("is_known", [True, False])
async def test_results_alone_that_nothing_waits_for_are_refused(is_known: bool) -> None:
    """Given to a worker they would be results without a call, which the service refuses; and the
    worker's conversation would be lost with it."""
    bench = Bench()
    if is_known:
        with bench.run(replace(ASKED, messages=(QUESTION,)), conversation="mine") as stream:
            worker = bench.grant()
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def answer() -> None:
                    await wait_all_tasks_blocked()
                    worker.outbox.send_nowait([RoundStarted("m"), TextDelta("Now."), END])

                await read(stream)
    alone = replace(ASKED, messages=(Message("user", (NOON,)),))
    leases = len(bench.pool.leases)
    with pytest.raises(ConversationGone), bench.run(alone, conversation="mine"):
        pass
    assert len(bench.pool.leases) == leases
    # It stands where it stood.
    with bench.run(replace(ASKED, messages=(QUESTION,)), conversation="mine") as stream:
        pass
    if is_known:
        assert bench.pool.wanted[-1]["head"] == bench.heads[0]
