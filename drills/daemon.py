"""Faults of the daemon itself: killed, asked to stop under load, and a clock that jumps."""

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import openai
import psutil

from drills.drill import Drill
from drills.outcome import NotHere, Outcome
from drills.site import DRAIN_SECONDS, ROOT, Site

if TYPE_CHECKING:
    from concurrent.futures import Future

# Where Debian's and Fedora's package put it.
FAKETIME: Final = tuple(
    Path(folder, "faketime", "libfaketimeMT.so.1")
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64")
)
CLOCK_FILE: Final = "clock"
CLOCK: Final = {
    "LD_PRELOAD": str(next((path for path in FAKETIME if path.exists()), "")),
    "FAKETIME_TIMESTAMP_FILE": f"{ROOT}/{CLOCK_FILE}",
    "FAKETIME_NO_CACHE": "1",
    # A clock that is set is that of the day; the other one never jumps.
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
}
DAY: Final = 86_400


def kill_in_stream(site: Site, outcome: Outcome) -> None:
    with site.stream(words=2000) as victim:
        tree = site.daemon.tree()
        outcome.survives("keepers and workers to be left behind", len(tree) >= 4, len(tree))
        site.daemon.process.kill()
        site.daemon.wait()
        told = victim.end()
        outcome.loses("the turn, its connection cut", told != "whole", told)
    _, left = psutil.wait_procs(tree, timeout=5)
    outcome.loses("all its processes, in 5 s", not left, left)
    site.restart()
    site.go_on()
    outcome.survives("the conversation, all of it, at the next daemon", True)


def kill_with_keepers(site: Site, outcome: Outcome) -> None:
    """Nobody is left to sweep but the next daemon, by its ledger."""
    with site.stream(words=2000) as victim:
        workers = [psutil.Process(each["pid"]) for each in site.status()["workers"] if each["pid"]]
        keepers = [site.keeper(worker) for worker in workers]
        site.doom_all()
        # Stopped, so that no worker ends by itself when its pipes close.
        for process in [*workers, *keepers]:
            process.suspend()
        site.daemon.process.kill()
        site.daemon.wait()
        for keeper in keepers:
            keeper.kill()
        _, left = psutil.wait_procs(workers, timeout=0.5)
        outcome.survives("workers that nobody has swept", left, "none was left to sweep")
        told = victim.end()
        outcome.loses("the turn, its connection cut", told != "whole", told)
    site.restart()
    _, left = psutil.wait_procs(workers, timeout=10)
    outcome.loses("they, at the start of the next daemon", not left, left)
    site.go_on()
    outcome.survives("the conversation, all of it, at the next daemon", True)


def stop_under_load(site: Site, outcome: Outcome) -> None:
    """As many streams as there are workers, and more turns that are waited for in the queue."""
    with (
        site.stream(words=40) as first,
        site.stream(words=40) as second,
        site.stream(words=40) as third,
    ):
        silent = [site.asking(text="accepted", delay=1) for _ in range(3)]
        site.wait(
            lambda: site.status()["running"] + site.status()["pool"]["queued"] >= 6,
            "the turns were not accepted",
        )
        tree = site.daemon.tree()
        site.daemon.process.send_signal(signal.SIGTERM)
        site.daemon.wait_log("stopping")
        refused = site.refusal(text="too late")
        outcome.loses("a turn that comes after SIGTERM: 503", refused[0] == 503, refused)
        for stream in (first, second, third):
            ended = stream.end()
            outcome.survives("the streams", ended == "whole", ended)
        for answer in silent:
            _expect_accepted(answer, outcome)
    code = site.daemon.wait()
    outcome.survives("exit code 0", code == 0, code)
    _, left = psutil.wait_procs(tree, timeout=1)
    outcome.loses("all its processes", not left, left)
    site.restart()


def _expect_accepted(answer: "Future[str]", outcome: Outcome) -> None:
    try:
        text = answer.result()
    except openai.APIError as error:
        outcome.survives("the turns in silence or in the queue", False, error.code)
    else:
        outcome.survives("the turns in silence or in the queue", text == "accepted", text)


def stop_with_an_endless_stream(site: Site, outcome: Outcome) -> None:
    with site.stream(words=100_000) as endless:
        began = time.monotonic()
        site.daemon.process.send_signal(signal.SIGTERM)
        endless.end()
        told = "stopping" in endless.error
        outcome.loses("the turn, with an error that says so", told, endless.error)
        code = site.daemon.wait()
        outcome.survives("exit code 0", code == 0, code)
        took = time.monotonic() - began
        outcome.survives("the end, within drain and 10 s", took < DRAIN_SECONDS + 10, took)
    site.restart()


def jump_clock(site: Site, outcome: Outcome) -> None:
    """Three days ahead, then back to a day ago, then right; in a stream and between turns."""
    for offset in (3 * DAY, -DAY, 0):
        with site.stream(words=60) as stream:
            set_clock(site, offset)
            now = site.status()["now"]
            outcome.survives("a jump of the daemon's clock", abs(now - time.time() - offset) < 60)
            ended = stream.end()
            outcome.survives("the stream", ended == "whole", ended)
        site.go_on()
        outcome.survives("the conversation, all of it", True)
        answer = site.ask(text="what time is it")
        outcome.survives("a fresh request", answer == "what time is it", answer)


def set_clock(site: Site, offset: int) -> None:
    clock = site.root / CLOCK_FILE
    new = clock.with_suffix(".new")
    new.write_text(f"{offset:+d}\n")
    new.replace(clock)


def clock_or_not(site: Site, outcome: Outcome) -> None:
    try:
        jump_clock(site, outcome)
    finally:
        set_clock(site, 0)


def no_faketime(site: Site, outcome: Outcome) -> None:
    raise NotHere("libfaketime is not installed (Debian: apt-get install faketime)")


DRILLS: Final = (
    Drill("daemon-kill", "SIGKILL to the daemon in mid-stream", kill_in_stream),
    Drill("daemon-and-keepers", "SIGKILL to the daemon and all keepers", kill_with_keepers, 2),
    Drill("daemon-term", "SIGTERM under load", stop_under_load, 2),
    Drill(
        "daemon-term-endless", "SIGTERM during an endless stream", stop_with_an_endless_stream, 1
    ),
    Drill("clock-jump", "the clock set 3 days ahead and a day back", clock_or_not, 1, CLOCK)
    if CLOCK["LD_PRELOAD"]
    else Drill("clock-jump", "the clock set 3 days ahead and a day back", no_faketime, 1),
)
