"""The notifier: what it sends, tries again, gives up and counts."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
import trio.testing

from maxd.daemon.channels import NotSent
from maxd.daemon.logs import get_logger
from maxd.daemon.notices import Message, backend_unavailable, trial_notice, turn_timed_out
from maxd.daemon.notify import QUEUE_LENGTH, RETRY_SECONDS, SEND_SECONDS, Notifier
from maxd.workers.faults import BackendUnavailable, TurnTimedOut

NOTICE = turn_timed_out(TurnTimedOut("the turn was ended"))
OTHER = backend_unavailable(BackendUnavailable("gone"))


class Recording:
    """A channel that keeps what it is given, after it has raised what it was told to."""

    name = "recording"

    def __init__(self, *failures: Exception) -> None:
        self.sent: list[Message] = []
        self.tries = 0
        self._failures = list(failures)

    def send(self, message: Message) -> None:
        self.tries += 1
        if self._failures:
            raise self._failures.pop(0)
        self.sent.append(message)


class Hanging:
    """A channel that never comes back before `release`."""

    name = "hanging"

    def __init__(self) -> None:
        self.began = 0
        self.release = threading.Event()

    def send(self, message: Message) -> None:
        self.began += 1
        self.release.wait()


def notifier(channels: Sequence[Any], interval: float = 60.0) -> Notifier:
    return Notifier(channels, get_logger("test"), interval_seconds=interval)


async def until(condition: Callable[[], bool]) -> None:
    """Threads do not share the virtual clock: real time passes, virtual only where told."""
    while not condition():
        await trio.lowlevel.checkpoint()


async def test_each_channel_gets_each_notice_once(nursery: trio.Nursery) -> None:
    channels = [Recording(), Recording()]
    told = notifier(channels)
    # Also what was told before it runs.
    told.tell(NOTICE)
    await nursery.start(told.run)
    told.tell(OTHER)
    await until(lambda: all(len(channel.sent) == 2 for channel in channels))
    assert channels[0].sent == [Message(NOTICE), Message(OTHER)]
    await until(lambda: [c.sent for c in told.state().channels] == [2, 2])
    assert all(state.last_error is None and state.last_sent for state in told.state().channels)


async def test_what_is_held_back_is_sent_at_its_time(
    mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    channel = Recording()
    told = notifier([channel], interval=60)
    await nursery.start(told.run)
    for _ in range(4):
        told.tell(NOTICE)
    await until(lambda: len(channel.sent) == 1)
    mock_clock.jump(59)
    await trio.testing.wait_all_tasks_blocked()
    assert len(channel.sent) == 1
    mock_clock.jump(1)
    await until(lambda: len(channel.sent) == 2)
    assert channel.sent == [Message(NOTICE), Message(NOTICE, 3)]


async def test_a_failure_is_tried_again(
    mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    channel = Recording(NotSent("HTTP 500", again=True), NotSent("HTTP 500", again=True))
    told = notifier([channel])
    await nursery.start(told.run)
    told.tell(NOTICE)
    for tries, pause in enumerate(RETRY_SECONDS, 1):
        await until(lambda tries=tries: channel.tries == tries)  # type: ignore[misc]
        await until(lambda: told.state().channels[0].last_error == "HTTP 500")
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(pause)
    await until(lambda: told.state().channels[0].sent == 1)
    assert (channel.tries, channel.sent) == (3, [Message(NOTICE)])
    assert told.state().channels[0].last_error is None


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (NotSent("HTTP 401", again=False), "HTTP 401"),
        (RuntimeError("canary"), "RuntimeError"),
    ],
)
async def test_what_may_have_arrived_or_never_will_is_not_tried_again(
    nursery: trio.Nursery, failure: Exception, words: str
) -> None:
    channel = Recording(failure)
    told = notifier([channel])
    await nursery.start(told.run)
    told.tell(NOTICE)
    await until(lambda: told.state().channels[0].failed == 1)
    assert channel.tries == 1
    assert told.state().channels[0].last_error == words
    told.tell(OTHER)
    await until(lambda: told.state().channels[0].sent == 1)


async def test_a_channel_that_hangs_holds_up_nobody(
    mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    hanging, other = Hanging(), Recording()
    told = notifier([hanging, other], interval=0)
    try:
        await nursery.start(told.run)
        for number in range(1, QUEUE_LENGTH + 3):
            told.tell(NOTICE)
            await until(lambda number=number: len(other.sent) == number)  # type: ignore[misc]
        state = told.state().channels[0]
        # One is being tried; one more than the queue holds was told.
        assert (state.sent, state.failed, state.dropped) == (0, 0, 1)
        await until(lambda: hanging.began == 1)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(SEND_SECONDS)
        await until(lambda: told.state().channels[0].failed == 1)
        assert told.state().channels[0].last_error == f"no answer within {SEND_SECONDS:.0f} s"
    finally:
        hanging.release.set()


async def test_sending_now_tells_each_outcome() -> None:
    channels = [Recording(), Recording(NotSent("HTTP 401", again=False))]
    outcomes = await notifier(channels).send_now(Message(trial_notice()))
    assert outcomes == [("recording", None), ("recording", "HTTP 401")]


async def test_without_channels_nothing_happens(nursery: trio.Nursery) -> None:
    told = notifier([])
    await nursery.start(told.run)
    told.tell(NOTICE)
    await trio.testing.wait_all_tasks_blocked()
    assert told.state().channels == ()
