"""Conversations as the operator and the client see them: what is known of each, and no text."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from maxd.daemon.conversation import Conversation


class ConversationObject(Struct):
    """`state`: `running` (a turn is under way), `idle` (a worker holds it), `stored` (the CLI's
    session on disk holds it) or `known` (its client must bring the history). Times are in epoch
    seconds. `context_used` is the part of the model's window that the last turn took, in %."""

    id: str
    state: str
    model: str
    profile: str
    created_at: int
    last_used_at: int
    turns: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    context_used: float | None
    object: str = "conversation"


class ConversationList(Struct):
    data: list[ConversationObject]
    object: str = "list"
    has_more: bool = False


class Deleted(Struct):
    id: str
    object: str = "conversation.deleted"
    deleted: bool = True


def encode_list(conversations: Iterable[tuple[Conversation, str]]) -> bytes:
    """The body of `GET /v1/conversations`; each conversation comes with its state."""
    return msgspec.json.encode(ConversationList([_object(*each) for each in conversations]))


def encode_one(conversation: Conversation, state: str) -> bytes:
    """The body of `GET /v1/conversations/{id}`."""
    return msgspec.json.encode(_object(conversation, state))


def encode_deleted(conversation: Conversation) -> bytes:
    """The body of `DELETE /v1/conversations/{id}`."""
    return msgspec.json.encode(Deleted(conversation.id))


def _object(conversation: Conversation, state: str) -> ConversationObject:
    window = conversation.context_window
    return ConversationObject(
        id=conversation.id,
        state=state,
        model=conversation.model,
        profile=conversation.profile,
        created_at=int(conversation.created),
        last_used_at=int(conversation.last_used),
        turns=conversation.turns,
        input_tokens=conversation.input_tokens,
        output_tokens=conversation.output_tokens,
        cost_usd=round(conversation.cost, 6),
        context_used=round(100 * conversation.context_tokens / window, 1) if window else None,
    )
