"""Whole workers and the pool between two turns: what they hear, when they die, when they freeze."""

import os
import select
import signal
import sys
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from maxd.daemon.lease import Lease
from maxd.daemon.pool import SETTLE_SECONDS, Pool
from maxd.daemon.slots import Key, Limits
from maxd.workers.faults import Fault, WorkerDied
from maxd.workers.launch import Launch
from maxd.workers.profiles import CHAT
from maxd.workers.states import State
from maxd.workers.turn import Event, Finished, Message, Text, TextDelta, Turn
from maxd.workers.worker import Ended, Readiness, Worker
from tests.daemon.stand_ins import logger

KEY = Key("chat", "sonnet")
# Answers each message with its number and its text. A text `SAY …` is answered with the lines in
# it behind the result, in the same write. At SIGUSR1 it speaks without being asked.
PROGRAM = r"""
import json, os, signal, sys
def lines(*messages):
    os.write(1, b"".join(json.dumps(m).encode() + b"\n" for m in messages))
def event(kind, **data):
    return {"type": "stream_event", "event": {"type": kind, **data}}
START = event("message_start", message={"id": "m", "model": "sonnet", "content": []})
signal.signal(signal.SIGUSR1, lambda *_: lines(START))
count = 0
for line in sys.stdin.buffer:
    said = json.loads(line)
    if said["type"] == "control_request":
        answer = {"subtype": "success", "request_id": said["request_id"], "response": {}}
        lines({"type": "control_response", "response": answer})
    elif said["type"] == "user":
        text = said["message"]["content"][0]["text"]
        result = {"type": "result", "subtype": "success", "is_error": False}
        if said.get("shouldQuery") is False:
            lines(result)
            continue
        count += 1
        block = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": f"{count}: {text}"}
        more = json.loads(text[4:]) if text.startswith("SAY ") else []
        lines(
            START,
            event("content_block_start", index=0, content_block=block),
            event("content_block_delta", index=0, delta=delta),
            event("message_delta", delta={"stop_reason": "end_turn"}),
            result,
            *more,
        )
"""
LIMIT = '[{"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}}]'
RETRY = '[{"type": "system", "subtype": "api_retry", "attempt": 1, "retry_delay_ms": 1}]'


@pytest.fixture
def cli(tmp_path: Path) -> str:
    program = tmp_path / "cli.py"
    program.write_text(PROGRAM)
    path = tmp_path / "claude"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{program}"\n')
    path.chmod(0o755)
    return str(path)


def launch(cli: str, worker: str) -> Launch:
    return Launch(
        id=worker,
        cli=cli,
        profile=CHAT,
        model="sonnet",
        directory=str(Path(cli).parent),
        environment={"PATH": os.environ["PATH"]},
        marker=f"maxd-continuing-tests/{os.getpid()}-{worker}",
        start_seconds=60.0,
    )


def said(*texts: str) -> Turn:
    """The user and the assistant by turns."""
    roles = ["assistant" if number % 2 else "user" for number in range(len(texts))]
    messages = tuple(
        Message("assistant" if role == "assistant" else "user", (Text(text),))
        for role, text in zip(roles, texts, strict=True)
    )
    return Turn(profile="chat", model="sonnet", messages=messages)


# One worker


class Life:
    """A worker that lives in a nursery."""

    def __init__(self, cli: str) -> None:
        self.worker = Worker(launch(cli, "w1"))
        self.ready = trio.Event()
        self.over = trio.Event()
        self.ended: Ended | None = None

    async def live(self) -> None:
        def ready(readiness: Readiness) -> None:
            self.ready.set()

        self.ended = await self.worker.live(ready)
        self.over.set()

    async def answer(self, turn: Turn, known: int = 0) -> str:
        """A whole turn; what was said. Raises its fault."""
        outbox, inbox = trio.open_memory_channel[list[Event] | Fault](64)
        self.worker.assign_nowait(turn, outbox, known)
        text = ""
        async for batch in inbox:
            if isinstance(batch, Fault):
                raise batch
            text += "".join(event.text for event in batch if isinstance(event, TextDelta))
            if isinstance(batch[-1], Finished):
                return text
        raise WorkerDied("without a word")


@pytest.fixture
async def life(cli: str, nursery: trio.Nursery) -> Life:
    life = Life(cli)
    nursery.start_soon(life.live)
    with trio.fail_after(60):
        await life.ready.wait()
    return life


def wait_for_output(worker: Worker) -> None:
    """Block every task until there is something to read of it, or the end: then it learns of
    that and of what else happens at the same moment."""
    assert worker._process is not None
    stdout = cast("trio.lowlevel.FdStream", worker._process.stdout)
    assert select.select([stdout.fileno()], [], [], 60)[0]


