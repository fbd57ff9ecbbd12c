"""Workers that serve one conversation after another, with the fake CLI and the real ones."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from msgspec import Struct

from maxd.workers.faults import Fault, ProtocolBroken
from maxd.workers.profiles import AGENT
from maxd.workers.turn import Event, Finished, TextDelta, Turn
from maxd.workers.worker import Worker
from tests.scarcity import no_file_left
from tests.workers.rig import Block, FakeRig, Life, RealRig, Rig, shown, start_worker, turn

SYSTEM = ("Be brief.",)


class Answer(Struct):
    """What came of one turn: `seen` is all of what reached the model, as JSON."""

    events: list[Event]
    fault: Fault | None
    seen: str
    messages: list[tuple[str, object]]


async def ask(rig: Rig, worker: Worker, asked: Turn, *, known: int = 0, reset: bool) -> Answer:
    outbox, inbox = trio.open_memory_channel[list[Event] | Fault](64)
    worker.assign_nowait(asked, outbox, known, reset=reset)
    events: list[Event] = []
    fault: Fault | None = None
    async with inbox:
        async for piece in inbox:
            if isinstance(piece, Fault):
                fault = piece
            else:
                events += piece
    if fault is not None:
        return Answer(events, fault, "", [])
    if isinstance(rig, RealRig):
        assert rig.model is not None
        body = rig.model.requests[-1].body
        seen = json.dumps(body)
        messages = [(m["role"], shown(m["content"])) for m in body["messages"]]
    else:
        seen = "".join(event.text for event in events if isinstance(event, TextDelta))
        messages = json.loads(seen)["messages"]
    return Answer(events, fault, seen, [without_crumbs(message) for message in messages])


def without_crumbs(message: tuple[str, list[Block]]) -> tuple[str, object]:
    """A message without the note that the CLI makes of the reset."""
    role, blocks = message
    crumbs = ("<local-command", "<command-name>")
    return role, [b for b in blocks if not (isinstance(b, str) and b.startswith(crumbs))]


@asynccontextmanager
async def living(rig: Rig, count: int = 1) -> AsyncIterator[list[Life]]:
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            lives = [await start_worker(nursery, rig.launch()) for _ in range(count)]
            yield lives
            for life in lives:
                life.worker.kill_nowait()


async def test_a_second_conversation_knows_nothing_of_the_first(rig: Rig) -> None:
    async with living(rig) as [life]:
        first = turn(("user", "My name is Canary."), system=SYSTEM)
        assert "Canary" in (await ask(rig, life.worker, first, reset=False)).seen
        second = turn(
            ("user", "My name is Canary."), ("assistant", "Hi"), ("user", "Bye"), system=SYSTEM
        )
        assert "Canary" in (await ask(rig, life.worker, second, known=2, reset=False)).seen
        for question in ("Who am I?", "/help me", "/clear"):
            other = turn(("user", question), system=SYSTEM)
            answer = await ask(rig, life.worker, other, reset=True)
            assert "Canary" not in answer.seen
            assert SYSTEM[0] in answer.seen
            assert [m for m in answer.messages if m[0] != "system"] == [("user", [question])]
            assert isinstance(answer.events[-1], Finished)
    assert life.ended is not None
    assert life.ended.fault is None


async def test_a_history_arrives_as_messages_after_a_reset(rig: Rig) -> None:
    said = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four")]
    async with living(rig) as [life]:
        await ask(rig, life.worker, turn(("user", "zero")), reset=False)
        for _ in range(2):
            asked = turn(*said, ("user", "five"))
            answer = await ask(rig, life.worker, asked, reset=True)
            expected = [*((role, [text]) for role, text in said), ("user", ["five"])]
            assert [m for m in answer.messages if m[0] != "system"] == expected


async def test_a_conversation_goes_on_after_the_reset_it_began_with(rig: Rig) -> None:
    async with living(rig) as [life]:
        await ask(rig, life.worker, turn(("user", "zero")), reset=False)
        await ask(rig, life.worker, turn(("user", "one")), reset=True)
        asked = turn(("user", "one"), ("assistant", "any"), ("user", "two"))
        answer = await ask(rig, life.worker, asked, known=2, reset=False)
        spoken = [m for m in answer.messages if m[0] != "system"]
        assert [role for role, _ in spoken] == ["user", "assistant", "user"]
        assert (spoken[0][1], spoken[2][1]) == (["one"], ["two"])
        assert "zero" not in answer.seen


async def test_it_costs_what_a_first_conversation_costs(rig: Rig) -> None:
    rig.say("ok")
    if isinstance(rig, FakeRig):
        pytest.skip("the fake costs nothing")
    async with living(rig) as [life]:
        costs = []
        for reset in (False, True, True):
            await ask(rig, life.worker, turn(("user", "hi")), reset=reset)
            costs.append(life.worker.record.cost)
        assert costs[0] > 0
        assert costs == pytest.approx([costs[0]] * 3)


async def test_it_may_have_been_frozen(rig: Rig) -> None:
    async with living(rig) as [life]:
        await ask(rig, life.worker, turn(("user", "zero")), reset=False)
        life.worker.freeze_nowait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(thaw, life)
            answer = await ask(rig, life.worker, turn(("user", "one")), reset=True)
        assert answer.messages[0] == ("user", ["one"])


async def thaw(life: Life) -> None:
    life.worker.thaw_nowait()


async def test_fifty_conversations_over_two_workers(rig: Rig) -> None:
    """As many as are quick; a thousand were run by hand with the real CLI."""
    async with living(rig, 2) as lives:
        for number in range(50):
            canary = f"canary-{number:04}-x"
            asked = turn(("user", f"Remember {canary}."), system=SYSTEM)
            worker = lives[number % 2].worker
            answer = await ask(rig, worker, asked, reset=number >= 2)
            assert answer.seen.count("canary-") == answer.seen.count(canary) > 0
    if isinstance(rig, RealRig):
        assert rig.model is not None
        assert rig.model.count == 50


async def test_a_worker_with_tools_refuses(fake: FakeRig) -> None:
    worker = Worker(fake.launch(AGENT))
    outbox, inbox = trio.open_memory_channel[list[Event] | Fault](1)
    with outbox, inbox, pytest.raises(RuntimeError):
        worker.assign_nowait(turn(("user", "hi"), profile="agent"), outbox, reset=True)


async def test_its_memory_is_not_known_with_no_file_left(fake: FakeRig) -> None:
    async with living(fake) as [life]:
        assert life.worker.resident_bytes()
        with no_file_left():
            assert life.worker.resident_bytes() is None
        assert life.worker.resident_bytes()


async def test_what_it_holds_is_gone_after_a_reset(fake: FakeRig) -> None:
    worker = Worker(fake.launch())
    outbox, inbox = trio.open_memory_channel[list[Event] | Fault](1)
    with outbox, inbox, pytest.raises(RuntimeError):
        worker.assign_nowait(turn(("user", "hi")), outbox, 1, reset=True)


WRONG = ["refused", "error", "same", "asks", "hang", "exit", "same=2"]


@pytest.mark.parametrize("kind", WRONG)
async def test_a_reset_that_goes_wrong_ends_the_worker_before_it_is_asked(
    fake: FakeRig, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "hang":
        monkeypatch.setattr("maxd.workers.worker.RESET_SECONDS", 0.5)
    fake.knob("RESET", kind)
    async with living(fake) as [life]:
        await ask(fake, life.worker, turn(("user", "zero")), reset=False)
        if kind.endswith("=2"):
            assert (await ask(fake, life.worker, turn(("user", "one")), reset=True)).fault is None
        answer = await ask(fake, life.worker, turn(("user", "secret")), reset=True)
        assert isinstance(answer.fault, ProtocolBroken)
        assert answer.events == []
        ended = await life.wait_ended()
        assert ended.fault is answer.fault
        assert not ended.stuck
        assert ended.stderr == ""


@pytest.mark.parametrize("version", ["2.1.197", "2.1.330"])
async def test_a_reset_that_leaks_is_a_reset(fake: FakeRig, version: str) -> None:
    """Nothing the CLI prints tells it apart; that is what the probe is for."""
    fake.knob("VERSION", version)
    fake.knob("RESET", "leaks")
    async with living(fake) as [life]:
        await ask(fake, life.worker, turn(("user", "canary")), reset=False)
        answer = await ask(fake, life.worker, turn(("user", "hi")), reset=True)
        assert answer.fault is None
        assert "canary" in answer.seen


async def test_an_interrupted_turn_leaves_a_worker_to_be_reset(real_rig: RealRig) -> None:
    real_rig.say("one two three four five six", pace=0.3)
    async with living(real_rig) as [life]:
        asked = turn(("user", "My name is Canary."), system=SYSTEM)
        async with life.assign(asked) as inbox:
            events: list[Event] = []
            while not any(isinstance(event, TextDelta) for event in events):
                events += await inbox.receive()
            life.worker.interrupt_nowait()
            async for batch in inbox:
                events += batch
        assert isinstance(events[-1], Finished)
        assert events[-1].stop_reason == "interrupted"
        assert "six" not in "".join(e.text for e in events if isinstance(e, TextDelta))
        real_rig.say("answer")
        answer = await ask(real_rig, life.worker, turn(("user", "Hi"), system=SYSTEM), reset=True)
        assert answer.fault is None
        assert "Canary" not in answer.seen
        assert "Request interrupted" not in answer.seen
        with pytest.raises(RuntimeError):
            life.worker.interrupt_nowait()
