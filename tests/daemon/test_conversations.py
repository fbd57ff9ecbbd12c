"""Which conversation a turn belongs to."""

import pytest

from maxd.daemon import lineage
from maxd.daemon.conversation import Conversation
from maxd.daemon.conversations import Claim, Conversations
from maxd.workers.faults import BadRequest, ConversationBusy
from maxd.workers.turn import Finished, Message, Text, Turn, TurnRecord, Usage

SCOPE = "key"
FINISHED = Finished("end_turn", Usage(input_tokens=3, cache_read_tokens=4, output_tokens=5))


def turn(*said: str, system: tuple[str, ...] = ()) -> Turn:
    """User and assistant in turn, the user first."""
    messages = tuple(
        Message("assistant" if number % 2 else "user", (Text(text),))
        for number, text in enumerate(said)
    )
    return Turn(profile="chat", model="sonnet", messages=messages, system=system)


def finish(known: Conversations, claim: Claim, reply: str) -> Conversation:
    return known.finish(claim, (Text(reply),), FINISHED, TurnRecord(cost=0.25, context_tokens=10))


def test_a_history_finds_its_conversation() -> None:
    known = Conversations()
    first = known.claim(turn("a"), SCOPE, None)
    conversation = finish(known, first, "b")
    second = known.claim(turn("a", "b", "c"), SCOPE, None)
    assert (second.id, second.head, second.known) == (first.id, conversation.head, 2)
    assert known.is_running(conversation)
    finish(known, second, "d")
    assert (conversation.turns, conversation.cost) == (2, 0.5)
    assert (conversation.input_tokens, conversation.output_tokens) == (14, 10)
    assert known.claim(turn("a", "b", "c"), SCOPE, None).conversation is None, "its head went on"


def test_one_of_two_claims_a_head() -> None:
    known = Conversations()
    finish(known, known.claim(turn("a"), SCOPE, None), "b")
    one = known.claim(turn("a", "b", "c"), SCOPE, None)
    other = known.claim(turn("a", "b", "d"), SCOPE, None)
    assert one.id != other.id
    assert other.conversation is None
    known.abandon(one)
    assert known.claim(turn("a", "b", "c"), SCOPE, None).id == one.id, (
        "a failed turn changes nothing"
    )


def test_an_id_brings_the_new_messages_alone() -> None:
    known = Conversations()
    conversation = finish(known, known.claim(turn("a", system=("s",)), SCOPE, "mine"), "b")
    second = known.claim(turn("c"), SCOPE, "mine")
    assert (second.whole, second.head, second.known) == (False, conversation.head, 0)
    finish(known, second, "d")
    whole = turn("a", "b", "c", "d", "e", system=("s",))
    assert known.claim(whole, SCOPE, None).id == "mine", "the history is the same"


def test_another_system_text_begins_anew() -> None:
    known = Conversations()
    finish(known, known.claim(turn("a", system=("s",)), SCOPE, "mine"), "b")
    assert known.claim(turn("c", system=("other",)), SCOPE, "mine").whole


def test_new_messages_alone_wait_for_the_turn_before() -> None:
    known = Conversations()
    first = known.claim(turn("a"), SCOPE, "mine")
    with pytest.raises(ConversationBusy):
        known.claim(turn("b"), SCOPE, "mine")
    known.abandon(first)
    assert known.claim(turn("a"), SCOPE, "mine").whole, "nothing was committed"


@pytest.mark.parametrize("wrong", ["", " ", "a b", "-a", "a/b", "ä", "a" * 129, "a\n"])
def test_ids_have_a_pattern(wrong: str) -> None:
    with pytest.raises(BadRequest):
        Conversations().claim(turn("a"), SCOPE, wrong)


def test_a_lenient_head_is_claimed_once_and_not_after_it_was_forgotten() -> None:
    known = Conversations()
    asked = Turn(
        profile="chat",
        model="sonnet",
        messages=(Message("user", (Text("a"),)), Message("user", (Text("volatile"),))),
    )
    claim = known.claim(asked, SCOPE, None)
    conversation = finish(known, claim, "b")
    vague = lineage.lenient(asked, SCOPE, (Text("b"),))
    assert vague is not None
    known.offer_lenient(conversation, vague)
    found = known.claim(turn("a", "b", "c"), SCOPE, None)
    assert found.conversation is conversation
    assert known.claim(turn("a", "b", "c"), SCOPE, None).conversation is None
    known.abandon(found)
    known.offer_lenient(conversation, vague)
    known.forget(SCOPE, conversation.id)
    assert known.claim(turn("a", "b", "c"), SCOPE, None).conversation is None


def test_no_more_are_kept_than_asked_for() -> None:
    forgotten: list[str] = []
    known = Conversations(on_forget=lambda scope, name: forgotten.append(name), keep=2)
    for name in ("one", "two", "three"):
        finish(known, known.claim(turn(name), SCOPE, name), "x")
    assert forgotten == ["one"]
    assert {each.id for each in known.of(SCOPE)} == {"two", "three"}


def test_two_turns_under_one_id_do_not_offer_it_twice() -> None:
    known = Conversations()
    finish(known, known.claim(turn("a"), SCOPE, "mine"), "b")
    fails = known.claim(turn("a", "b", "c"), SCOPE, "mine")
    conversation = finish(known, known.claim(turn("q", "r", "s"), SCOPE, "mine"), "t")
    known.abandon(fails)
    history = turn("q", "r", "s", "t", "u")
    assert known.claim(history, SCOPE, None).conversation is conversation
    assert known.claim(history, SCOPE, None).conversation is None
