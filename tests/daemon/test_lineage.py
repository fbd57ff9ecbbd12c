"""What a conversation is known by: equal for equal conversations, different for all others."""

import time
from collections.abc import Iterable, Iterator
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias
from unicodedata import normalize

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from maxd.daemon import lineage
from maxd.workers.turn import Document, Image, Message, Part, Text, ToolCall, ToolResult, Turn
from tests.daemon.histories import (
    BASE,
    PIXEL,
    SCOPE,
    assistant,
    many,
    messages,
    texts,
    turn,
    turns,
    user,
)

if TYPE_CHECKING:
    from maxd.daemon.lineage import Head

Plain: TypeAlias = tuple[Any, ...]


def plain(asked: Turn, scope: str, count: int) -> Plain:
    """The first `count` messages and all that binds them, as it may be compared: the reference."""

    def said(part: Part) -> Plain:
        match part:
            case Text(text):
                return ("text", text.rstrip())
            case Image(media_type, data):
                return ("image", media_type, data)
            case Document(media_type, data):
                return ("document", media_type, data)
            case ToolCall(call_id, name, arguments):
                return ("call", call_id, name, arguments)
            case ToolResult(call_id, parts, is_error):
                return ("result", call_id, tuple(map(said, parts)), is_error)
            case _:
                raise AssertionError(part)

    def spoken(message: Message) -> Plain:
        """The text of an answer may have been cut into parts; results come in any order."""
        texts = "".join(part.text for part in message.parts if isinstance(part, Text))
        rest = tuple(said(part) for part in message.parts if not isinstance(part, Text))
        if message.role == "assistant":
            return (texts.rstrip(), rest)
        if isinstance(message.parts[0], ToolResult):
            return tuple(sorted(rest))
        return tuple(map(said, message.parts))

    return (
        scope,
        asked.profile,
        asked.model,
        tuple(text.rstrip() for text in asked.system),
        tuple((each.role, spoken(each)) for each in asked.messages[:count]),
    )


def plain_history(asked: Turn, scope: str) -> tuple[Plain | None, int]:
    """`history` in the words of the design."""
    places = [place for place, each in enumerate(asked.messages) if each.role == "assistant"]
    if not places:
        return None, 0
    return plain(asked, scope, places[-1] + 1), places[-1] + 1


# Equal and different


@many
@given(turns, turns, st.sampled_from("xy"), st.sampled_from("xy"))
def test_heads_are_equal_exactly_where_the_conversations_are(
    left: Turn, right: Turn, left_scope: str, right_scope: str
) -> None:
    (ours, known), (theirs, _) = (
        lineage.history(left, left_scope),
        lineage.history(right, right_scope),
    )
    expected, count = plain_history(left, left_scope)
    other, _ = plain_history(right, right_scope)
    assert known == count
    assert (ours is None) == (expected is None)
    if ours is not None:
        assert (ours == theirs) == (expected == other)
        assert len(ours) == 16


@many
@given(turns, st.data())
def test_heads_change_with_any_change(asked: Turn, data: st.DataObject) -> None:
    head, known = lineage.history(asked, SCOPE)
    assume(head is not None)
    other = data.draw(changed(asked, known))
    same = plain(asked, SCOPE, known) == plain_history(other, SCOPE)[0]
    assert (lineage.history(other, SCOPE)[0] == head) == same


