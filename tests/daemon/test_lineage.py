"""What a conversation is known by: equal for equal conversations, different for all others."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias
from unicodedata import normalize

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from maxd.daemon import lineage
from maxd.http.openai_chat import decode
from maxd.workers.binding import binding
from maxd.workers.profiles import CHAT
from maxd.workers.turn import (
    Document,
    Image,
    Message,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
)

if TYPE_CHECKING:
    from maxd.daemon.lineage import Head

SCOPE = "5f0c"
REPLY = (Text("x"),)
PIXEL = "iVBORw0KGgo="
Plain: TypeAlias = tuple[Any, ...]

# Texts near the encoding, near each other, and what normalisation would make equal.
TRICKY = ["a", " a", "a ", "a\n", "b", "ab", "text", "image", "user", "assistant", "root", "4:text"]
TRICKY += [
    "1:a",
    "2:4:text1:a",
    "1:4:user",
    "0:",
    ":",
    "\u00e9",
    "e\u0301",
    "\ufb01",
    "fi",
    "A",
    "\u200b",
]
texts = st.sampled_from(TRICKY) | st.text(min_size=1, max_size=6)
# Blank texts are no parts; see `decode`.
parts = st.builds(Text, texts.filter(str.strip)) | st.builds(
    Image, st.sampled_from(("image/png", "image/gif")), st.sampled_from((PIXEL, "AAAA", "AAAB"))
)
ids = st.sampled_from(("a", "b", "call1"))
# What no client spells otherwise; see the tests of what they do.
arguments = st.sampled_from(('{"a":1}', '{"a":2}', '{"a":{"b":[1,"x"]}}', "{}", "", "no json"))
calls = st.builds(ToolCall, ids, st.sampled_from(("f", "g", "a")), arguments)
documents = st.builds(
    Document, st.sampled_from(("application/pdf", "text/plain")), st.sampled_from(("AAAA", "a"))
)
results = st.builds(
    ToolResult, ids, st.lists(parts | documents, max_size=2).map(tuple), st.booleans()
)
messages = st.builds(
    Message, st.just("user"), st.lists(parts | documents, min_size=1, max_size=3).map(tuple)
)
messages |= st.builds(
    Message,
    st.just("user"),
    st.lists(results, min_size=1, max_size=3, unique_by=lambda r: r.call_id).map(tuple),
)
messages |= st.builds(
    Message, st.just("assistant"), st.lists(parts | calls, min_size=1, max_size=3).map(tuple)
)
questions = st.builds(Message, st.just("user"), st.lists(parts, min_size=1, max_size=2).map(tuple))
turns = st.builds(
    Turn,
    profile=st.sampled_from(("chat", "agent")),
    model=st.sampled_from(("sonnet", "opus")),
    system=st.lists(texts, max_size=3).map(tuple),
    messages=st.tuples(st.lists(messages, max_size=5), questions).map(lambda m: (*m[0], m[1])),
)
many = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def user(*said: str | Part) -> Message:
    return Message("user", tuple(Text(part) if isinstance(part, str) else part for part in said))


def assistant(*said: str) -> Message:
    return Message("assistant", tuple(map(Text, said)))


def turn(*said: Message, system: Sequence[str] = ("Be brief.",), **fields: str) -> Turn:
    return Turn(
        profile=fields.get("profile", "chat"),
        model=fields.get("model", "sonnet"),
        system=tuple(system),
        messages=said,
    )


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


BASE = turn(user("one", "two"), user(Image("image/png", PIXEL)), assistant("three"), user("four"))
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


# No two encodings meet


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


# What clients do to it on the way back


Spelling: TypeAlias = tuple[bool, str]
spellings = st.tuples(st.booleans(), st.sampled_from(("", " ", "\n", " \r\n\t", "\u00a0")))


def body(said: Sequence[tuple[str, str]], spelt: Sequence[Spelling], turned: bool) -> bytes:
    """A request as a client would write it."""
    out = []
    for (role, text), (as_parts, space) in zip(said, spelt, strict=True):
        text += space
        content: object = [{"type": "text", "text": text}] if as_parts else text
        message = {"role": role, "content": content}
        out.append(dict(reversed(message.items())) if turned else message)
    return json.dumps({"messages": out, "model": "m"}, ensure_ascii=turned).encode()


utf8 = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
said_texts = utf8.filter(str.strip)


@many
@given(st.lists(said_texts, min_size=1, max_size=3), said_texts, said_texts, st.data())
def test_another_spelling_in_json_is_the_same_conversation(
    asked: list[str], reply: str, following: str, data: st.DataObject
) -> None:
    said = [("system", "Be brief."), *(("user", text) for text in asked)]
    spelt = data.draw(st.lists(spellings, min_size=len(said), max_size=len(said)))
    first = decode(body(said, spelt, data.draw(st.booleans())), lambda model: ("chat", model)).turn
    said += [("assistant", reply), ("user", following)]
    spelt = data.draw(st.lists(spellings, min_size=len(said), max_size=len(said)))
    second = decode(body(said, spelt, data.draw(st.booleans())), lambda model: ("chat", model)).turn
    head = lineage.after_reply(first, SCOPE, (Text(reply),))
    assert (head, len(asked) + 1) == lineage.history(second, SCOPE)


@pytest.mark.parametrize("text", ["\\ud83d", "\\ude00\\ud83d", "a\\udfff"])
def test_no_text_without_an_encoding_gets_as_far_as_here(text: str) -> None:
    with pytest.raises(Exception, match="lone surrogates"):
        decode(
            b'{"model": "m", "messages": [{"role": "user", "content": "%b"}]}' % text.encode(), find
        )


def find(model: str) -> tuple[str, str]:
    return "chat", model


# After a reply


@many
@given(turns, texts, questions)
def test_the_head_after_a_reply_is_that_of_the_next_request(
    asked: Turn, reply: str, following: Message
) -> None:
    assume(reply.strip())
    head = lineage.after_reply(asked, SCOPE, (Text(reply),))
    answer = Message("assistant", (Text(reply),))
    later = turn(
        *asked.messages,
        answer,
        following,
        system=asked.system,
        profile=asked.profile,
        model=asked.model,
    )
    assert lineage.history(later, SCOPE) == (head, len(asked.messages) + 1)
    # And where the client sends only what is new, it follows the head.
    only = turn(following, system=asked.system, profile=asked.profile, model=asked.model)
    assert lineage.after_reply(only, SCOPE, (Text("x"),), head) == lineage.after_reply(
        later, SCOPE, (Text("x"),)
    )


@pytest.mark.parametrize("reply", ["", " ", "\n\t ", "\u00a0\u2003"])
def test_a_blank_reply_has_no_head(reply: str) -> None:
    """No client sends it back, so no history could have it."""
    assert lineage.after_reply(BASE, SCOPE, (Text(reply),)) is None


@many
@given(turns, turns)
def test_no_history_is_known_by_a_blank_reply(asked: Turn, other: Turn) -> None:
    blank = lineage.after_blank(asked, SCOPE)
    assert blank not in (lineage.history(asked, SCOPE)[0], lineage.history(other, SCOPE)[0])
    assert blank != lineage.after_messages(asked, SCOPE)


# Clients that take their last message out again


VOLATILE = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nTime: {}\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
RUNTIME = "Runtime: agent=main sessionId=x model=maxproxy/claude-sonnet-4"


class OpenClaw:
    """A client that ends every request with a message which it never sends again. `heads` is
    what the worker that has given the last answer is known by."""

    def __init__(self) -> None:
        self.kept: list[Message] = []
        self.requests = 0
        self.heads: tuple[Head | None, Head | None] = (None, None)

    def request(self, *said: Message) -> Turn:
        self.kept += said
        self.requests += 1
        volatile = user(VOLATILE.format(self.requests))
        return turn(*self.kept, volatile, system=("You are OpenClaw.",))

    def take(self, asked: Turn, reply: str) -> None:
        self.heads = (
            lineage.after_reply(asked, SCOPE, (Text(reply),)),
            lineage.lenient(asked, SCOPE, (Text(reply),)),
        )
        self.kept.append(assistant(reply))


def test_a_session_of_openclaw_goes_on_by_the_lenient_head() -> None:
    client = OpenClaw()
    client.take(client.request(user(f"{RUNTIME}\n\nhi")), "Hello!")
    for number in range(1, 10):
        asked = client.request(user(f"question {number}"))
        head, known = lineage.history(asked, SCOPE)
        exact, lenient = client.heads
        assert head == lenient != exact
        # What the worker is given: the new question, and the next volatile message.
        assert asked.messages[known:] == (client.kept[-1], user(VOLATILE.format(number + 1)))
        client.take(asked, f"answer {number}")


def test_a_result_of_a_tool_may_stand_before_the_volatile_message() -> None:
    """It will come in a message of the user's, perhaps with a picture behind it."""
    client = OpenClaw()
    client.take(client.request(user(f"{RUNTIME}\n\nlook")), "I call the tool.")
    result = user("result of call 1")
    picture = user(Image("image/png", PIXEL))
    asked = client.request(result, picture)
    assert lineage.history(asked, SCOPE)[0] == client.heads[1]
    client.take(asked, "I see a cat.")
    assert lineage.history(client.request(user("thanks")), SCOPE)[0] == client.heads[1]