async def until_over(life: Life) -> Fault | None:
    with trio.fail_after(60):
        await life.over.wait()
    assert life.ended is not None
    return life.ended.fault


async def test_a_turn_that_is_given_in_the_moment_of_the_last_word(life: Life) -> None:
    """By a reader that comes back before the worker has looked up from sending it."""
    texts = ["go on"]
    with trio.fail_after(30):
        for number in range(1, 100):
            assert await life.answer(said(*texts), known=len(texts) - 1) == f"{number}: go on"
            texts += [f"{number}: go on", "go on"]
    life.worker.kill_nowait()


@pytest.mark.parametrize("news", [LIMIT, RETRY], ids=["limit", "retry"])
async def test_news_behind_the_last_word_are_not_the_turns(life: Life, news: str) -> None:
    with trio.fail_after(60):
        assert (await life.answer(said(f"SAY {news}"))).startswith("1: ")
        assert await life.answer(said("one", "two", "three"), known=2) == "2: three"
    life.worker.kill_nowait()


async def test_one_that_speaks_without_being_asked_dies(life: Life) -> None:
    assert await life.answer(said("one")) == "1: one"
    assert life.worker.pid is not None
    os.kill(life.worker.pid, signal.SIGUSR1)
    fault = await until_over(life)
    assert fault is not None
    assert "without being asked" in fault.message


async def test_one_that_speaks_behind_its_last_word_dies_and_its_turn_is_good(life: Life) -> None:
    spoken = '[{"type": "stream_event", "event": {"type": "message_stop"}}]'
    assert (await life.answer(said(f"SAY {spoken}"))).startswith("1: ")
    assert await until_over(life) is not None


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGUSR1], ids=["killed", "spoke"])
async def test_a_turn_that_is_given_in_the_moment_of_its_end_was_not_accepted(
    life: Life, end: signal.Signals
) -> None:
    """A death before anything was done, after which the turn may be run elsewhere."""
    assert await life.answer(said("one")) == "1: one"
    await wait_all_tasks_blocked()
    assert life.worker.pid is not None
    os.kill(life.worker.pid, end)
    wait_for_output(life.worker)
    with trio.fail_after(60), pytest.raises(WorkerDied):
        await life.answer(said("one", "1: one", "two"), known=2)
    await until_over(life)


async def test_a_turn_that_is_given_to_one_that_has_ended(life: Life) -> None:
    """It looks at nothing any more: its pool has to end the turn (see Lease.lose)."""
    assert await life.answer(said("one")) == "1: one"
    life.worker.kill_nowait()
    assert await until_over(life) is None
    outbox, inbox = trio.open_memory_channel[list[Event] | Fault](64)
    life.worker.assign_nowait(said("one", "1: one", "two"), outbox, 2)
    await wait_all_tasks_blocked()
    with pytest.raises(trio.WouldBlock):
        inbox.receive_nowait()
    outbox.close()
    inbox.close()


# The pool


class World:
    """A pool on the program above. The clock stands still unless a test moves it."""

    def __init__(self, cli: str, **limits: int | float) -> None:
        defaults: dict[str, Any] = {"max_workers": 4, "max_starting": 2, "spares": 0}
        defaults |= {"warm": (KEY,), "warm_seconds": 600.0, "refill_seconds": 0.0}
        defaults |= {"queue_length": 10, "queue_seconds": 60.0}
        self.pool = Pool(
            Limits(**{**defaults, **limits}),
            lambda worker, key, session=None: launch(cli, worker),
            logger()[0],
        )

    async def lease(self, head: bytes | None = None) -> Lease:
        lease = self.pool.lease(KEY, "c", head=head)
        await lease.wait()
        return lease

    async def answer(self, lease: Lease, turn: Turn, known: int = 0) -> str:
        """A whole turn; what was said. Raises its fault."""
        lease.begin(turn, known)
        text = ""
        while not lease.finished:
            events = await lease.next_events()
            text += "".join(event.text for event in events if isinstance(event, TextDelta))
        return text

    async def converse(self, head: bytes) -> Worker:
        """A first turn; return its worker, idle at `head`."""
        lease = await self.lease()
        assert await self.answer(lease, said("one")) == "1: one"
        lease.head = head
        lease.close()
        await self.until(State.IDLE)
        assert lease.worker is not None
        return lease.worker

    async def until(self, state: State, count: int = 1) -> None:
        while self.pool.counts()[state] != count:
            await trio.lowlevel.checkpoint()
        # Its timer has begun.
        await wait_all_tasks_blocked()


@pytest.fixture
async def world(cli: str, mock_clock: MockClock, nursery: trio.Nursery) -> World:
    world = World(cli)
    await nursery.start(world.pool.run)
    return world


