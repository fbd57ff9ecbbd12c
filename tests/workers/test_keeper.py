"""The keeper as a program: what it reports, and when it sweeps."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from maxd.workers import keeper as keeper_module

KEEPER = Path(keeper_module.__file__)
LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Kept:
    """A keeper, and the daemon's side of its control socket."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.process = process
        self.control = control
        self.reports = control.makefile("r")

    def report(self) -> list[str]:
        return self.reports.readline().split()


@contextmanager
def kept(*command: str, before: Callable[[], object] | None = None) -> Iterator[Kept]:
    """Start `command` behind a keeper, with pipes; in the end the keeper must exit with 0."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", KEEPER, str(theirs.fileno()), "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(theirs.fileno(),),
            preexec_fn=before,
        )
    with ours, process:
        it = Kept(process, ours)
        with it.reports:
            yield it
        ours.close()
        assert process.wait(20) == 0


def test_reports_the_life_of_a_command() -> None:
    with kept("/bin/sh", "-c", "exit 7") as it:
        assert it.report()[0] == "started"
        assert it.report() == ["exited", "7"]
        assert it.report() == ["swept", "0"]
        assert it.report() == []


def test_a_command_is_looked_up_in_the_path() -> None:
    with kept("true") as it:
        assert it.report()[0] == "started"


@pytest.mark.parametrize("reason", ["ENOENT", "EACCES", "ENOEXEC"])
def test_reports_why_a_command_cannot_be_executed(tmp_path: Path, reason: str) -> None:
    program = tmp_path / "program"
    if reason != "ENOENT":
        program.write_bytes(b"no program")
        program.chmod(0o755 if reason == "ENOEXEC" else 0o644)
    with kept(str(program)) as it:
        assert it.report() == ["failed", reason]
        assert it.report() == []


def tell(it: Kept) -> None:
    it.control.shutdown(socket.SHUT_WR)


def terminate(it: Kept) -> None:
    it.process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("order", [tell, terminate])
def test_sweeps_when_told(order: Callable[[Kept], None]) -> None:
    with kept("/bin/sh", "-c", "sleep 60 & echo; exec sleep 60") as it:
        assert it.report()[0] == "started"
        assert it.process.stdout is not None
        assert it.process.stdout.readline() == b"\n"
        order(it)
        assert it.report() == ["exited", "-9"]
        assert it.report() == ["swept", "2"]
        assert it.process.stdout.read() == b""  # Nobody holds the pipe any more.


def test_sweeps_when_the_daemon_is_gone() -> None:
    with kept("sleep", "60") as it:
        command = psutil.Process(int(it.report()[1]))
    assert not command.is_running()


def test_sweeps_what_a_command_leaves_behind() -> None:
    with kept("/bin/sh", "-c", "setsid sleep 60 & setsid sleep 60 & exit 0") as it:
        assert it.report()[0] == "started"
        assert it.report() == ["exited", "0"]
        assert it.report() == ["swept", "2"]


def test_the_terminal_does_not_reach_it() -> None:
    with kept("sleep", "60") as it:
        command = psutil.Process(int(it.report()[1]))
        assert os.getsid(it.process.pid) == it.process.pid
        it.process.send_signal(signal.SIGINT)
        it.process.send_signal(signal.SIGHUP)
        tell(it)
        assert it.report() == ["exited", "-9"]
    assert not command.is_running()


def test_a_command_that_kills_its_group_does_not_kill_the_keeper() -> None:
    with kept("/bin/sh", "-c", "kill -9 0") as it:
        assert it.report()[0] == "started"
        assert it.report() == ["exited", "-9"]
        assert it.report() == ["swept", "0"]


@LINUX_ONLY
def test_the_command_has_default_signals() -> None:
    def spoil() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})

    with kept("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status", before=spoil) as it:
        assert it.process.stdout is not None
        masks = [int(line.split()[1], 16) for line in it.process.stdout]
        # Signals 32 and 33 are the C library's own; nobody can set them, but they are inherited.
        assert [mask & ~(0b11 << 31) for mask in masks] == [0, 0]


@LINUX_ONLY
def test_only_the_command_holds_the_pipes_and_only_the_keeper_the_socket() -> None:
    with kept("cat") as it:
        command = int(it.report()[1])
        # A line back: by now the program is past its loader, which opens files of its own.
        assert it.process.stdin is not None
        assert it.process.stdout is not None
        it.process.stdin.write(b"\n")
        it.process.stdin.flush()
        assert it.process.stdout.readline() == b"\n"
        assert set(os.listdir(f"/proc/{command}/fd")) == {"0", "1", "2"}
        for fd in (0, 1, 2):
            assert os.readlink(f"/proc/{it.process.pid}/fd/{fd}") == os.devnull


def test_lists_children_by_ps_where_the_kernel_does_not() -> None:
    with kept("/bin/sh", "-c", "sleep 60 & echo; exec sleep 60") as it:
        command = int(it.report()[1])
        assert it.process.stdout is not None
        it.process.stdout.readline()
        children = keeper_module.children_by_ps()
        assert children(it.process.pid) == [command]
        assert children(command) == [child.pid for child in psutil.Process(command).children()]
        assert children(0x7FFFFFFF) == []