def openclaw_strays() -> dict[str, Turn]:
    """What the same client sends that is not the next turn of the session."""
    client = OpenClaw()
    first = client.request(user(f"{RUNTIME}\n\nhi"))
    *_, volatile = first.messages
    question = client.kept[0]
    following = (user("more"), user(VOLATILE.format(2)))
    openclaw = ("You are OpenClaw.",)

    def said(*messages: Message, system: Sequence[str] = openclaw) -> Turn:
        return turn(*messages, *following, system=system)

    answer = assistant("Hello!")
    return {
        "retry": first,
        "heartbeat": said(question, answer, system=("Heartbeat.",)),
        "new session": said(),
        "compaction": said(user("Summary of the conversation so far: hi")),
        "another answer": said(question, assistant("Hello?")),
        "both messages gone": said(answer),
        "the other one gone": said(volatile, answer),
        "both in the other order": said(volatile, question, answer),
        "another volatile one": said(question, user(VOLATILE.format(7)), answer),
        "one message more": said(question, answer, user("extra"), assistant("Hello!")),
        "question changed": said(user(f"{RUNTIME}\n\nho"), answer),
        "answer gone": said(question, question, assistant("Hello!")),
    }


@pytest.mark.parametrize("stray", openclaw_strays().values(), ids=openclaw_strays())
def test_nothing_else_goes_on_by_either_head(stray: Turn) -> None:
    client = OpenClaw()
    client.take(client.request(user(f"{RUNTIME}\n\nhi")), "Hello!")
    assert None not in client.heads
    assert lineage.history(stray, SCOPE)[0] not in client.heads


