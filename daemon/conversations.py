"""Which conversation a request belongs to, and what each is known by between its turns.

A request names its conversation by its history (see lineage), by an explicit id, or by both. The
history wins: an id with a history that is not the conversation's follows the history. Only a
request without any earlier answer is taken to bring new messages alone, and only with an id.
"""

import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from maxd.daemon import lineage
from maxd.daemon.conversation import Conversation
from maxd.daemon.lineage import Head
from maxd.workers.faults import BadRequest, ConversationBusy, ConversationGone
from maxd.workers.turn import Effort, Finished, Part, Turn, TurnRecord

UNKNOWN_CALLS = "nothing waits for these results; send the whole history with the calls"
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class Claim(Struct, kw_only=True):
    """A turn's hold on its conversation, from its admission to its end.

    `head` is what a worker must hold to go on, and `known` how many of the turn's messages are in
    it. Where the turn brings its new messages alone, `whole` is False and `base` is what they
    follow; then nothing but the conversation's worker or session can answer it.
    """

    id: str
    scope: str
    turn: Turn
    root: Head
    head: Head | None = None
    known: int = 0
    base: Head | None = None
    conversation: Conversation | None = None
    pending: tuple[str, ...] = ()
    """The calls with which the conversation's last turn ended: what a worker that holds it waits
    for the results of, whichever way it is found."""

    @property
    def whole(self) -> bool:
        return self.base is None

    def binding(self, effort: Effort | None) -> Head:
        """What a worker that is set to `effort` must be bound to in order to be reset for it."""
        return lineage.binding(self.root, self.turn, effort)


