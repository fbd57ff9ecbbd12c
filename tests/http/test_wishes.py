"""What a client may wish by headers of maxd's own."""

import pytest

from maxd.http.wishes import CONVERSATION, REASONING, STRICT, Wishes, wishes
from maxd.workers.faults import BadRequest


def wished(headers: dict[str, str] | None = None, *, strict: bool = False) -> Wishes:
    return wishes((headers or {}).get, strict=strict, thinking_profiles=("agent",))


def test_without_headers_the_settings_count() -> None:
    assert not wished().strict
    assert wished(strict=True).strict
    assert wished().shows_thinking("agent")
    assert not wished().shows_thinking("chat")
    assert not wished().partial


@pytest.mark.parametrize("value", ["true", "True", " 1 "])
def test_a_header_switches_on(value: str) -> None:
    assert wished({STRICT: value}).strict
    assert wished({REASONING: value}).shows_thinking("chat")


@pytest.mark.parametrize("value", ["false", "FALSE", "0"])
def test_a_header_switches_off(value: str) -> None:
    assert not wished({STRICT: value}, strict=True).strict
    assert not wished({REASONING: value}).shows_thinking("agent")


@pytest.mark.parametrize("name", [STRICT, REASONING])
@pytest.mark.parametrize("value", ["", "yes", "CANARY-4711", "\x00"])
def test_any_other_value_is_refused(name: str, value: str) -> None:
    with pytest.raises(BadRequest) as caught:
        wished({name: value})
    assert "CANARY" not in caught.value.message


def test_a_named_conversation_may_bring_its_new_messages_alone() -> None:
    assert wished({CONVERSATION: "x"}).partial
