"""What a request may hold after a reset."""

from collections.abc import Collection
from typing import Any

import pytest

from maxd.workers.leaks import CRUMBS, Leak, additions, check_request, holds
from maxd.workers.loopback import Request
from maxd.workers.turn import Message, Text

SYSTEM = "Be brief."
REMINDER = "<system-reminder>\nThe environment is large.\n</system-reminder>"
ASKED = (
    Message("user", (Text("one"),)),
    Message("assistant", (Text("two"),)),
    Message("user", (Text("/three"), Text("four"))),
)


def block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def request(**changes: Any) -> Request:
    """A good request for ASKED, with `changes` to its body."""
    body: dict[str, Any] = {
        "model": "sonnet",
        "system": [block("billing"), block(SYSTEM)],
        "messages": [
            {"role": "user", "content": [block(REMINDER), block("<command-name>"), block("one")]},
            {"role": "assistant", "content": "two"},
            {"role": "system", "content": "Today is a day."},
            {"role": "user", "content": [block("/three"), block("four")]},
        ],
        "tools": [],
    }
    return Request(path="/v1/messages", headers={}, body=body | changes)


def check(checked: Request, usual: Collection[str] = ()) -> None:
    check_request(checked, SYSTEM, ASKED, ["canary"], usual)


def messages(*pairs: tuple[str, list[Any]]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in pairs]


def test_the_conversation_and_little_more() -> None:
    check(request())
    check(request(tools=None, metadata={"user_id": "opaque"}))


GOOD: list[dict[str, Any]] = request().body["messages"]
BAD: dict[str, dict[str, Any]] = {
    "canary in the system": {"system": [block(SYSTEM), block("canary")]},
    "canary in the metadata": {"metadata": {"user_id": '{"last": "a canary"}'}},
    "canary in a message": {"messages": [*GOOD[:-1], {**GOOD[-1], "note": "canary"}]},
    "tools": {"tools": [{"name": "Bash"}]},
    "no system": {"system": []},
    "another system": {"system": [block(SYSTEM + " ")]},
    "a message too few": {"messages": GOOD[:2]},
    "a message too many": {"messages": [*GOOD, {"role": "assistant", "content": "five"}]},
    "roles": {"messages": messages(*[("user", [block(t)]) for t in ("one", "two", "/three")])},
    "merged": {"messages": messages(("user", [block("one"), block("two"), block("/three")]))},
    "text": {"messages": [*GOOD[:-1], {"role": "user", "content": "/three\nfour"}]},
    "order": {"messages": [*GOOD[:-1], *messages(("user", [block("four"), block("/three")]))]},
    "a picture": {"messages": [*GOOD[:-1], {"role": "user", "content": [{"type": "image"}]}]},
    "long": {"system": [block(SYSTEM), block("x" * (CRUMBS + 1))]},
    "long lines": {"system": [block(SYSTEM), block("\n".join(map(str, range(1000))))]},
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_everything_else_is_a_leak(name: str) -> None:
    with pytest.raises(Leak) as caught:
        check(request(**BAD[name]))
    assert "canary" not in str(caught.value)


def test_what_was_usual_before_the_reset_does_not_count() -> None:
    """Also where the CLI puts the same lines together in another way."""
    long = "x" * (CRUMBS + 1)
    first = request(system=[block(SYSTEM), block(f"{REMINDER}\n\n  {long}\nmore")])
    usual = additions(first, SYSTEM, ASKED)
    second = request(system=[block(SYSTEM), block(f"more\n{long}")])
    check(second, usual)
    with pytest.raises(Leak):
        check(second, usual - {long})


def test_words_are_found_anywhere() -> None:
    found = Request(path="/v1?canary", headers={}, body={"messages": []})
    assert holds(found, ["other", "canary"])
    assert holds(Request(path="/", headers={"x": "a canary"}, body={}), ["canary"])
    assert not holds(request(), ["canary"])
