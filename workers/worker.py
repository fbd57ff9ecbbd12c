"""A worker: one CLI process and the one task that owns it, until its tree is gone."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

import psutil
import trio
from msgspec import Struct

from maxd.workers.activity import TurnWatch
from maxd.workers.faults import Fault, ProtocolBroken, SessionLost, WorkerDied, WorkerStartFailed
from maxd.workers.launch import Launch
from maxd.workers.phases import WAITING, Phase
from maxd.workers.process import Killed, Process, open_process
from maxd.workers.profiles import environment
from maxd.workers.progress import wait_overdue, watch_turn
from maxd.workers.protocol import Cleared, Models, Protocol, Ready
from maxd.workers.turn import Effort, Event, Finished, Turn, TurnRecord

READ_SIZE = 256 * 1024
# A reader this many reads behind stops the worker from reading further: backpressure.
OUTBOX_LENGTH = 64
STDERR_KEPT = 2000
STDERR_SECONDS = 0.5
# Output that is still in the pipe when the process has gone is read for this long.
LAST_WORDS_SECONDS = 1.0
# A CLI whose stdin is closed ends by itself within about 35 ms (2.1.330); with MCP servers of the
# user's own it takes longer. After this it is killed.
GRACE_SECONDS = 1.0
# A reset takes 10 to 30 ms (2.1.197, 2.1.330); one that takes longer than this never ends.
RESET_SECONDS = 5.0

Outbox: TypeAlias = "trio.MemorySendChannel[list[Event] | Fault]"


class Readiness(Struct, frozen=True):
    """What a worker said when it became ready."""

    version: str
    models: Models | None


class Ended(Struct, frozen=True):
    """How a worker's life ended. `fault` is None when it was killed on demand or has served.

    `stderr` is the end of what it printed there, kept only while it had not been given a
    conversation. `stuck`: its process tree could not be killed.
    """

    fault: Fault | None
    stuck: bool
    stderr: str = ""


class Worker:
    """One CLI process, used for the turns of one conversation at a time.

    `live` is the task that owns it; the other methods are the supervisor's, and leave it word.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self._process: Process | None = None
        self._protocol = Protocol(launch.profile, decisions=launch.decisions)
        self._life = trio.CancelScope()
        self._conversation = trio.CancelScope()
        self._assigned = trio.Event()
        # Of the read while it waits for a turn; what has been read is not lost by it.
        self._listening = trio.CancelScope()
        self._turn: Turn | None = None
        self._known = 0
        self._reset = False
        self._outbox: Outbox | None = None
        # Of the turn that runs, or ran last.
        self._watch = TurnWatch()
        self._overdue: Fault | None = None
        self._writes: trio.MemorySendChannel[bytes] | None = None
        # Set once it has been given a conversation, which stderr may quote from then on.
        self._used = False
        self._finished = False
        self.version = ""  # The CLI's; empty until it has told.
        self._stderr = bytearray()
        self._stderr_ended = trio.Event()

    def __repr__(self) -> str:
        return f"<Worker {self.launch.id}, pid {self.pid}, {self._protocol.phase.name.lower()}>"

    @property
    def pid(self) -> int | None:
        """The CLI's process id; None before it has been started."""
        return None if self._process is None else self._process.pid

    def resident_bytes(self) -> int | None:
        """Memory that the process holds; 0 when it is gone, None if it cannot be read now."""
        try:
            return 0 if self.pid is None else int(psutil.Process(self.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return 0
        except OSError:
            return None  # No file is left to open.

    @property
    def record(self) -> TurnRecord:
        """What is to be kept of the last finished turn; there before its Finished is told."""
        return self._protocol.record

    @property
    def gave_up(self) -> bool:
        """Whether the CLI has called its last turn an error: what it holds is not to be trusted."""
        return self._protocol.phase is Phase.OVER

    @property
    def pending(self) -> tuple[str, ...]:
        """The ids of the calls whose results it waits for, after a turn that ended with them."""
        return self._protocol.pending

    @property
    def effort(self) -> Effort | None:
        """What it is set to; None where no turn has asked for anything."""
        return self._protocol.effort

    def assign_nowait(
        self, turn: Turn, outbox: Outbox, known: int = 0, *, reset: bool = False
    ) -> None:
        """Give the ready or idle worker a turn. It holds the first `known` messages of it already,
        from its earlier turns or from the session it has resumed, and is given the others; in its
        first turn it is bound before. Events come through `outbox`, in lists that were ready
        together; it ends with a list that holds Finished, or with a Fault, and is then closed.

        With `reset` the idle worker first forgets its conversation, and the turn begins another
        with the same system texts. If that does not go as it should within `RESET_SECONDS` the
        worker ends with ProtocolBroken, and was given nothing of the turn.

        Raises RuntimeError for a reset of a worker with tools, or when it holds messages already.
        """
        if reset and (known or self.launch.profile.has_tools):
            raise RuntimeError("this worker cannot be reset for this turn")
        self._turn, self._outbox, self._known, self._reset = turn, outbox, known, reset
        self._used = True
        self._finished = False
        self._stderr.clear()
        self._assigned.set()
        self._listening.cancel()

    def interrupt_nowait(self) -> None:
        """End the turn in progress: it ends with a Finished, or a Fault. The worker can be reset
        afterwards, and is good for nothing else. Raises RuntimeError when nothing is answered."""
        assert self._writes is not None
        self._writes.send_nowait(self._protocol.interrupt())

    def kill_nowait(self) -> None:
        """End the worker, whatever it is doing."""
        self._life.cancel()

    def freeze_nowait(self) -> None:
        """Stop the idle process (SIGSTOP), so that it costs no CPU."""
        if self._process is not None:
            self._process.freeze_nowait()

    def thaw_nowait(self) -> None:
        """Let a frozen process go on."""
        if self._process is not None:
            self._process.thaw_nowait()

    async def live(self, on_ready: Callable[[Readiness], None]) -> Ended:
        """Start the process, serve its turns until killed, kill the tree; return how it ended.

        Never raises a Fault: what went wrong in a turn is told through its outbox, and in the
        result. Cancelling kills the tree first, within 5 s.
        """
        launch = self.launch
        fault: Fault | None = None
        stuck = False
        try:
            with self._life:
                self._process = await open_process(
                    launch.argv(),
                    env=environment(launch.profile, launch.environment),
                    cwd=launch.directory,
                    marker=launch.marker,
                )
                fault = await self._serve(self._process, on_ready)
        except WorkerStartFailed as failed:
            fault = failed
        finally:
            if self._outbox is not None:
                self._outbox.close()
            if self._process is not None:
                # An orderly end lets the user's MCP servers close; anything else gets no time. One
                # whose calls wait takes the end of its stdin for their failure, and would ask the
                # model what to do now (seen with 2.1.330).
                orderly = self._finished and self._protocol.phase is Phase.IDLE
                killed = await self._process.kill(GRACE_SECONDS if orderly else 0.0)
                await self._process.aclose()
                stuck = killed is Killed.STUCK
        return Ended(fault, stuck, self._stderr.decode(errors="replace"))

    async def _serve(self, process: Process, on_ready: Callable[[Readiness], None]) -> Fault | None:
        """The life between start and kill; returns the fault that ended it, if one did."""
        fault: Fault | None = None
        writes, to_write = trio.open_memory_channel[bytes](math.inf)
        self._writes = writes
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, process, to_write)
            nursery.start_soon(self._drain_stderr, process)
            nursery.start_soon(self._watch_exit, process)
            try:
                with self._conversation:
                    readiness = await self._become_ready(process, writes)
                    self.version = readiness.version
                    on_ready(readiness)
                    await self._assigned.wait()
                    while True:
                        self._watch = watch_turn(self.launch.profile)
                        nursery.start_soon(self._end_overdue, process, self._watch)
                        await self._answer(process, writes)
                        await self._wait_assigned(process, writes)
                if self._conversation.cancelled_caught:
                    raise self._overdue or WorkerDied("the claude CLI ended by itself")
            except Fault as raised:
                fault = raised
            if isinstance(fault, WorkerStartFailed):
                # Why it could not start is on stderr, which may come after the end of stdout.
                with trio.move_on_after(STDERR_SECONDS):
                    await self._stderr_ended.wait()
            nursery.cancel_scope.cancel()
        if fault is not None and self._outbox is not None:
            # Not awaited: a reader that is gone or behind is told by the closing of the outbox.
            with suppress(trio.WouldBlock, trio.BrokenResourceError):
                self._outbox.send_nowait(fault)
        return fault

    async def _end_overdue(self, process: Process, watch: TurnWatch) -> None:
        """End the conversation when its turn has to end."""
        if (fault := await wait_overdue(watch, process.keeper_pid)) is not None:
            self._overdue = fault
            self._conversation.cancel()

    async def _watch_exit(self, process: Process) -> None:
        """End the conversation when the process has gone, though a stranger may hold its pipe
        open; what it said before its end is in the pipe and is still read."""
        with suppress(WorkerDied):
            await process.wait()
        last_words = LAST_WORDS_SECONDS if self._used else 0.0
        self._conversation.deadline = trio.current_time() + last_words

    async def _become_ready(
        self, process: Process, writes: "trio.MemorySendChannel[bytes]"
    ) -> Readiness:
        """Wait for the answer that proves the process ready. Raises WorkerStartFailed, which is
        SessionLost whenever there was a session to resume: the CLI answers only when it has read
        that, and whether the reason lies in it a worker without it will show."""
        failed = WorkerStartFailed if self.launch.resume is None else SessionLost
        writes.send_nowait(self._protocol.ask_ready())
        version: str | None = None
        try:
            with trio.fail_after(self.launch.start_seconds):
                while True:
                    for output in await self._read(process, writes):
                        match output:
                            case Ready() if self.launch.ask_models:
                                version = output.version
                                writes.send_nowait(self._protocol.ask_models())
                            case Ready():
                                return Readiness(output.version, None)
                            case Models() if version is not None:
                                return Readiness(version, output)
                            case Fault():
                                raise output
                            case _:
                                pass
        except trio.TooSlowError:
            seconds = self.launch.start_seconds
            raise failed(
                f"the claude CLI did not answer within {seconds:.0f} s of its start"
            ) from None
        except WorkerDied as fault:
            raise failed("the claude CLI ended before it was ready") from fault

    async def _answer(self, process: Process, writes: "trio.MemorySendChannel[bytes]") -> None:
        """Run the turn. Raises the Fault that ended it."""
        turn, outbox = self._turn, self._outbox
        assert turn is not None
        assert outbox is not None
        if self._reset:
            await self._forget(process, writes)
        if self._protocol.phase in WAITING:
            write = self._protocol.proceed(turn, self._known)
        else:
            resumed = self.launch.resume is not None
            write = self._protocol.begin(turn, self._known, resumed=resumed)
        writes.send_nowait(write)
        # Its own, because `_finished` is the next turn's as soon as that has been assigned.
        finished = False
        while not finished:
            events: list[Event] = []
            fault: Fault | None = None
            for output in await self._read(process, writes):
                match output:
                    case Fault():
                        fault = output
                    case Ready() | Models() | Cleared():
                        pass
                    case _ if finished:
                        # News of the account behind the result are no part of the turn.
                        pass
                    case _:
                        events.append(output)
                        finished = isinstance(output, Finished)
            if finished:
                self._finished = True
                self._watch.end()
                # Before its reader knows: it may come back with the next turn at once.
                self._assigned = trio.Event()
                self._turn = self._outbox = None
            if events:
                try:
                    await outbox.send(events)
                except trio.BrokenResourceError:
                    raise WorkerDied("its reader is gone") from None
            if fault is not None:
                raise fault
        outbox.close()

    async def _forget(self, process: Process, writes: "trio.MemorySendChannel[bytes]") -> None:
        """Reset the worker. Raises ProtocolBroken if it does anything else, or ends."""
        writes.send_nowait(self._protocol.reset())
        try:
            with trio.fail_after(RESET_SECONDS):
                while True:
                    for output in await self._read(process, writes):
                        match output:
                            case Cleared():
                                return
                            case Fault():
                                raise output
                            case _:
                                pass
        except trio.TooSlowError:
            raise ProtocolBroken("the claude CLI did not answer a reset") from None
        except ProtocolBroken:
            raise
        except WorkerDied as fault:
            raise ProtocolBroken("the claude CLI ended when it was reset") from fault

    async def _wait_assigned(
        self, process: Process, writes: "trio.MemorySendChannel[bytes]"
    ) -> None:
        """Wait for the next turn. Raises the Fault of a worker that ends or speaks meanwhile, even
        in the moment in which the turn is given."""
        while not self._assigned.is_set() or process.has_output():
            with trio.CancelScope() as self._listening:
                for heard in await self._read(process, writes):
                    if isinstance(heard, Fault):
                        raise heard

    async def _read(
        self, process: Process, writes: "trio.MemorySendChannel[bytes]"
    ) -> list[Ready | Models | Cleared | Event | Fault]:
        """One read of stdout, and the answers it calls for. Raises WorkerDied at its end."""
        self._watch.resume(trio.current_time())
        data = bytes(await process.stdout.receive_some(READ_SIZE))
        self._watch.heard(data, trio.current_time())
        if not data:
            raise WorkerDied("the claude CLI ended in the middle of the turn")
        outputs = self._protocol.feed(data)
        if answer := self._protocol.data_to_send():
            writes.send_nowait(answer)
        return outputs

    async def _write(self, process: Process, to_write: "trio.MemoryReceiveChannel[bytes]") -> None:
        """The only writer of stdin, apart from the reader so that neither can block the other."""
        async for data in to_write:
            try:
                await process.stdin.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # The reader meets the same end, and what was said before it.
                return

    async def _drain_stderr(self, process: Process) -> None:
        """Read stderr so that it never blocks the process; keep its end until a conversation is
        given, after which it may quote it."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in process.stderr:
                if not self._used:
                    self._stderr += data
                    del self._stderr[:-STDERR_KEPT]
        self._stderr_ended.set()
