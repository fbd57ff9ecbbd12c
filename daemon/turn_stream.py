"""One running turn: its lease, the worker's events, the streaming mode, and the one retry that is
safe."""

import secrets
from collections.abc import Callable
from typing import TypeAlias

import trio
from msgspec.structs import replace

from maxd.daemon import lineage
from maxd.daemon.abilities import Abilities, no_history
from maxd.daemon.account_gate import AccountGate
from maxd.daemon.conversation import Conversation
from maxd.daemon.conversations import Claim, Conversations
from maxd.daemon.cut import Cut
from maxd.daemon.lease import Lease
from maxd.daemon.pool import Pool
from maxd.daemon.release import Release
from maxd.daemon.reply import Reply
from maxd.daemon.slots import Key
from maxd.daemon.transcripts import Transcripts
from maxd.daemon.turn_facts import Timings, TurnFacts
from maxd.daemon.turn_watch import TurnWatch
from maxd.workers.faults import ConversationGone, Fault, SessionLost, WorkerDied
from maxd.workers.functions import answerable, called_in
from maxd.workers.profiles import Profile, Streaming
from maxd.workers.turn import Event, Finished, RoundBroken, RoundStarted, TurnRecord
from maxd.workers.worker import Worker

# Whether workers with this version of the CLI may be reset; None is the present one.
AllowsReset: TypeAlias = Callable[[str | None], bool]

# A worker that dies before the service has accepted anything is replaced this often.
ATTEMPTS = 2


