"""Faults of what the daemon stands on: the CLI's program, the disk, open files."""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import openai
import psutil

from drills.clients import connect
from drills.drill import Drill
from drills.outcome import NotHere, Outcome
from drills.site import Site

DISK_BYTES: Final = 2 * 2**20
# A CLI that is missing is looked for every 30 s, and then a worker has to start.
BACK_SECONDS: Final = 60.0
IDLE_CONNECTIONS: Final = 60
EX_TEMPFAIL: Final = 75


def replace_cli(site: Site, outcome: Outcome) -> None:
    """As an update does it: another file under the same name."""
    with site.stream(words=60) as beside:
        site.install_cli()
        for worker in [each for each in site.status()["workers"] if each["state"] == "spare"]:
            site.doom(psutil.Process(worker["pid"]))
            psutil.Process(worker["pid"]).kill()
        answer = site.ask(text="by the new one")
        outcome.survives("a turn of the new program", answer == "by the new one", answer)
        ended = beside.end()
        outcome.survives("the turn of the old one", ended == "whole", ended)


def break_cli(site: Site, outcome: Outcome, *, breaking: Callable[[Path], object]) -> None:
    """The program is broken, then all workers die; then it is as it was."""
    breaking(site.cli)
    try:
        site.go_on()
        outcome.survives("the conversation, while its worker lives", True)
        site.doom_all()
        for process in site.daemon.tree():
            process.kill()
        refused = site.refusal(text="nobody there")
        # In the first moment both spares may be given to it, whose death nobody has noticed yet.
        told = refused in {(503, "backend_unavailable"), (502, "worker_died")}
        outcome.loses("turns meanwhile, with an error that says so", told, refused)
    finally:
        site.install_cli()

    def answered() -> bool:
        with suppress(openai.APIError):
            return site.ask(text="back") == "back"
        return False

    site.wait(answered, "no turn was answered", BACK_SECONDS)
    outcome.survives("turns, when it is back", True)


def garble(cli: Path) -> None:
    other = cli.with_suffix(".garbled")
    other.write_bytes(b"\x7fELF" + bytes(200))
    other.chmod(0o755)
    other.replace(cli)


def make_it_fail(cli: Path) -> None:
    other = cli.with_suffix(".failing")
    other.write_text("#!/bin/sh\nexit 1\n")
    other.chmod(0o755)
    other.replace(cli)


@contextmanager
def small_disk(at: Path) -> Iterator[None]:
    """A file system of `DISK_BYTES` at `at`. Raises NotHere where none can be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(at)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise NotHere("a tmpfs cannot be mounted (only root may)") from None
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


def fill(folder: Path) -> Path:
    """Write until no byte more can be written; the file that holds it all."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def fill_disk(site: Site, outcome: Outcome) -> None:
    state = Path(site.daemon.environment["MAXD_STATE_DIRECTORY"])
    site.daemon.stop()
    with small_disk(state):
        site.restart()
        site.go_on()
        filler = fill(state)
        for _ in range(3):
            site.go_on()
            outcome.survives("turns of the conversation on a full disk", True)
        said = site.daemon.wait_log("conversations cannot be saved now")
        told = site.status()["unsaved"]
        outcome.survives("a warning in the log and in the status", said and told, told)
        stored = site.client.responses.create(model="sonnet:chat", input="hello").output_text
        outcome.survives("a response that cannot be stored", "hello" in stored, stored)
        filler.unlink()
        said = site.daemon.wait_log("conversations can be saved again")
        outcome.survives("the index, when there is room again", said)
        filler = fill(state)
        site.doom_all()
        site.daemon.process.kill()
        site.daemon.wait()
        with site.start_daemon() as refused:
            code = refused.wait()
            told = code == EX_TEMPFAIL and "No space left" in str(refused.log)
            outcome.loses(f"a start on a full disk: exit code {EX_TEMPFAIL}", told, refused.log)
        filler.unlink()
        site.restart()
        site.go_on()
        outcome.survives("the conversation, at the next start", True)
        site.daemon.stop()
    site.restart()


def remove_state(site: Site, outcome: Outcome) -> None:
    state = Path(site.daemon.environment["MAXD_STATE_DIRECTORY"])
    shutil.rmtree(state)
    for _ in range(2):
        site.go_on()
        outcome.survives("turns of the conversation", True)
    site.daemon.stop()
    site.restart()


def exhaust_files(site: Site, outcome: Outcome) -> None:
    """The daemon may open a few files more, and more idle connections than that come."""
    daemon = site.daemon.process.pid
    before = resource.prlimit(daemon, resource.RLIMIT_NOFILE)
    with site.stream(words=100) as beside, ExitStack() as idle:
        taken = max(int(name) for name in os.listdir(f"/proc/{daemon}/fd"))
        resource.prlimit(daemon, resource.RLIMIT_NOFILE, (taken + 6, before[1]))
        try:
            for _ in range(IDLE_CONNECTIONS):
                idle.enter_context(connect(site))
            said = site.daemon.wait_log("incident", place="accept", error="EMFILE")
            outcome.survives("a line in the log", said)
            late = site.refused(text="in the backlog")
            ended = beside.end()
            outcome.survives("the stream that runs", ended == "whole", ended)
            told = late.result()
            if told[0] == 503:
                outcome.loses("a request meanwhile: 503", True)
            else:
                outcome.survives("a request meanwhile", told == (200, ""), told)
        finally:
            resource.prlimit(daemon, resource.RLIMIT_NOFILE, before)


DRILLS: Final = (
    Drill("cli-replaced", "the CLI's program replaced, as by an update", replace_cli, 2),
    Drill(
        "cli-missing",
        "the CLI's program missing, all workers killed; and back",
        partial(break_cli, breaking=Path.unlink),
        1,
    ),
    Drill(
        "cli-not-executable",
        "the same with one that may not be executed",
        partial(break_cli, breaking=lambda cli: cli.chmod(0o644)),
        1,
    ),
    Drill(
        "cli-garbled", "the same with one that is garbage", partial(break_cli, breaking=garble), 1
    ),
    Drill(
        "cli-failing",
        "the same with one that ends at once",
        partial(break_cli, breaking=make_it_fail),
        1,
    ),
    Drill("disk-full", "the state directory on a full disk", fill_disk, 1),
    Drill("state-removed", "the state directory removed while it runs", remove_state, 1),
    Drill(
        "files-exhausted", f"no file left, {IDLE_CONNECTIONS} idle connections", exhaust_files, 1
    ),
)
