"""Replies as one object, whose turn takes longer than clients wait for a status."""

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import pytest
import trio
from quart import Response
from trio.testing import MockClock

from maxd.http.replying import Settings, Waiting, whole
from maxd.workers.faults import TurnTimedOut
from maxd.workers.turn import Event, Finished, TextDelta, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from maxd.daemon.turn_stream import TurnStream

HEARTBEAT = 15.0
HOLD = 60.0
SETTINGS = Settings(max_body_bytes=1, heartbeat_seconds=HEARTBEAT, hold_status_seconds=5)


class Slow:
    """A turn that says one thing every so often, and nothing twice."""

    def __init__(self, seconds: float, *said: str) -> None:
        self._times = [seconds * number for number in range(1, len(said) + 2)]
        self._left: list[Event] = [*map(TextDelta, said), Finished("end_turn", Usage())]
        self._began = trio.current_time()

    @property
    def finished(self) -> bool:
        return not self._left

    async def next_events(self) -> list[Event]:
        if not self._left:
            return []
        await trio.sleep_until(self._began + self._times[0])
        self._times.pop(0)
        return [self._left.pop(0)]


class Joined:
    def __init__(self) -> None:
        self._text = ""

    def feed(self, events: Iterable[Event]) -> bytes | None:
        for event in events:
            match event:
                case TextDelta(text):
                    self._text += text
                case Finished():
                    return self._text.encode()
                case _:
                    pass
        return None


async def body_of(response: Response, *, reading: float = 0.0) -> list[bytes]:
    """The pieces of a body, read by a client that takes its time for each."""
    pieces = []
    async with response.response as body:
        async for piece in cast("AsyncIterator[bytes]", body):
            pieces.append(piece)
            try:
                await trio.sleep(reading)
            except trio.Cancelled:
                raise AssertionError("the reader was cancelled by the writer's limit") from None
    return pieces


async def reply(seconds: float, settling: float = 0.0) -> tuple[Response, list[str]]:
    settled = []

    async def settle() -> None:
        await trio.sleep(settling)
        settled.append("once")

    stream = cast("TurnStream", Slow(seconds, "a", "b"))
    return await whole(stream, Joined(), SETTINGS, Waiting(HOLD), settle), settled


async def test_a_long_turn_is_told_whole_to_a_client_that_reads_slowly(
    autojump_clock: MockClock,
) -> None:
    response, settled = await reply(50.0)
    pieces = await body_of(response, reading=4 * HEARTBEAT)
    assert pieces[0] == b" "
    assert b"".join(pieces).strip() == b"ab"
    assert settled == ["once"]


async def test_what_is_kept_at_the_end_may_take_longer_than_a_heartbeat(
    autojump_clock: MockClock,
) -> None:
    for seconds in (1.0, 50.0):
        response, settled = await reply(seconds, settling=80.0)
        assert b"".join(await body_of(response)).strip() == b"ab"
        assert settled == ["once"]


class Failing(Slow):
    """A turn that is ended after a while."""

    async def next_events(self) -> list[Event]:
        events = await super().next_events()
        if self.finished:
            raise TurnTimedOut("the turn took too long")
        return events


async def test_a_failure_has_its_status_however_long_it_takes(autojump_clock: MockClock) -> None:
    told: list[float] = []

    async def tell() -> None:
        told.append(trio.current_time())
        await trio.sleep(2 * HEARTBEAT)

    stream = cast("TurnStream", Failing(600.0, "a"))
    with pytest.raises(TurnTimedOut):
        await whole(stream, Joined(), SETTINGS, Waiting(tell=tell))
    pauses = {after - before for before, after in pairwise(told)}
    assert pauses == {3 * HEARTBEAT}, "between two tellings, each of which takes its time"
    assert told[-1] > 1200 - 3 * HEARTBEAT


async def test_an_answer_is_whole_however_long_it_takes(autojump_clock: MockClock) -> None:
    stream = cast("TurnStream", Slow(600.0, "a", "b"))
    response = await whole(stream, Joined(), SETTINGS, Waiting())
    assert await body_of(response) == [b"ab"]


async def test_telling_is_not_cut_when_the_client_waits_no_longer(
    autojump_clock: MockClock,
) -> None:
    async def tell() -> None:
        try:
            await trio.sleep(HOLD)
        except trio.Cancelled:
            raise AssertionError("a send that is cancelled ends its connection") from None

    stream = cast("TurnStream", Slow(200.0, "a"))
    response = await whole(stream, Joined(), SETTINGS, Waiting(HOLD, tell))
    assert b"".join(await body_of(response)).strip() == b"a"
