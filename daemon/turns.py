"""Runs turns: a lease, the worker's events, the streaming mode, and the one retry that is safe."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Literal, TypeAlias

import trio
from structlog.typing import FilteringBoundLogger

from maxd.daemon.conversation import Conversation
from maxd.daemon.conversations import Claim, Conversations
from maxd.daemon.lease import Lease
from maxd.daemon.pool import Pool
from maxd.daemon.release import Release
from maxd.daemon.slots import Key
from maxd.workers.faults import Fault, WorkerDied
from maxd.workers.profiles import Profile
from maxd.workers.turn import Event, Finished, RoundStarted, TextDelta, Turn

ConversationState: TypeAlias = Literal["running", "idle", "stored", "known"]

# A worker that dies before the service has accepted anything is replaced this often.
ATTEMPTS = 2


class TurnStream:
    """The events of one running turn."""

    def __init__(
        self, pool: Pool, profile: Profile, conversations: Conversations, claim: Claim
    ) -> None:
        self._pool = pool
        self._conversations = conversations
        self._claim = claim
        self._turn = claim.turn
        self._release = Release(profile.streaming)
        self._attempts = 0
        self._reply: list[str] = []
        # Set once the service has taken a request of this turn: from then on a dead worker may
        # have done work, and doing it again is the client's decision.
        self._accepted = False
        self._started = trio.current_time()
        self._leased_at: float | None = None
        self._first_text_at: float | None = None
        self._finished: Finished | None = None
        self.fault: Fault | None = None
        self._stopped: Fault | None = None
        self._waiting = trio.CancelScope()
        self._lease = self._ask()

    @property
    def conversation_id(self) -> str:
        """The id of the conversation this turn belongs to."""
        return self._claim.id

    @property
    def finished(self) -> bool:
        """Whether Finished has been returned."""
        return self._finished is not None

    async def next_events(self) -> list[Event]:
        """The events that may go to the client and are ready now, waiting for at least one; empty
        after Finished. Raises the Fault that ended the turn, or with which it was refused.
        Cancelling loses nothing, not even the place in the queue.
        """
        if self.fault is not None:
            raise self.fault
        try:
            while self._stopped is None:
                events: list[Event] = []
                with trio.CancelScope() as self._waiting:
                    events = await self._advance()
                if events or self._finished:
                    return events
            raise self._stopped
        except Fault as fault:
            self.fault = fault
            raise

    def stop(self, fault: Fault) -> None:
        """End the turn with `fault`, now."""
        self._stopped = fault
        self._waiting.cancel()

    async def _advance(self) -> list[Event]:
        try:
            if self._leased_at is None:
                await self._begin()
            told = await self._lease.next_events()
        except WorkerDied:
            if self._accepted or self._attempts >= ATTEMPTS:
                raise
            self._lease.close()
            self._lease = self._ask()
            return []
        for event in told:
            match event:
                case RoundStarted():
                    self._accepted = True
                case Finished():
                    self._finished = event
                case _:
                    pass
        released = self._release.feed(told)
        self._reply.extend(event.text for event in released if isinstance(event, TextDelta))
        if self._first_text_at is None and any(isinstance(e, TextDelta) for e in released):
            self._first_text_at = trio.current_time()
        return released

    def _ask(self) -> Lease:
        self._attempts += 1
        self._leased_at = None
        key = Key(self._turn.profile, self._turn.model)
        again = self._attempts > 1
        # A worker that was lost once is not looked for again: the history is imported.
        head = None if again else self._claim.head
        whole = self._claim.whole
        return self._pool.lease(key, self._claim.scope, head=head, whole=whole, again=again)

    async def _begin(self) -> None:
        await self._lease.wait()
        self._leased_at = trio.current_time()
        self._lease.begin(self._turn, self._claim.known)

    def close(self, *, delivered: bool) -> None:
        """End the turn. Its worker waits for the next one if this one is finished and its client
        has it whole: a client that does not may send anything next."""
        if delivered and self._finished is not None and self.fault is None:
            reply = "".join(self._reply)
            self._lease.head = self._conversations.finish(self._claim, reply, self._finished)
        else:
            self._conversations.abandon(self._claim)
        self._lease.close()

    def facts(self) -> dict[str, str | int | float | None]:
        """What the log may know of this turn: never content. Times in seconds."""
        usage = self._finished.usage if self._finished else None
        return {
            "conversation": self._claim.id,
            "profile": self._turn.profile,
            "model": self._turn.model,
            "messages": len(self._turn.messages),
            "worker": worker.launch.id if (worker := self._lease.worker) else None,
            "continued": self._lease.continues,
            "attempts": self._attempts,
            "queued": self._since(self._leased_at),
            "first_text": self._since(self._first_text_at),
            "total": self._since(trio.current_time()),
            "output_tokens": usage.output_tokens if usage else None,
            "outcome": self._outcome(),
        }

    def _outcome(self) -> str:
        if self.fault is not None:
            return self.fault.code or self.fault.blame
        return "finished" if self._finished else "cancelled"

    def _since(self, moment: float | None) -> float | None:
        return None if moment is None else round(moment - self._started, 4)


class Turns:
    """Where the front hands in turns."""

    def __init__(
        self,
        pool: Pool,
        profiles: Mapping[str, Profile],
        conversations: Conversations,
        log: FilteringBoundLogger,
        *,
        on_fault: Callable[[Fault], None] = lambda fault: None,
    ) -> None:
        self._pool = pool
        self._profiles = profiles
        self.conversations = conversations
        self._log = log
        self._on_fault = on_fault
        self._running: set[TurnStream] = set()
        self._idle = trio.Event()
        self._idle.set()

    @property
    def running(self) -> int:
        """Turns that have begun and not ended, those in the queue included."""
        return len(self._running)

    def stop(self, fault: Fault) -> None:
        """End every running turn with `fault`."""
        for stream in self._running:
            # A fault of its own: each raise adds the request's frames to what it raises.
            stream.stop(copy(fault))

    def state_of(self, conversation: Conversation) -> ConversationState:
        """Where a conversation is between its turns, or that one is running."""
        if self.conversations.is_running(conversation):
            return "running"
        if self._pool.holds(conversation.head):
            return "idle"
        return "known" if conversation.session is None else "stored"

    def forget(self, scope: str, conversation_id: str) -> Conversation | None:
        """Know a conversation no longer, and end the worker that holds it."""
        conversation = self.conversations.forget(scope, conversation_id)
        if conversation is not None:
            self._pool.end(conversation.head)
        return conversation

    async def wait_idle(self) -> None:
        """Wait until no turn is running."""
        await self._idle.wait()

    @contextmanager
    def run(
        self, turn: Turn, *, client: str, request_id: str, conversation_id: str | None = None
    ) -> Iterator[TurnStream]:
        """Run `turn`, of the conversation `conversation_id` if that is given.

        Leaving the block before Finished, or by an exception, kills its worker. Raises what
        `Conversations.claim` raises.
        """
        claim = self.conversations.claim(turn, client, conversation_id)
        profile = self._profiles[turn.profile]
        stream = TurnStream(self._pool, profile, self.conversations, claim)
        self._running.add(stream)
        if self._idle.is_set():
            self._idle = trio.Event()
        self._log.debug("turn admitted", request=request_id, running=self.running)
        delivered = False
        try:
            yield stream
            delivered = True
        finally:
            stream.close(delivered=delivered)
            self._running.remove(stream)
            if not self._running:
                self._idle.set()
            if stream.fault is not None:
                self._on_fault(stream.fault)
            self._log.info("turn", request=request_id, **stream.facts())