class TurnStream:
    """The events of one running turn."""

    def __init__(
        self,
        pool: Pool,
        profile: Profile,
        conversations: Conversations,
        claim: Claim,
        *,
        able: Abilities,
        allows_reset: AllowsReset,
        gate: AccountGate,
        streaming: Streaming | None = None,
        transcripts: Transcripts | None = None,
    ) -> None:
        self._able = able
        self._transcripts = transcripts if able.resume else None
        self._gate = gate.begin(claim.turn.model, self.stop)
        self._lenient = profile.lenient
        self._outlives = profile.on_disconnect == "finish"
        self._pool = pool
        turn = self._turn = claim.turn
        # Only where no tool can have left anything behind, and nothing but the root has bound the
        # worker: functions of the history that are offered no longer bind it too.
        offered = {function.name for function in turn.functions}
        alike = offered.issuperset(called_in(turn.messages))
        self._allows_reset = allows_reset
        self._may_reset = profile.resettable and alike and allows_reset(None)
        self._conversations = conversations
        self._claim = claim
        self._release = Release(streaming or profile.streaming, show_tools=profile.show_tools)
        self._cut = Cut(turn.stop, turn.max_tokens)
        self._reply = Reply()
        # Set once the service has taken a request of this turn: from then on a dead worker may
        # have done work, and doing it again is the client's decision.
        self._accepted = False
        # A message was cut and told anew: what of it is in the CLI's own history, nobody knows.
        self._broken = False
        # The answer was cut, and the worker can be reset for another conversation.
        self._reusable = False
        self.watch = TurnWatch(self._turn, claim.id)
        self._finished: Finished | None = None
        self.fault: Fault | None = None
        self._stopped: Fault | None = None
        self._waiting = trio.CancelScope()
        # None only while it is looked whether the conversation's session can be resumed.
        self._lease = None if self._without_worker() else self._ask(None)

    @property
    def outlives_client(self) -> bool:
        """Whether it is finished for its conversation when its client has gone away."""
        return self._outlives

    @property
    def conversation_id(self) -> str:
        """The id of the conversation this turn belongs to."""
        return self._claim.id

    @property
    def finished(self) -> bool:
        """Whether Finished has been returned."""
        return self._finished is not None

    @property
    def answered(self) -> bool:
        """Whether the turn has come to an answer; calls that wait for their results are none."""
        return self._finished is not None and self._finished.stop_reason != "tool_use"

    async def next_events(self) -> list[Event]:
        """The events that may go to the client and are ready now, waiting for at least one; empty
        after Finished. Raises the Fault that ended the turn, or with which it was refused.
        Cancelling loses nothing, not even the place in the queue."""
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
            self._gate.failed(fault)
            self.fault = fault
            raise

    def stop(self, fault: Fault) -> None:
        """End the turn with `fault`, now."""
        self._stopped = fault
        self._waiting.cancel()

    async def _advance(self) -> list[Event]:
        if self._cut.finished is not None:
            return []
        try:
            if self._lease is None:
                self._lease = self._ask(await self._resumable())
            if self.watch.leased_at is None:
                await self._begin(self._lease)
            told = await self._lease.next_events()
        except (WorkerDied, SessionLost):
            if self._accepted or self.watch.attempts >= ATTEMPTS:
                raise
            assert self._lease is not None
            self._lease.close()
            self._lease = self._ask(None)
            return []
        self._gate.hear(told)
        for event in told:
            self._accepted |= isinstance(event, RoundStarted)
            self._broken |= isinstance(event, RoundBroken)
            if isinstance(event, Finished):
                self._finished = event
        released = self._cut.feed(self._release.feed(told))
        if (cut := self._cut.finished) is not None:
            if self._finished is not None:
                # It is over for the model too, and what it cost is known.
                cut = replace(cut, usage=self._finished.usage)
                released[-1] = cut
            self._finished = cut
            self._reusable = self._may_reset and await self._lease.interrupt()
        self._reply.feed(released)
        self.watch.told(told, released)
        return released

    def _without_worker(self) -> Conversation | None:
        """The conversation, when it has a session to resume and no worker holds it any more."""
        found = self._claim.conversation
        # Where it was found leniently, only a live worker may go on.
        if found is None or self._transcripts is None or found.head != self._claim.head:
            return None
        return None if found.session is None or self._pool.holds(found.head) else found

    async def _resumable(self) -> str | None:
        found = self._without_worker()
        if found is None or self._transcripts is None:
            return None
        return found.session if await self._transcripts.holds(found) else None

    def _ask(self, session: str | None) -> Lease:
        self.watch.asked()
        again, wanted = self.watch.attempts > 1, self._claim.binding(self._turn.effort)
        return self._pool.lease(
            Key(self._turn.profile, self._turn.model),
            self._claim.scope,
            # A worker that was lost once is not looked for again: the history is imported.
            head=None if again or not self._is_next() else self._claim.head,
            root=wanted if self._may_reset and not again else None,
            session=session,
            whole=self._claim.whole and self._importable,
            again=again,
        )

    @property
    def _importable(self) -> bool:
        """Whether any worker can be given all that the turn brings."""
        return self._able.history or len(self._turn.messages) == 1

    def _is_next(self) -> bool:
        """Whether a worker at the claimed head can go on with the turn's messages: one whose calls
        wait takes nothing but their results."""
        claim = self._claim
        new = self._turn.messages[claim.known :]
        return not claim.pending or answerable(new, claim.pending, lenient=self._lenient)

    async def _begin(self, lease: Lease) -> None:
        try:
            await lease.wait()
        except ConversationGone:
            if self._claim.whole and not self._importable:
                raise no_history() from None
            raise
        await self._gate.enter()
        self.watch.leased(lease)
        lease.begin(self._turn, self._claim.known)

    def close(self, *, delivered: bool) -> None:
        """End the turn. Its worker waits for the next one if this one is finished and its client
        has it whole: a client that does not may send anything next."""
        lease = self._lease
        try:
            self._gate.close()
            if not delivered or self._finished is None or self.fault is not None:
                self._conversations.abandon(self._claim)
            elif lease is not None and lease.worker is not None:
                self._commit(lease, lease.worker, self._finished)
        except BaseException:
            # A mistake of ours costs neither slot nor conversation; the worker is in doubt.
            self._conversations.abandon(self._claim)
            if lease is not None:
                lease.head = lease.lenient = lease.root = None
            raise
        finally:
            if lease is not None:
                lease.close()

    def _commit(self, lease: Lease, worker: Worker, finished: Finished) -> None:
        """The client has its reply: note where the conversation stands, and what `worker` is to be
        known by."""
        claim, reply = self._claim, self._reply.parts
        # Whether the worker's own history has the reply that the client has.
        cut = self._cut.finished is not None
        alike = not self._broken and not cut and not worker.gave_up
        record = TurnRecord() if cut else worker.record
        pending = self._reply.calls if lease.parked and alike else ()
        conversation = self._conversations.finish(claim, reply, finished, record, pending)
        # After an update of the CLI it may still be of the version before.
        may_reset = self._may_reset and claim.whole and self._allows_reset(worker.version)
        reset_to = claim.binding(worker.effort) if may_reset else None
        if self._reusable and reset_to is not None:
            # It holds more than the client saw: no history leads to it.
            lease.head = secrets.token_bytes(16)
            lease.root = reset_to
        if not alike:
            return
        lease.head = conversation.head
        lease.root = reset_to
        if self._lenient:
            lease.lenient = lineage.lenient(claim.turn, claim.scope, reply, claim.base)
            if lease.lenient is not None:
                self._conversations.offer_lenient(conversation, lease.lenient)
        # A transcript that ends in calls without results cannot be gone on with.
        if self._transcripts is not None and not lease.parked:
            self._transcripts.confirm_nowait(conversation, record)

    def timings(self) -> Timings:
        """Where its time has gone up to now; `total` once it is over."""
        return self.watch.timings(ended=self._finished is not None or self.fault is not None)

    def facts(self, request: str, dialect: str, key: str | None) -> TurnFacts:
        """What the log may know of this turn once it is closed."""
        return self.watch.facts(
            self._finished, self.fault, request=request, dialect=dialect, key=key
        )