def changed(asked: Turn, known: int) -> st.SearchStrategy[Turn]:
    """`asked` with one small change within its history."""
    history, rest = asked.messages[:known], asked.messages[known:]
    last = len(history) - 1
    place = st.integers(0, last)

    def with_history(some: Iterable[Message]) -> Turn:
        return Turn(
            profile=asked.profile,
            model=asked.model,
            system=asked.system,
            messages=(*some, *rest),
        )

    def put(at: int, *by: Message) -> Turn:
        return with_history((*history[:at], *by, *history[at + 1 :]))

    def swap(at: int, to: int) -> Turn:
        swapped = list(history)
        swapped[at], swapped[to] = swapped[to], swapped[at]
        return with_history(swapped)

    def split(at: int) -> Turn:
        message = history[at]
        middle = len(message.parts) // 2
        halves = (message.parts[:middle], message.parts[middle:])
        return put(at, *(Message(message.role, half) for half in halves if half))

    def merge(at: int) -> Turn:
        message, following = history[at], history[min(at + 1, last)]
        joined = Message(message.role, message.parts + following.parts)
        return with_history((*history[:at], joined, *history[at + 2 :]))

    def join_parts(at: int) -> Turn:
        text = "".join(part.text for part in history[at].parts if isinstance(part, Text)) or "-"
        return put(at, Message(history[at].role, (Text(text),)))

    def other_role(at: int) -> Turn:
        role = "user" if history[at].role == "assistant" else "assistant"
        return put(at, Message("user" if role == "user" else "assistant", history[at].parts))

    return st.one_of(
        st.builds(put, place, messages),
        st.builds(lambda at, new: put(at, new, history[at]), place, messages),
        st.builds(put, place),
        st.builds(swap, place, place),
        st.builds(split, place),
        st.builds(merge, place),
        st.builds(join_parts, place),
        st.builds(other_role, place),
    )


