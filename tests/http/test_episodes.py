"""A flood of the same incident is a few lines in the log."""

import pytest
import trio
from trio.testing import MockClock

from maxd.http.episodes import AGAIN_SECONDS, QUIET_SECONDS, Episodes, Told
from maxd.http.http1 import Incident
from maxd.http.incident_log import IncidentLog
from tests.daemon.stand_ins import logger

FILES = Incident("accept", "EMFILE")
OTHER = Incident("handler", "ValueError")


def test_the_first_is_told_at_once_and_others_of_it_are_counted() -> None:
    episodes = Episodes()
    assert episodes.note(FILES, 100.0) == Told(FILES, 1, 0.0)
    assert [episodes.note(FILES, 100.0 + n / 10) for n in range(1, 50)] == [None] * 49
    assert episodes.note(OTHER, 101.0) == Told(OTHER, 1, 0.0), "another kind is told by itself"
    assert episodes.end(104.9 + QUIET_SECONDS - 1) == []
    [told] = episodes.end(105.0 + QUIET_SECONDS)
    assert (told.incident, told.count, told.over) == (FILES, 50, True)
    assert told.seconds == pytest.approx(4.9)
    assert len(episodes) == 0
    assert episodes.note(FILES, 200.0) == Told(FILES, 1, 0.0), "a new episode"


def test_what_goes_on_is_told_now_and_then() -> None:
    episodes = Episodes()
    told = [episodes.note(FILES, float(second)) for second in range(int(2.5 * AGAIN_SECONDS))]
    assert [each.count for each in told if each] == [1, 61, 121]


def test_what_was_told_in_full_ends_silently() -> None:
    episodes = Episodes()
    episodes.note(FILES, 0.0)
    assert episodes.end(QUIET_SECONDS) == []
    assert len(episodes) == 0


async def test_a_flood_is_two_lines_and_the_next_one_is_told_again(
    autojump_clock: MockClock,
) -> None:
    log, capture = logger()
    incidents = IncidentLog(log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(incidents.run)
        for _ in range(2):
            for _ in range(100):
                incidents.report(FILES)
                await trio.sleep(0.1)
            incidents.report(OTHER)
            await trio.sleep(3 * QUIET_SECONDS)
        incidents.report(OTHER)
        incidents.report(OTHER)
        nursery.cancel_scope.cancel()
    lines = [(entry["event"], entry["error"], entry.get("count")) for entry in capture.entries]
    assert lines == 2 * [
        ("incident", "EMFILE", None),
        ("incident", "ValueError", None),
        ("incident over", "EMFILE", 100),
    ] + [("incident", "ValueError", None), ("incident over", "ValueError", 2)], "the end tells too"
