"""The process edge of a worker: one CLI process behind its keeper (see keeper.py)."""

import errno
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from pathlib import Path
from typing import final

import trio

from maxd.workers.faults import WorkerDied, WorkerStartFailed
from maxd.workers.tree import KEEPER, MARKER, Hold, kill_left_behind, kill_tree

KILL_DEADLINE = 5.0
"""Seconds for a kill in all. The worst of 750 sweeps of hostile trees took 0.6 s."""


class Killed(Enum):
    """How sure it is that nothing of a tree is left."""

    GONE = "gone"
    """Proven: the keeper was told by the system that it has no descendant any more."""
    SEARCHED = "searched"
    """The keeper could not tell; a search of all processes found nothing any more."""
    STUCK = "stuck"
    """Something lived on at the deadline, or may have."""


@final
class Process:
    """One CLI process behind its keeper. Made by `open_process`.

    `pid` is that of the CLI. The three streams are pipes that only the CLI's tree holds at its
    end. A send or receive that is under way when `aclose` closes them ends with
    `trio.ClosedResourceError`.
    """

    def __init__(self, keeper: trio.Process, control: trio.SocketStream, marker: str) -> None:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        assert keeper.stderr is not None
        self.pid = 0
        self.stdin: trio.abc.SendStream = keeper.stdin
        self.stdout: trio.abc.ReceiveStream = keeper.stdout
        self.stderr: trio.abc.ReceiveStream = keeper.stderr
        self._keeper = keeper
        self._control = control
        self._marker = marker
        self._cli: Hold | None = None  # None when it had already ended.
        # What the keeper has reported. Whoever needs a report reads under this lock, for all.
        self._listening = trio.Lock()
        self._unparsed = b""
        self._failure: str | None = None
        self._status: int | None = None
        self._swept = False
        self._silent = False  # The keeper has closed its side: it has ended, or is about to.
        self._killing = trio.Lock()
        self._killed: Killed | None = None
        self._patience = trio.CancelScope()

    def __repr__(self) -> str:
        if self._killing.locked():
            state = "being killed"
        elif self._killed is not None:
            state = self._killed.value
        elif self._status is not None:
            state = f"exited with {self._status}"
        else:
            state = "running"
        return f"<Process {self.pid} of {self._marker}: {state}>"

    @property
    def keeper_pid(self) -> int:
        """The id of the keeper, from which everything that the CLI starts descends. It is not
        given to another process before `kill` has returned."""
        return self._keeper.pid

    def has_output(self) -> bool:
        """Whether a read of stdout would find something now, its end included."""
        assert isinstance(self.stdout, trio.lowlevel.FdStream)
        poll = select.poll()
        poll.register(self.stdout.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def freeze_nowait(self) -> None:
        """Stop the CLI (SIGSTOP), not its children. Does nothing when it is stopped or gone."""
        if self._cli is not None:
            self._cli.send(signal.SIGSTOP)

    def thaw_nowait(self) -> None:
        """Let the CLI go on after `freeze_nowait`."""
        if self._cli is not None:
            self._cli.send(signal.SIGCONT)

    async def wait(self) -> int:
        """Wait until the CLI has exited; return its status, negative for a signal.

        Any number of tasks may wait; cancelling one does nothing to the others. Raises
        `WorkerDied` when the keeper ended first, so that the status is not known: then the CLI
        may live, and is to be killed.
        """
        await self._listen(lambda: self._status is not None)
        if self._status is None:
            raise WorkerDied("the keeper of a CLI process ended before it")
        return self._status

    async def kill(self, grace: float = 0.0) -> Killed:
        """Kill the CLI and everything that descends from it. Idempotent; never raises.

        With a `grace` (seconds, at most half of the deadline) the CLI is first thawed and its
        stdin closed, and it is given that time to end by itself; another call without one cuts
        it short. Takes `KILL_DEADLINE` at most and cannot be cancelled within it. A tree that was
        `STUCK` is tried again by the next call. Does not wait for the end of any pipe.
        """
        if grace <= 0:
            self._patience.cancel()
        with trio.move_on_after(KILL_DEADLINE, shield=True):
            async with self._killing:
                first = self._killed is None
                if first or self._killed is Killed.STUCK:
                    self._killed = Killed.STUCK
                    if first and grace > 0:
                        await self._end_gently(min(grace, KILL_DEADLINE / 2))
                    self._killed = await self._kill_tree()
        return self._killed or Killed.STUCK

    async def aclose(self) -> None:
        """Kill the tree, then close all streams. Not to be cancelled, like `kill`."""
        await self.kill()
        with trio.move_on_after(KILL_DEADLINE, shield=True):
            for stream in (self.stdin, self.stdout, self.stderr, self._control):
                await stream.aclose()
        if self._cli is not None:
            self._cli.close()

    async def _end_gently(self, grace: float) -> None:
        self._patience.deadline = trio.current_time() + grace
        with self._patience:
            self.thaw_nowait()
            await self.stdin.aclose()
            await self._listen(lambda: self._swept)

    async def _kill_tree(self) -> Killed:
        deadline = trio.current_effective_deadline()
        # Somebody may have stopped the keeper; then it would hear nothing.
        self._keeper.send_signal(signal.SIGCONT)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._control.send_eof()
        await self._listen(lambda: False)
        await self._keeper.wait()
        never_started = self._failure is not None
        if never_started or (self._swept and sys.platform == "linux"):
            return Killed.GONE
        search = partial(kill_tree, self._marker.__eq__, self._cli, deadline - trio.current_time())
        try:
            _, clean = await trio.to_thread.run_sync(search, abandon_on_cancel=True)
        except OSError:
            return Killed.STUCK  # No descriptor left to search with; the next call tries again.
        return Killed.SEARCHED if clean else Killed.STUCK

    async def _start(self) -> None:
        """Wait until the CLI runs. Raises `WorkerStartFailed`."""
        await self._listen(lambda: bool(self.pid or self._failure))
        if self._failure is not None:
            raise WorkerStartFailed(f"the CLI cannot be executed: {self._failure}")
        if self.pid == 0:
            raise WorkerStartFailed("the keeper of a CLI process ended before it had started it")
        # If the CLI has already exited, its id may be another's by now: then the parent differs.
        with suppress(ProcessLookupError):
            self._cli = Hold(self.pid)
            if self._cli.parent() != self._keeper.pid:
                self._cli.close()
                self._cli = None

    async def _listen(self, enough: Callable[[], bool]) -> None:
        """Read the keeper's reports until `enough` says so or the keeper has ended."""
        async with self._listening:
            while not enough() and not self._silent:
                try:
                    chunk = await self._control.receive_some()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    chunk = b""
                self._silent = not chunk
                *lines, self._unparsed = (self._unparsed + chunk).split(b"\n")
                for line in lines:
                    self._note(line.decode())

    def _note(self, line: str) -> None:
        word, _, value = line.partition(" ")
        if word == "started":
            self.pid = int(value)
        elif word == "failed":
            self._failure = os.strerror(getattr(errno, value, errno.EIO))
        elif word == "exited":
            self._status = int(value)
        elif word == "swept":
            self._swept = True


async def open_process(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: str | Path, marker: str
) -> Process:
    """Start `argv` in `cwd` behind a keeper of its own; `marker` is added to `env`.

    Returns once the program runs (which is long before a CLI is ready). Raises
    `WorkerStartFailed` when it cannot be executed, or this process has no descriptor or process
    left to do so. Cancelled or failed, it leaves no process and no descriptor behind.
    """
    try:
        ours, theirs = socket.socketpair()
        control = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        try:
            with theirs:
                fd = theirs.fileno()
                keeper = await trio.lowlevel.open_process(
                    [sys.executable, "-I", "-S", KEEPER, str(fd), "--", *argv],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env={**env, MARKER: marker},
                    cwd=cwd,
                    pass_fds=(fd,),
                    # From its first instruction Ctrl-C in the daemon's terminal is not for it.
                    start_new_session=True,
                )
        except BaseException:  # A cancellation too; it goes on.
            control.socket.close()
            raise
        process = Process(keeper, control, marker)
        try:
            await process._start()
        except BaseException:  # The same; `aclose` is shielded, and takes some seconds at most.
            await process.aclose()
            raise
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO)
        raise WorkerStartFailed(f"a CLI process cannot be started: {reason}") from error
    return process


async def sweep_marked(instance: str) -> list[int]:
    """At the daemon's start: kill what an earlier run of `instance` has left; return the ids.

    The marker of such a process begins with `<instance>/`. Takes up to about 7 s in the worst
    case, about 0.1 s when there is nothing; cancelled, it ends by itself in its thread.
    """
    return await trio.to_thread.run_sync(kill_left_behind, instance, abandon_on_cancel=True)
