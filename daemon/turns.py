"""Where turns are handed in, counted while they run, and told of when they end."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import partial
from typing import Literal, TypeAlias

import trio
from msgspec.structs import replace
from structlog.typing import FilteringBoundLogger

from maxd.daemon.abilities import Abilities
from maxd.daemon.account_gate import AccountGate
from maxd.daemon.conversation import Conversation
from maxd.daemon.conversations import Conversations
from maxd.daemon.left_turns import LeftTurns
from maxd.daemon.observer import Observer
from maxd.daemon.pool import Pool
from maxd.daemon.transcripts import Transcripts
from maxd.daemon.turn_facts import RunningTurn
from maxd.daemon.turn_stream import AllowsReset, TurnStream
from maxd.workers.faults import Fault
from maxd.workers.policy import Decisions
from maxd.workers.profiles import Profile, Streaming
from maxd.workers.turn import Turn

ConversationState: TypeAlias = Literal["running", "idle", "stored", "known"]


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
        able: Callable[[], Abilities] = Abilities,
        allows_reset: AllowsReset = lambda version: False,
        transcripts: Transcripts | None = None,
        gate: AccountGate | None = None,
        observer: Observer | None = None,
        decisions: Decisions | None = None,
    ) -> None:
        self._pool = pool
        self._observer = observer or Observer()
        self.left = LeftTurns()
        self.decisions = decisions or Decisions()
        self.gate = gate or AccountGate()
        self._transcripts = transcripts
        self._able = able
        self._allows_reset = allows_reset
        self._profiles = profiles
        self.conversations = conversations
        self._log = log
        self._on_fault = on_fault
        self._running: dict[TurnStream, str] = {}  # With the id of the request.
        self.most_running = 0  # At once.
        self.refusal: Fault | None = None  # Why no turn may begin.
        self._idle = trio.Event()
        self._idle.set()

    @property
    def running(self) -> int:
        """Turns that have begun and not ended, those in the queue included."""
        return len(self._running)

    def under_way(self, now: float) -> dict[str, RunningTurn]:
        """The running turns that have a worker, by its id."""
        return {
            worker: stream.watch.running(request_id, now)
            for stream, request_id in self._running.items()
            if (worker := stream.watch.worker) is not None
        }

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
        self,
        turn: Turn,
        *,
        client: str,
        request_id: str,
        conversation_id: str | None = None,
        streaming: Streaming | None = None,
        dialect: str = "",
        key: str | None = None,
        on_end: Callable[[], None] = lambda: None,
    ) -> Iterator[TurnStream]:
        """Run `turn`, of the conversation `conversation_id` if that is given, in its profile's mode
        or `streaming`; `dialect` and `key`, an API key's name, are for the log. Leaving the block
        before Finished, or by an exception, kills its worker, or lets it finish without its client
        where the profile says so. `on_end` is called once, when the turn has ended or is refused.
        Raises the `refusal`, and what `AccountGate.check`, `Abilities.check` and
        `Conversations.claim` do.
        """
        with ExitStack() as refused:
            refused.callback(on_end)
            stream = self._begin(turn, client, conversation_id, streaming)
            refused.pop_all()
        self._running[stream] = request_id
        self.most_running = max(self.most_running, self.running)
        if self._idle.is_set():
            self._idle = trio.Event()
        self._log.debug("turn admitted", request=request_id, running=self.running)
        delivered = False
        try:
            yield stream
            delivered = True
        finally:
            end = partial(self._end, stream, request_id, dialect, key, on_end)
            gone = stream.fault is None and not (delivered and stream.finished)
            if not (gone and stream.outlives_client and self.left.take(stream, end)):
                end(delivered)

    def _begin(
        self, turn: Turn, client: str, conversation_id: str | None, streaming: Streaming | None
    ) -> TurnStream:
        if self.refusal is not None:
            raise copy(self.refusal)
        self.gate.check(turn.model)
        able = self._able()
        able.check(turn)
        profile = self._profiles[turn.profile]
        if turn.functions and profile.with_functions != profile.name:
            profile = self._profiles[profile.with_functions]
            turn = replace(turn, profile=profile.name)
        return TurnStream(
            self._pool,
            profile,
            self.conversations,
            self.conversations.claim(turn, client, conversation_id),
            able=able,
            allows_reset=self._allows_reset,
            streaming=streaming,
            gate=self.gate,
            transcripts=self._transcripts,
        )

    def _end(
        self,
        stream: TurnStream,
        request_id: str,
        dialect: str,
        key: str | None,
        on_end: Callable[[], None],
        delivered: bool,
    ) -> None:
        try:
            stream.close(delivered=delivered)
        finally:
            del self._running[stream]
            if not self._running:
                self._idle.set()
        if stream.fault is not None:
            self._on_fault(stream.fault)
        facts = stream.facts(request_id, dialect, key)
        self._log.info("turn", **facts.log_fields())
        self._observer.turn_ended(facts)
        on_end()
