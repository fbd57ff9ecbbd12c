"""`make drills` runs, and a drill whose daemon is lost is seen to be lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from drills.__main__ import DRILLS, main
from drills.drill import Drill
from drills.outcome import NotHere, Outcome
from drills.site import Site

ROOT = Path(__file__).parents[2]


def test_two_drills() -> None:
    chosen = ["--times=1", "--only=kill-in-stream", "--only=kill-between-turns"]
    ran = subprocess.run(
        [sys.executable, "-m", "drills", *chosen], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "NO" not in ran.stdout
    assert ran.stdout.count("1/1") == 2


def lose_everything(site: Site, outcome: Outcome) -> None:
    site.daemon.process.kill()
    site.daemon.process.wait()
    outcome.survives("nothing", False, "as was to be shown")


def test_what_is_lost_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], [Drill("lost", "SIGKILL", lose_everything)]) == 1
    printed = capsys.readouterr().out
    assert "NO" in printed
    assert "as was to be shown" in printed
    assert "health, the daemon has the same pid" in printed


def ask_for_more(site: Site, outcome: Outcome) -> None:
    raise NotHere("no such machine")


def test_what_cannot_be_run_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], [Drill("more", "nothing", ask_for_more)]) == 0
    assert "not run here: no such machine" in capsys.readouterr().out


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(DRILLS)
    assert len({drill.name for drill in DRILLS}) == len(DRILLS)
    assert main(["--only=no-such-drill"]) == 2
