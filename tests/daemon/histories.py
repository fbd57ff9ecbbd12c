"""Conversations to compare: written by a test, drawn by hypothesis, or as plain values."""

from collections.abc import Sequence

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from maxd.workers.turn import Document, Image, Message, Part, Text, ToolCall, ToolResult, Turn

SCOPE = "5f0c"
PIXEL = "iVBORw0KGgo="

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


BASE = turn(user("one", "two"), user(Image("image/png", PIXEL)), assistant("three"), user("four"))
