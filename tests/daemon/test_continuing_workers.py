"""Whole workers between two turns: what they hear, and when they die."""

import os
import signal
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from maxd.workers.faults import Fault, WorkerDied
from maxd.workers.turn import Event, Finished, TextDelta, Turn
from maxd.workers.worker import Ended, Readiness, Worker
from tests.daemon.speaking_cli import install, launch, said, wait_for_output

LIMIT = '[{"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}}]'
RETRY = '[{"type": "system", "subtype": "api_retry", "attempt": 1, "retry_delay_ms": 1}]'


@pytest.fixture
def cli(tmp_path: Path) -> str:
    return install(tmp_path)


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
