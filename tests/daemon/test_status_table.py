"""The status in a terminal."""

import re
from typing import Any

import pytest
from rich.console import Console

from maxd.daemon.chronicle import Seen
from maxd.daemon.status import ReloadStatus
from maxd.daemon.status_table import render, span
from tests.daemon.telling import NOW, status, worker


def printed(**how: Any) -> str:
    console = Console(width=160, force_terminal=True, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(render(status(**how)))
    return capture.get()


def test_it_tells_all_an_operator_looks_for() -> None:
    text = printed(
        problem="claude is not logged in",
        errors=(Seen(at=NOW, what="turn", code="overloaded", reason="too many are waiting"),),
    )
    for words in (
        "serving",
        "version 1.2.3, up 27 h 46 min",
        "claude is not logged in",
        "3 of 4",
        "1 leased, 1 parked, 1 spare, 1 stuck",
        "2 of 256, oldest 1.5 s",
        "10 finished, 2 failed",
        "6 allowed, 1 denied",
        "2.1.330",
        "probe reset failed: it remembers; this switches off the reuse",
        "1 passed, 1 failed, 1 not tried yet",
        "five_hour",
        "42 %",
        "2 h 5 min",
        "rejected",
        "sonnet:chat",
        "conv_1",
        "200 MB",
        "too many are waiting",
        "ntfy; 2 sent, 1 failed",
    ):
        assert words in text


def test_a_configuration_that_is_not_in_force_is_told() -> None:
    text = printed(
        reload=ReloadStatus(at=NOW, problems=("config.toml:3: no",), needs_restart=("state", "x.y"))
    )
    assert "configuration not reloaded: config.toml:3: no" in text
    assert "after a restart only: state, x.y" in text


def test_what_cannot_be_saved_is_told() -> None:
    text = printed(unsaved={"conversations": "No space left on device"})
    assert "conversations cannot be saved: No space left on device" in text


def test_a_daemon_that_knows_little_can_be_shown() -> None:
    text = printed(limits=None, notifications=None, workers=(), history=())
    assert "five_hour" not in text


def test_what_a_name_contains_does_not_command_the_terminal() -> None:
    hostile = "\x1b]0;owned\x07[red]m\x9b31m"
    text = printed(workers=(worker(model=hostile, conversation=hostile),))
    assert "[red]m" in text, "markup is shown as it is"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"),
        (0.04, "0.0 s"),
        (9.96, "10.0 s"),
        (119.0, "119 s"),
        (120.0, "2 min"),
        (7200.0, "2 h 0 min"),
        (200_000.0, "2 d 7 h"),
    ],
)
def test_durations_in_few_characters(seconds: float | None, words: str) -> None:
    assert span(seconds) == words
