"""`make bench`: how long the first token of a new conversation takes, as ratios.

maxd against claude-max-api-proxy and against a warm CLI process on plain pipes; all use the same
CLI, home, environment and loopback model. BENCHMARKS.md says how to read it.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bench.bare import Bare
from bench.client import HOST
from bench.conversations import follow_ups, one_shots
from bench.figures import heading, ratios, values
from bench.programs import (
    PROXY,
    CannotStart,
    Program,
    install_proxy,
    loopback_model,
    maxd,
    proxy,
    turns_in_log,
)
from bench.rounds import Bench, Sample, Server, Subject
from maxd.workers.cli import find_cli
from maxd.workers.faults import BackendUnavailable
from maxd.workers.loopback import environment
from maxd.workers.profiles import AGENT, CHAT

NPM = Path(__file__).with_name(".npm")
A, A0, B, C, D, D2 = "a", "a0", "b", "c", "d", "d2"
NAMES = {
    A: "a   maxd, claude-sonnet-4:chat",
    A0: "a0  the same, without reuse: a spare each time",
    B: "b   maxd, claude-sonnet-4 (agent)",
    C: f"c   {PROXY}",
    D: "d   a bare warm process, command line of a",
    D2: "d2  a bare warm process, command line of b",
}
# What both servers make of claude-sonnet-4 for the CLI.
CLI_MODEL = "sonnet"
# A lease that took longer than this found no spare; with one it takes 1 to 2 ms.
HAD_TO_WAIT = 0.02


@dataclass(frozen=True)
class Field:
    """Everything that is measured, up and running."""

    subjects: dict[str, Subject]
    maxd: Program
    two_workers: Server


def main() -> int:
    """Measure and print. Returns 1 if anything did not start or did not answer rightly."""
    options = _parser().parse_args()
    bench = Bench(options.pause, lambda done: print(f"  … {done}", file=sys.stderr))
    try:
        with ExitStack() as stack:
            cli = find_cli("", os.environ)
            field = _set_up(stack, cli, with_proxy=not options.without_proxy)
            print(_conditions(cli))
            print(f"{options.rounds} rounds, interleaved, {options.pause:g} s before each request")
            rounds = bench.interleaved(field.subjects, options.rounds)
            print(*_first_tokens(rounds, field.maxd), sep="\n", flush=True)
            print(*_back_to_back(bench, field, options.series), sep="\n", flush=True)
            print(*_whole_answers(bench, field, options.series), sep="\n", flush=True)
            ours, other = field.subjects[A], field.subjects.get(C)
            if isinstance(ours, Server) and isinstance(other, Server):
                print(
                    *follow_ups(ours, other, options.series, bench.problems), sep="\n", flush=True
                )
                times = 4 * options.series
                shots = one_shots(field.two_workers, other, times, bench.problems)
                print(*shots, sep="\n", flush=True)
    except (CannotStart, BackendUnavailable, TimeoutError, EOFError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    for problem in bench.problems:
        print(f"bench: wrong answer: {problem}", file=sys.stderr)
    return 1 if bench.problems else 0


def _set_up(stack: ExitStack, cli: Path, *, with_proxy: bool) -> Field:
    """Start everything; `stack` ends it."""
    inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    # A process that has just been killed may still write into it.
    private = Path(
        stack.enter_context(
            tempfile.TemporaryDirectory(prefix="maxd-bench-", ignore_cleanup_errors=True)
        )
    )
    home, workspace, programs = private / "home", private / "workspace", private / "bin"
    for folder in (home, workspace, programs):
        folder.mkdir()
    # The proxy starts whatever is called so on PATH.
    (programs / "claude").symlink_to(cli)
    path = f"{programs}{os.pathsep}{inherited.get('PATH', os.defpath)}"
    model = stack.enter_context(loopback_model(inherited, private))
    shared = {**inherited, "PATH": path}
    shared |= environment(f"http://{HOST}:{model.wait_port()}", str(home))

    daemon = stack.enter_context(maxd(shared, private, workspace))
    port = daemon.wait_port()
    subjects: dict[str, Subject] = {
        A: Server(port, "claude-sonnet-4:chat", daemon.pid),
        B: Server(port, "claude-sonnet-4", daemon.pid),
    }
    fresh = stack.enter_context(maxd(shared, private, workspace, "fresh", MAXD_POOL_REUSE="false"))
    subjects[A0] = Server(fresh.wait_port(), "claude-sonnet-4:chat", fresh.pid)
    if with_proxy:
        other = stack.enter_context(proxy(install_proxy(NPM), shared, private, workspace))
        subjects[C] = Server(other.wait_port(), "claude-sonnet-4", other.pid)
    subjects[D] = stack.enter_context(Bare(programs / "claude", CHAT, CLI_MODEL, shared, workspace))
    subjects[D2] = stack.enter_context(
        Bare(programs / "claude", AGENT, CLI_MODEL, shared, workspace)
    )
    few = {"MAXD_POOL_MAX_WORKERS": "2", "MAXD_POOL_WARM": "sonnet:chat"}
    small = stack.enter_context(maxd(shared, private, workspace, "two-workers", **few))
    return Field(subjects, daemon, Server(small.wait_port(), "claude-sonnet-4:chat", small.pid))


def _first_tokens(rounds: Sequence[dict[str, Sample]], daemon: Program) -> Iterator[str]:
    if not rounds:
        return
    first = {name: [this[name].answer.first for this in rounds] for name in rounds[0]}
    yield heading("First token of a new conversation, ms")
    for name, seconds in first.items():
        yield values(NAMES[name], seconds)
    yield heading("Ratios, round by round", target=True)
    if C in first:
        yield ratios("c/a", first[C], first[A], "≥ 4")
        yield ratios("c/a0", first[C], first[A0], "≥ 4")
        yield ratios("c/b", first[C], first[B], "≥ 4")
    yield ratios("a/d", first[A], first[D], "≤ 1.25")
    yield ratios("a0/d", first[A0], first[D], "≤ 1.25")
    yield ratios("b/d2", first[B], first[D2], "≤ 1.25")
    log = turns_in_log(daemon)
    yield heading("First token by maxd's own log, from the read request on, ms")
    for name in (A, B):
        turns = [log[this[name].request_id] for this in rounds]
        waited = sum(turn["queued"] + turn["spawn"] > HAD_TO_WAIT for turn in turns)
        yield values(
            f"{name}   (no spare was ready in {waited} of {len(turns)} rounds)",
            [turn["first_text"] for turn in turns],
        )


def _back_to_back(bench: Bench, field: Field, times: int) -> Iterator[str]:
    yield heading(f"First token, {times} new conversations without a pause, ms")
    for name, subject in field.subjects.items():
        if isinstance(subject, Server):
            samples = bench.back_to_back(name, subject, times)
            yield values(NAMES[name], [sample.answer.first for sample in samples])


def _whole_answers(bench: Bench, field: Field, times: int) -> Iterator[str]:
    servers: dict[str, Subject] = {
        name: replace(subject, stream=False)
        for name, subject in field.subjects.items()
        if isinstance(subject, Server)
    }
    rounds = bench.interleaved(servers, times)
    totals = {name: [this[name].answer.total for this in rounds] for name in servers}
    cpu = {name: [this[name].cpu for this in rounds] for name in servers}
    yield heading(f"A whole answer, not streamed, {times} rounds with a pause, ms")
    for name in servers:
        yield values(NAMES[name], totals[name])
    yield heading("CPU of the server's process tree for it, until all is at rest again, ms")
    for name in servers:
        yield values(NAMES[name], cpu[name])
    if C in servers:
        yield heading("Ratios, round by round")
        for name in (A, B):
            yield ratios(f"whole answer, c/{name}", totals[C], totals[name])
        for name in (A, B):
            yield ratios(f"CPU, c/{name}", cpu[C], cpu[name])


def _conditions(cli: Path) -> str:
    """The machine and the programs, as far as the figures depend on them."""
    asked = subprocess.run([cli, "--version"], capture_output=True, text=True, check=False)
    return (
        f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
        f"claude {asked.stdout.strip() or 'of unknown version'}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="of the first token (20)")
    parser.add_argument("--series", type=int, default=10, help="length of the others (10)")
    parser.add_argument(
        "--pause", type=float, default=1.5, metavar="S", help="before each request (1.5 s)"
    )
    parser.add_argument("--without-proxy", action="store_true", help=f"leave out {PROXY}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
