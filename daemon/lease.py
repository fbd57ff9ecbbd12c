"""A lease: the exclusive right to a worker for one turn, from the wait for it to its end."""

from collections.abc import Callable

import trio

from maxd.workers.faults import Fault, WorkerDied
from maxd.workers.turn import Event, Finished, RoundStarted, Turn
from maxd.workers.worker import OUTBOX_LENGTH, Worker

# The CLI ends a turn within 10 ms (2.1.197, 2.1.330).
INTERRUPT_SECONDS = 1.0


class Lease:
    """One turn on one worker. Made by `Pool.lease`; whoever holds it must call `close`."""

    def __init__(
        self,
        on_close: Callable[["Lease"], None],
        on_answering: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_close = on_close
        self._on_answering = on_answering
        self._decided = trio.Event()
        self._events: trio.MemoryReceiveChannel[list[Event] | Fault] | None = None
        self._outbox: trio.MemorySendChannel[list[Event] | Fault] | None = None
        self._lost = False
        self._closed = False
        self.asked_at = trio.current_time()
        self.worker: Worker | None = None
        # When the start of its process began and ended, by trio's clock.
        self.start: tuple[float, float] | None = None
        # Whether the worker holds the conversation already.
        self.continues = False
        # Whether it holds another conversation and must be reset.
        self.resets = False
        # What the worker is to be known by when the lease is closed; None kills it.
        self.head: bytes | None = None
        # What else it may be known by (see lineage.lenient).
        self.lenient: bytes | None = None
        # What it may be reset to afterwards; None where it may not.
        self.root: bytes | None = None
        # Whether its calls wait for results.
        self.parked = False
        # Why it was refused, or what ended the turn.
        self.fault: Fault | None = None
        self.finished = False

    def __repr__(self) -> str:
        worker = "no worker" if self.worker is None else self.worker.launch.id
        state = "finished" if self.finished else "failed" if self.fault else "open"
        return f"<Lease of {worker}, {state}>"

    @property
    def waits(self) -> bool:
        """Whether the pool has not answered yet."""
        return not self._decided.is_set()

    def grant(self, worker: Worker, *, continues: bool = False, resets: bool = False) -> None:
        """The pool's answer: `worker` is yours."""
        self.worker, self.continues, self.resets = worker, continues, resets
        self._decided.set()

    def refuse(self, fault: Fault) -> None:
        """The pool's answer: there will be no worker."""
        self.fault = fault
        self._decided.set()

    def lose(self) -> None:
        """The pool's word: the worker is gone. A spare may die in the moment of its grant; then it
        never looks at its turn, and nobody else would end it."""
        self._lost = True
        if self._outbox is not None:
            self._outbox.close()

    async def wait(self) -> None:
        """Wait for a worker. Raises the Fault with which it is refused. Cancelling does not give
        up the place in the queue; `close` does."""
        await self._decided.wait()
        if self.fault is not None:
            raise self.fault

    def begin(self, turn: Turn, known: int = 0) -> None:
        """Give the worker its turn. Called once, after `wait`. `known` is how many of the messages
        a worker that continues holds."""
        assert self.worker is not None
        channel = trio.open_memory_channel[list[Event] | Fault](OUTBOX_LENGTH)
        self._outbox, self._events = channel
        known = known if self.continues else 0
        self.worker.assign_nowait(turn, self._outbox, known, reset=self.resets)
        if self._lost:
            self._outbox.close()

    async def next_events(self) -> list[Event]:
        """All events that are ready, waiting for at least one; empty after the last.

        Raises the Fault that ended the turn, once the events before it have been returned.
        Cancelling loses nothing.
        """
        events: list[Event] = []
        assert self._events is not None
        if self.fault is None:
            try:
                self._take(await self._events.receive(), events)
                while self.fault is None:
                    self._take(self._events.receive_nowait(), events)
            except trio.WouldBlock:
                pass
            except trio.EndOfChannel:
                if not self.finished:
                    self.fault = WorkerDied("the worker ended in the middle of the turn")
        if self.fault is not None and not events:
            raise self.fault
        return events

    async def interrupt(self) -> bool:
        """End the turn that runs. Returns whether its worker has ended it orderly and can be reset.
        Cannot be cancelled, but takes a second at most."""
        assert self.worker is not None
        try:
            if not self.finished and self.fault is None:
                self.worker.interrupt_nowait()
            with trio.move_on_after(INTERRUPT_SECONDS, shield=True):
                while await self.next_events():
                    pass
        except (Fault, RuntimeError):
            # RuntimeError: it is still being given its history, or waits for results.
            return False
        return self.finished and not self.parked

    def _take(self, batch: list[Event] | Fault, events: list[Event]) -> None:
        if isinstance(batch, Fault):
            self.fault = batch
        else:
            events += batch
            if any(isinstance(event, RoundStarted) for event in batch):
                self._on_answering()
            self.finished = isinstance(batch[-1], Finished)
            last = batch[-1]
            self.parked = isinstance(last, Finished) and last.stop_reason == "tool_use"

    def close(self) -> None:
        """End the lease, or the wait for it. The worker dies unless `head` says what it holds.
        Idempotent."""
        if not self._closed:
            self._closed = True
            if self._events is not None:
                self._events.close()
            self._on_close(self)
