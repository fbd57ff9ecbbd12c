"""What a failed probe switches off, and for whom."""

import pytest
import trio
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from maxd.daemon.abilities import Abilities, abilities
from maxd.daemon.conversations import Conversations
from maxd.daemon.turns import Turns
from maxd.workers.faults import ConversationGone, Fault, NotSupported
from maxd.workers.features import PROBES, Finding
from maxd.workers.profiles import BUILT_IN
from maxd.workers.turn import Function, Message, Text, ToolCall, ToolResult, Turn
from tests.daemon.stand_ins import TURN, AskedPool, logger

CLOCK = Function("clock", "Tells the time.", '{"type":"object"}')
CALLED = (
    *TURN.messages,
    Message("assistant", (ToolCall("a", "clock", "{}"),)),
    Message("user", (ToolResult("a", (Text("noon"),)),)),
)
LONG = (*TURN.messages, Message("assistant", (Text("Hi"),)), *TURN.messages)


def found(*failed: str) -> list[Finding]:
    return [Finding(name, name not in failed, "", off) for name, _, off in PROBES]


def test_what_has_not_failed_is_there() -> None:
    assert abilities(None) == abilities(found()) == Abilities()


@pytest.mark.parametrize("name", ["history", "functions", "schema", "resume"])
def test_each_probe_switches_off_what_it_is_for(name: str) -> None:
    able = abilities(found(name))
    assert able == replace(Abilities(), **{name: False})


def test_where_nothing_passes_the_probes_are_not_believed() -> None:
    """Their own model may be what cannot be reached here, and turns would work."""
    every = [name for name, _, _ in PROBES]
    assert abilities(found(*every)) == Abilities()


@pytest.mark.parametrize(
    ("able", "turn"),
    [
        (Abilities(functions=False), replace(TURN, functions=(CLOCK,))),
        (Abilities(functions=False), replace(TURN, messages=CALLED)),
        (Abilities(schema=False), replace(TURN, schema='{"type":"object"}')),
    ],
)
def test_who_needs_it_is_refused_and_nobody_else(able: Abilities, turn: Turn) -> None:
    with pytest.raises(NotSupported) as refused:
        able.check(turn)
    assert (refused.value.status, refused.value.retry) == (501, False)
    able.check(TURN)
    Abilities().check(turn)


async def ask(turn: Turn, able: Abilities, *, refuse: Fault) -> tuple[AskedPool, list[Fault]]:
    """What the pool is asked for such a turn, and what the client is told of a refusal."""
    pool, told = AskedPool(lambda lease: lease.refuse(refuse)), list[Fault]()
    turns = Turns(pool.as_pool, BUILT_IN, Conversations(), logger()[0], able=lambda: able)

    async def read() -> None:
        with turns.run(turn, client="c", request_id="q") as stream:
            try:
                await stream.next_events()
            except Fault as fault:
                told.append(fault)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
    return pool, told


async def test_without_import_only_the_worker_that_holds_it_can_answer() -> None:
    long = replace(TURN, messages=LONG)
    pool, told = await ask(long, Abilities(history=False), refuse=ConversationGone("gone"))
    assert pool.whole == [False], "no other worker may be asked for it"
    assert [type(fault) for fault in told] == [NotSupported]
    pool, told = await ask(TURN, Abilities(history=False), refuse=ConversationGone("gone"))
    assert pool.whole == [True], "a first message is no history"
    assert [type(fault) for fault in told] == [ConversationGone]
    pool, told = await ask(long, Abilities(), refuse=ConversationGone("gone"))
    assert pool.whole == [True]
    assert [type(fault) for fault in told] == [ConversationGone]