@pytest.mark.parametrize(
    "asked",
    [turn(user("one")), turn(user("one"), assistant("two"), user("three"))],
    ids=["first", "later"],
)
def test_an_answer_follows_something_the_user_has_said(asked: Turn) -> None:
    assert lineage.lenient(asked, SCOPE, (Text("x"),)) is None
    base = lineage.after_reply(asked, SCOPE, (Text("x"),))
    assert lineage.lenient(turn(user("three")), SCOPE, (Text("x"),), base) is None
    assert lineage.lenient(turn(user("three"), user("four")), SCOPE, (Text("x"),), base) is not None


@many
@given(turns, texts, questions)
def test_the_lenient_head_is_that_of_the_conversation_without_the_last_message(
    asked: Turn, reply: str, following: Message
) -> None:
    *kept, _ = asked.messages
    head = lineage.lenient(asked, SCOPE, (Text(reply),))
    if not kept or kept[-1].role == "assistant" or not reply.strip():
        assert head is None
    else:
        later = replace(asked, messages=(*kept, assistant(reply), following))
        assert lineage.history(later, SCOPE) == (head, len(kept) + 1)
        assert head != lineage.after_reply(asked, SCOPE, (Text(reply),))
        without = replace(asked, messages=tuple(kept))
        assert head == lineage.after_reply(without, SCOPE, (Text(reply),))


# Cost


def long_chat(count: int) -> Turn:
    said = (user("x" * 10_000), assistant("y" * 10_000))
    return turn(*(said[number % 2] for number in range(count)), user("?"))


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


def test_clients_spell_calls_and_results_in_their_own_way() -> None:
    def asked(answer: Sequence[Part], results: Sequence[Part]) -> Turn:
        said = Message("assistant", tuple(answer)), Message("user", tuple(results))
        return turn(user("one"), *said, assistant("three"), user("four"))

    noon, rain = ToolResult("a", (Text("noon"),)), ToolResult("b", (Text("rain "),))
    called = ToolCall("a", "clock", '{"x": 1.0, "y": [null, "\\u00e9"]}'), ToolCall("b", "f", "{}")
    spelt = ToolCall("a", "clock", '{"y":[null,"é"],"x":1}'), ToolCall("b", "f", " { } ")
    head = lineage.history(asked((Text("Let me see."), *called), (noon, rain)), SCOPE)
    others = [
        asked((Text("Let me "), Text("see.\n"), *spelt), (rain, noon)),
        asked(
            (called[0], Text("Let me see."), called[1]), (noon, ToolResult("b", (Text("rain"),)))
        ),
        asked((Thinking("Hm.", "signed"), Text("Let me see."), *called), (noon, rain)),
    ]
    assert all(lineage.history(other, SCOPE) == head for other in others)
    assert (
        lineage.history(asked((Text("Let me see."), *reversed(called)), (noon, rain)), SCOPE)
        != head
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"system": ("Be brief.",)}, {"system": ("Be brief.\n",)}),
        ({"schema": '{"type":"object"}'}, {"schema": '{ "type": "object" }'}),
    ],
    ids=["system", "schema"],
)
def test_a_worker_is_bound_to_the_letter_of_what_a_root_takes_for_the_same(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    turns = [Turn(profile="chat", model="sonnet", messages=(), **how) for how in (one, other)]
    roots = [lineage.root(turn, "c") for turn in turns]
    assert roots[0] == roots[1]
    bound = [lineage.binding(root, turn, None) for root, turn in zip(roots, turns, strict=True)]
    assert bound[0] != bound[1]
    assert bound[0] == lineage.binding(roots[0], turns[0], None)
    # Which is what the worker compares.
    lines = [binding(CHAT, turn, functions=False) for turn in turns]
    assert lines[0] != lines[1]