class Conversations:
    """All conversations that are known. `on_change` is told each that a turn has changed,
    `on_forget` the scope and id of each that is known no longer."""

    def __init__(
        self,
        on_change: Callable[[Conversation], None] = lambda conversation: None,
        on_forget: Callable[[str, str], None] = lambda scope, conversation_id: None,
        *,
        keep: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._on_change = on_change
        self._on_forget = on_forget
        self._keep = keep
        self._clock = clock
        # The one used last is last. No more than `keep`.
        self._by_id: dict[tuple[str, str], Conversation] = {}
        # Invariant: the conversations with a head that no running turn has claimed.
        self._by_head: dict[bytes, list[Conversation]] = {}
        # The same by lenient heads, of live workers only: they are not kept.
        self._by_lenient: dict[bytes, Conversation] = {}
        # Of conversations whose last turn ended in calls: which. Only a live worker can be handed
        # their results, so the index does not know them.
        self._pending: dict[tuple[str, str], tuple[str, ...]] = {}
        # Conversations whose next turn is running, and ids whose first turn is.
        self._claimed: set[tuple[str, str]] = set()

    def __len__(self) -> int:
        return len(self._by_id)

    def restore(self, conversations: Iterable[Conversation]) -> None:
        """Add what an earlier run has known, the last used first."""
        for conversation in reversed([*conversations][: self._keep]):
            self._by_id[conversation.scope, conversation.id] = conversation
            self._offer(conversation)

    def of(self, scope: str) -> list[Conversation]:
        """The conversations of `scope`, the last used first."""
        mine = [each for each in self._by_id.values() if each.scope == scope]
        return sorted(mine, key=lambda each: each.last_used, reverse=True)

    def get(self, scope: str, conversation_id: str) -> Conversation | None:
        return self._by_id.get((scope, conversation_id))

    def is_running(self, conversation: Conversation) -> bool:
        """Whether a turn of it is under way."""
        return not self._is_free(conversation)

    def forget(self, scope: str, conversation_id: str) -> Conversation | None:
        """Know a conversation no longer; return what it was. A turn of it that is running is
        answered and then begins a new one."""
        conversation = self._by_id.pop((scope, conversation_id), None)
        self._pending.pop((scope, conversation_id), None)
        if conversation is not None:
            self._withdraw(conversation)
            self._on_forget(scope, conversation_id)
        return conversation

    def claim(self, turn: Turn, scope: str, conversation_id: str | None) -> Claim:
        """The conversation that `turn` goes on with, or a new one.

        Raises BadRequest for an id outside its pattern, ConversationBusy when the turn brings new
        messages alone and another turn of its conversation is running, ConversationGone when it
        brings results of calls alone that no worker waits for.
        """
        if conversation_id is not None and ID.fullmatch(conversation_id) is None:
            raise BadRequest(
                "X-Conversation-Id must be 1 to 128 letters, digits and . _ : -",
                param="X-Conversation-Id",
            )
        head, known = lineage.history(turn, scope)
        claim = Claim(
            id=conversation_id or f"conv_{secrets.token_hex(12)}",
            scope=scope,
            turn=turn,
            root=lineage.root(turn, scope),
            head=head,
            known=known,
            pending=lineage.calls(turn.messages[known - 1]) if known else (),
        )
        named = None if conversation_id is None else self._by_id.get((scope, conversation_id))
        if head is None:
            if conversation_id is not None and (scope, conversation_id) in self._claimed:
                raise ConversationBusy("another turn of this conversation is running")
            if named is not None and self._follows(named, claim):
                self._take(claim, named)
                claim.head = claim.base = Head(named.head)
                claim.pending = self._pending.get((scope, named.id), ())
            if lineage.begins_with_results(turn) and not claim.pending:
                self.abandon(claim)
                raise ConversationGone(UNKNOWN_CALLS, param="X-Conversation-Id")
        elif named is not None and named.head == head and self._is_free(named):
            self._take(claim, named)
        elif conversation_id is None and (found := self._by_head.get(head)):
            self._take(claim, found[0])
        elif conversation_id is None and (vague := self._found_leniently(head)) is not None:
            self._take(claim, vague)
        if conversation_id is not None:
            self._claimed.add((scope, conversation_id))
        return claim

    def finish(
        self,
        claim: Claim,
        reply: Sequence[Part],
        finished: Finished,
        record: TurnRecord,
        pending: tuple[str, ...] = (),
    ) -> Conversation:
        """A turn's client has its whole reply. Returns its conversation, at its new head, of which
        no session on disk is known until its transcript has been written."""
        head = lineage.after_reply(
            claim.turn, claim.scope, reply, claim.base
        ) or lineage.after_blank(claim.turn, claim.scope, claim.base)
        name = (claim.scope, claim.id)
        now = self._clock()
        conversation = self._by_id.pop(name, None)
        if conversation is None:
            conversation = Conversation(
                id=claim.id,
                scope=claim.scope,
                profile=claim.turn.profile,
                model=claim.turn.model,
                root=claim.root,
                head=head,
                created=now,
                last_used=now,
            )
        else:
            self._withdraw(conversation)
        self._by_id[name] = conversation
        if claim.whole:
            conversation.root = claim.root
        conversation.profile, conversation.model = claim.turn.profile, claim.turn.model
        conversation.head = head
        conversation.last_used = now
        conversation.turns += 1
        usage = finished.usage
        conversation.input_tokens += (
            usage.input_tokens + usage.cache_creation_tokens + usage.cache_read_tokens
        )
        conversation.output_tokens += usage.output_tokens
        conversation.cost += record.cost
        conversation.context_tokens = record.context_tokens
        conversation.context_window = record.context_window
        conversation.session = conversation.session_line = None
        if pending:
            self._pending[name] = pending
        else:
            self._pending.pop(name, None)
        self._claimed.discard(name)
        self._offer(conversation)
        self._on_change(conversation)
        if len(self._by_id) > self._keep:
            self.forget(*next(iter(self._by_id)))
        return conversation

    def offer_lenient(self, conversation: Conversation, head: Head) -> None:
        """A worker of a lenient profile holds the conversation: it may also be found at `head`."""
        self._by_lenient[head] = conversation
        if len(self._by_lenient) > self._keep:
            del self._by_lenient[next(iter(self._by_lenient))]

    def abandon(self, claim: Claim) -> None:
        """A turn has failed, or its client does not have the reply: the conversation stands where
        it stood."""
        self._claimed.discard((claim.scope, claim.id))
        known = self._by_id.get((claim.scope, claim.id))
        if known is not None and known is claim.conversation:
            self._offer(known)

    def _follows(self, named: Conversation, claim: Claim) -> bool:
        """Whether a turn without any earlier answer goes on with `named`. Another system text,
        profile or model begins the conversation anew."""
        turn = claim.turn
        if (turn.profile, turn.model) != (named.profile, named.model):
            return False
        return not turn.system or claim.root == named.root

    def _found_leniently(self, head: Head) -> Conversation | None:
        vague = self._by_lenient.pop(head, None)
        # It may have been forgotten since, or be claimed at its exact head.
        if vague is None or self._by_id.get((vague.scope, vague.id)) is not vague:
            return None
        return vague if self._is_free(vague) else None

    def _is_free(self, conversation: Conversation) -> bool:
        return (conversation.scope, conversation.id) not in self._claimed

    def _take(self, claim: Claim, conversation: Conversation) -> None:
        claim.id, claim.conversation = conversation.id, conversation
        self._claimed.add((conversation.scope, conversation.id))
        self._withdraw(conversation)

    def _offer(self, conversation: Conversation) -> None:
        offered = self._by_head.setdefault(conversation.head, [])
        # Another turn under the same id may have offered it already.
        if conversation not in offered:
            offered.append(conversation)

    def _withdraw(self, conversation: Conversation) -> None:
        offered = self._by_head.get(conversation.head, [])
        if conversation in offered:
            offered.remove(conversation)
            if not offered:
                del self._by_head[conversation.head]