FIRST, SEEN, ANSWER, NEXT = BASE.messages
OTHERS = {
    "changed": turn(user("One", "two"), SEEN, ANSWER, NEXT),
    "added": turn(user("zero"), FIRST, SEEN, ANSWER, NEXT),
    "dropped": turn(FIRST, ANSWER, NEXT),
    "swapped": turn(SEEN, FIRST, ANSWER, NEXT),
    "parts swapped": turn(user("two", "one"), SEEN, ANSWER, NEXT),
    "split": turn(user("one"), user("two"), SEEN, ANSWER, NEXT),
    "merged": turn(user("one", "two", *SEEN.parts), ANSWER, NEXT),
    "parts merged": turn(user("onetwo"), SEEN, ANSWER, NEXT),
    "parts merged with a line between": turn(user("one\ntwo"), SEEN, ANSWER, NEXT),
    "another role": turn(assistant("one", "two"), SEEN, ANSWER, NEXT),
    "another answer": turn(FIRST, SEEN, assistant("three!"), NEXT),
    "another picture": turn(FIRST, user(Image("image/png", "iVBORw0KGgp=")), ANSWER, NEXT),
    "another kind of picture": turn(FIRST, user(Image("image/gif", PIXEL)), ANSWER, NEXT),
    "a picture as text": turn(FIRST, user(f"image/png{PIXEL}"), ANSWER, NEXT),
    "white space before": turn(user(" one", "two"), SEEN, ANSWER, NEXT),
    "white space within": turn(FIRST, SEEN, assistant("thr ee"), NEXT),
    "another system text": turn(*BASE.messages, system=("Be long.",)),
    "no system text": turn(*BASE.messages, system=()),
    "an empty system text": turn(*BASE.messages, system=("",)),
    "one more system text": turn(*BASE.messages, system=("Be brief.", "")),
    "two halves of the system text": turn(*BASE.messages, system=("Be ", "brief.")),
    "white space before the system text": turn(*BASE.messages, system=(" Be brief.",)),
    "the system text said by the user": turn(user("Be brief."), *BASE.messages, system=()),
    "another model": turn(*BASE.messages, model="opus"),
    "another profile": turn(*BASE.messages, profile="agent"),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_each_of_these_is_another_conversation(other: Turn) -> None:
    assert lineage.history(other, SCOPE)[0] not in (None, lineage.history(BASE, SCOPE)[0])


def test_no_two_of_these_are_the_same_conversation() -> None:
    heads = {lineage.history(other, SCOPE)[0] for other in (BASE, *OTHERS.values())}
    assert len(heads) == 1 + len(OTHERS)


def test_another_scope_is_another_conversation() -> None:
    heads = {lineage.history(BASE, scope)[0] for scope in ("", SCOPE, SCOPE + "0", SCOPE.upper())}
    assert len(heads) == 4


@pytest.mark.parametrize("text", ["\u00e9", "\ufb01", "\u212b", "\ud55c", "a\u200b", "\u1e9e"])
def test_unicode_is_taken_as_it_is(text: str) -> None:
    """A model answers what it was given, not what it looks like."""
    forms = {text, text.lower(), text.replace("\u200b", "")}
    forms |= {normalize("NFD", text), normalize("NFC", text), normalize("NFKC", text)}
    asked = [turn(user(form), assistant("x"), user("y")) for form in forms]
    assert len({lineage.history(each, SCOPE)[0] for each in asked}) == len(forms) > 1


@given(texts, texts)
def test_what_is_asked_now_is_no_part_of_the_history(now: str, more: str) -> None:
    head, known = lineage.history(BASE, SCOPE)
    other = turn(*BASE.messages[:3], user(now or "?"), user(more or "?"))
    assert lineage.history(other, SCOPE) == (head, known) == (head, 3)


def test_without_an_answer_there_is_nothing_to_go_on_with() -> None:
    assert lineage.history(turn(user("one"), user("two")), SCOPE) == (None, 0)


def small_turns() -> Iterator[tuple[str, Turn]]:
    """Every conversation in a tiny language made of the encoding's own words."""
    words = ["", ":", "1:"]
    bodies: list[tuple[Part, ...]] = [(Text("1:"),), (Text("text"),), (Text("1:"), Text("text"))]
    bodies += [
        (Image("1:", "text"),),
        (Text("2:4:text2:1:"),),
        (Text("image"), Text("1:"), Text("text")),
    ]
    histories: list[tuple[Message, ...]] = []
    for length in (0, 1, 2):
        histories += product((Message("user", body) for body in bodies), repeat=length)
    systems = [(), *((a,) for a in words), *product(words, repeat=2)]
    for scope, profile, model in product(words, repeat=3):
        for system, history in product(systems, histories):
            yield (
                scope,
                Turn(
                    profile=profile,
                    model=model,
                    system=system,
                    messages=(*history, Message("assistant", bodies[0]), user("?")),
                ),
            )


# No two encodings meet


def test_texts_that_look_like_the_encoding_do_not_meet() -> None:
    seen: dict[Head | None, Plain | None] = {}
    count = 0
    for scope, asked in small_turns():
        count += 1
        expected, _ = plain_history(asked, scope)
        assert seen.setdefault(lineage.history(asked, scope)[0], expected) == expected
    assert len(seen) == count > 10_000


@many
@given(st.lists(texts, min_size=1, max_size=8), st.data())
def test_a_text_cannot_move_from_one_field_to_the_next(
    words: list[str], data: st.DataObject
) -> None:
    """The same texts in the same order, cut into fields elsewhere."""

    def cut() -> Turn:
        ends = sorted(data.draw(st.lists(st.integers(0, len(words)), min_size=3, max_size=3)))
        a, b, c = ends
        said = [user(word if word.strip() else "-") for word in words[b:c]]
        return turn(
            *said,
            assistant("".join(words[c:]).strip() or "-"),
            user("?"),
            system=words[a:b],
            profile="".join(words[:a]),
        )

    left, right = cut(), cut()
    equal = plain_history(left, SCOPE) == plain_history(right, SCOPE)
    assert (lineage.history(left, SCOPE) == lineage.history(right, SCOPE)) == equal


def long_chat(count: int) -> Turn:
    said = (user("x" * 10_000), assistant("y" * 10_000))
    return turn(*(said[number % 2] for number in range(count)), user("?"))


# Cost


def test_a_long_history_takes_a_hundredth_of_a_second() -> None:
    asked = long_chat(400)
    started = time.process_time()
    head, known = lineage.history(asked, SCOPE)
    # 0.01 s on one core; the bound is for a busy one. Were it quadratic it would be 2 s.
    assert time.process_time() - started < 0.5
    assert head is not None
    assert known == 400


def test_a_chat_of_many_turns_is_one_chain() -> None:
    """Each turn's head can be had from the last one and the new messages alone: nothing in it
    depends on how long the conversation is."""
    asked = long_chat(100)
    head = lineage.root(asked, SCOPE)
    for number, message in enumerate(asked.messages[:-1], 1):
        head = lineage.extend(head, message)
        if message.role == "assistant":
            so_far = turn(*asked.messages[:number], user("?"))
            assert lineage.history(so_far, SCOPE) == (head, number)