def is_stopped(worker: Worker) -> bool:
    assert worker.pid is not None
    return psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED


async def until_stopped(worker: Worker) -> None:
    while not is_stopped(worker):
        await trio.lowlevel.checkpoint()


async def test_it_is_frozen_between_its_turns_and_thawed_for_the_next(
    world: World, mock_clock: MockClock
) -> None:
    worker = await world.converse(b"1")
    for number in range(2, 5):
        await wait_all_tasks_blocked()
        assert not is_stopped(worker)
        mock_clock.jump(SETTLE_SECONDS)
        await until_stopped(worker)
        lease = await world.lease(b"%d" % (number - 1))
        assert lease.continues
        assert lease.worker is worker
        assert await world.answer(lease, said("one", "x", "two"), 2) == f"{number}: two"
        lease.head = b"%d" % number
        lease.close()
        await world.until(State.IDLE)


async def test_a_timer_of_an_earlier_pause_freezes_no_worker_that_is_leased(
    world: World, mock_clock: MockClock
) -> None:
    worker = await world.converse(b"1")
    mock_clock.jump(SETTLE_SECONDS - 1)
    lease = await world.lease(b"1")
    mock_clock.jump(1)
    await wait_all_tasks_blocked(0.05)
    assert not is_stopped(worker)
    assert await world.answer(lease, said("one", "x", "two"), 2) == "2: two"
    lease.close()


async def test_a_timer_of_an_earlier_pause_does_not_cut_a_later_one_short(
    world: World, mock_clock: MockClock
) -> None:
    """The CLI is still busy with the end of its last turn, and would go on in the next one."""
    worker = await world.converse(b"1")
    mock_clock.jump(SETTLE_SECONDS - 1)
    lease = await world.lease(b"1")
    assert await world.answer(lease, said("one", "x", "two"), 2) == "2: two"
    lease.head = b"2"
    lease.close()
    await world.until(State.IDLE)
    mock_clock.jump(1)
    await wait_all_tasks_blocked(0.05)
    assert not is_stopped(worker)
    mock_clock.jump(SETTLE_SECONDS - 1)
    await until_stopped(worker)


@pytest.mark.parametrize("frozen", [False, True])
async def test_one_that_dies_between_its_turns_is_not_leased_again(
    world: World, mock_clock: MockClock, frozen: bool
) -> None:
    worker = await world.converse(b"1")
    assert worker.pid is not None
    if frozen:
        mock_clock.jump(SETTLE_SECONDS)
        await until_stopped(worker)
    os.kill(worker.pid, signal.SIGKILL)
    await world.until(State.IDLE, 0)
    lease = await world.lease(b"1")
    assert not lease.continues
    assert world.pool.fault is None
    lease.close()


async def test_one_that_dies_around_the_moment_of_its_lease_ends_the_turn(world: World) -> None:
    """Before it knows, when it knows, and when it only waits for the end of its tree."""
    continued = 0
    for steps in range(0, 40, 2):
        worker = await world.converse(b"1")
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        wait_for_output(worker)
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        lease = await world.lease(b"1")
        continued += lease.continues
        if lease.continues:
            with pytest.raises(WorkerDied):
                await world.answer(lease, said("one", "1: one", "two"), 2)
        lease.close()
        while any(world.pool.counts().values()):
            await trio.lowlevel.checkpoint()
    assert continued > 0


async def test_it_dies_while_its_lease_is_closed_with_a_head(world: World) -> None:
    lease = await world.lease()
    assert await world.answer(lease, said("one")) == "1: one"
    assert lease.worker is not None
    assert lease.worker.pid is not None
    os.kill(lease.worker.pid, signal.SIGKILL)
    lease.head = b"1"
    lease.close()
    while any(world.pool.counts().values()):
        await trio.lowlevel.checkpoint()
    later = await world.lease(b"1")
    assert not later.continues
    later.close()


async def test_a_request_that_comes_with_the_end_of_the_turn_before_continues(world: World) -> None:
    """Both commands reach the supervisor in the order in which they were given."""
    worker = await world.converse(b"1")
    for number in range(2, 20):
        lease = await world.lease(b"%d" % (number - 1))
        assert lease.worker is worker
        assert await world.answer(lease, said("one", "x", "two"), 2) == f"{number}: two"
        lease.head = b"%d" % number
        lease.close()


async def test_a_lease_that_is_closed_before_its_grant_is_known_ends_the_worker(
    world: World,
) -> None:
    await world.converse(b"1")
    lease = world.pool.lease(KEY, "c", head=b"1")
    lease.close()
    await world.until(State.IDLE, 0)
    while any(world.pool.counts().values()):
        await trio.lowlevel.checkpoint()
