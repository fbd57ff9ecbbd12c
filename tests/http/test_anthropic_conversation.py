"""From the messages of a Messages request to those of a Turn."""

from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.http.content import DATA_LIMIT, TEXT_LIMIT
from maxd.workers.faults import BadRequest, TooLarge
from maxd.workers.turn import (
    Document,
    Image,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from tests.http.messaging import (
    HI,
    PDF,
    PNG,
    assistant,
    call,
    document,
    image,
    read,
    refused,
    request,
    result,
    text,
    turn,
    user,
)
from tests.http.refusing import CANARY


def messages(*said: object, **fields: object) -> tuple[Message, ...]:
    return turn(*said, **fields).messages


def test_texts_as_they_are() -> None:
    found = messages(
        {"role": "user", "content": "one"},
        assistant(text("two")),
        user(text("three", cache_control={"type": "ephemeral"}), text("four")),
    )
    assert found == (
        Message("user", (Text("one"),)),
        Message("assistant", (Text("two"),)),
        Message("user", (Text("three"), Text("four"))),
    )


def test_blank_texts_say_nothing() -> None:
    found = messages(HI, assistant(text(" ")), user(text(""), text("x")))
    assert found == (Message("user", (Text("hi"),)), Message("user", (Text("x"),)))


def test_texts_of_an_answer_are_one() -> None:
    said = assistant(text("a"), text("b"), call("c1"), text("c"))
    answer = messages(HI, said, user(result("c1")))[1]
    assert answer.parts == (Text("ab"), ToolCall("c1", "weather", "{}"), Text("c"))


def test_system_messages() -> None:
    found = turn(
        {"role": "system", "content": "head"},
        HI,
        {"role": "system", "content": [text("later")]},
        assistant(text("a")),
        HI,
        system="first",
    )
    assert found.system == ("first", "head")
    assert [m.role for m in found.messages] == ["user", "user", "assistant", "user"]
    assert found.messages[1].parts == (Text("later"),)


def test_images_and_documents() -> None:
    (message,) = messages(
        user(
            image(),
            document(title="t"),
            {
                "type": "document",
                "context": "of 1999",
                "source": {"type": "text", "media_type": "text/plain", "data": "plain"},
            },
            {
                "type": "document",
                "title": "mixed",
                "source": {"type": "content", "content": [text("in it"), image()]},
            },
            {"type": "document", "source": {"type": "content", "content": "a string"}},
            {"type": "search_result", "title": "T", "source": "S", "content": [text("found")]},
        )
    )
    assert message.parts == (
        Image("image/png", PNG),
        Document("application/pdf", PDF, "t"),
        Text("of 1999"),
        Document("text/plain", "plain"),
        Text("mixed"),
        Text("in it"),
        Image("image/png", PNG),
        Text("a string"),
        Text("T\nS"),
        Text("found"),
    )


def test_citations_have_no_effect_and_are_named() -> None:
    found = read(request(user(document(citations={"enabled": True}))))
    assert found.ignored == ("messages.content.citations",)


@pytest.mark.parametrize(
    ("block", "param"),
    [
        (
            {"type": "image", "source": {"type": "url", "url": f"http://{CANARY}"}},
            "source.type",
        ),
        ({"type": "image", "source": {"type": "file", "file_id": CANARY}}, "source.type"),
        ({"type": "image"}, "source"),
        ({"type": "image", "source": "x"}, "source"),
        (image("image/svg+xml"), "source"),
        (image(data="a?b="), "source"),
        (image(data="abc"), "source"),
        (image(data=""), "source"),
        ({"type": "document", "source": {"type": "url", "url": CANARY}}, "source.type"),
        ({"type": "document", "source": {"type": "file", "file_id": CANARY}}, "source.type"),
        (
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "text/html", "data": PNG},
            },
            "source.media_type",
        ),
        (
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": PNG},
            },
            "source",
        ),
        ({"type": "container_upload", "file_id": "x"}, ""),
        ({"type": f"{CANARY} x"}, ""),
        ({"type": "text"}, "text"),
        ({"type": "text", "text": "a\0b"}, "text"),
        ({"type": "thinking", "thinking": "", "signature": ""}, ""),
        ({"type": "tool_use", "id": "1", "name": "f", "input": {}}, ""),
    ],
)
def test_content_of_the_user_that_is_refused(block: dict[str, Any], param: str) -> None:
    fault = refused(request(user(text("see"), block)))
    place = f"messages.0.content.1.{param}".rstrip(".")
    assert (fault.status, fault.param) == (400, place)


def test_no_nul_reaches_the_cli_in_a_name_or_an_id() -> None:
    for block in (
        {"type": "thinking", "thinking": "hm", "signature": "c2\0ln"},
        {"type": "tool_use", "id": "1\0", "name": "f", "input": {}},
        {"type": "tool_use", "id": "1", "name": "f\0", "input": {}},
    ):
        fault = refused(request(HI, assistant(block), HI))
        assert "NUL" in fault.message
        assert str(fault.param).startswith("messages.1.content.0.")


def test_an_unknown_type_is_named() -> None:
    assert "`hologram`" in refused(request(user({"type": "hologram"}))).message


def test_thinking_is_passed_back_unchanged() -> None:
    found = messages(
        HI,
        assistant({"type": "thinking", "thinking": "hm", "signature": "c2ln"}, text("a")),
        HI,
    )
    assert found[1].parts == (Thinking("hm", "c2ln"), Text("a"))


def test_what_the_services_own_tools_left_is_left_out_and_named() -> None:
    found = read(
        request(
            HI,
            assistant(
                {"type": "redacted_thinking", "data": CANARY},
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": "s",
                    "content": {"type": "web_search_tool_result_error", "error_code": "x"},
                },
                text("a"),
            ),
            HI,
        )
    )
    assert found.turn.messages[1].parts == (Text("a"),)
    assert found.ignored == (
        "messages.content.redacted_thinking",
        "messages.content.server_tool_use",
        "messages.content.web_search_tool_result",
    )


def test_results_are_a_message_of_their_own() -> None:
    found = messages(
        HI,
        assistant(text("Let me see."), call("c1", city="Bonn"), call("c2", city="Köln")),
        user(
            text("before"),
            result("c2", [text("rain"), image()], is_error=True),
            result("c1"),
            text("after"),
        ),
        user(text("and more")),
    )
    assert found[1].parts == (
        Text("Let me see."),
        ToolCall("c1", "weather", '{"city":"Bonn"}'),
        ToolCall("c2", "weather", '{"city":"K\\u00f6ln"}'),
    )
    assert found[2:] == (
        Message(
            "user",
            (
                ToolResult("c2", (Text("rain"), Image("image/png", PNG)), is_error=True),
                ToolResult("c1", (Text("sunny"),)),
            ),
        ),
        Message("user", (Text("before"), Text("after"))),
        Message("user", (Text("and more"),)),
    )


def test_results_of_one_round_may_come_in_several_messages() -> None:
    found = messages(
        HI,
        assistant(call("c1")),
        assistant(call("c2")),
        user(result("c1")),
        user(text("x"), result("c2")),
    )
    assert [len(message.parts) for message in found] == [1, 1, 1, 2, 1]


def test_a_result_may_be_empty() -> None:
    block = {"type": "tool_result", "tool_use_id": "c1"}
    assert messages(HI, assistant(call("c1")), user(block))[-1].parts == (ToolResult("c1", ()),)


@pytest.mark.parametrize(
    "said",
    [
        (user(result("c1")),),
        (HI, assistant(call("c1")), HI),
        (HI, assistant(call("c1"), call("c2")), user(result("c1"))),
        (HI, assistant(call("c1")), user(result("c1"), result("c1"))),
        (HI, assistant(call("c1")), user(result("c2"))),
        (HI, assistant(call("c1")), user(result("c1")), assistant(text("a")), user(result("c1"))),
        (HI, assistant(call("c1"), call("c1")), user(result("c1"))),
        (HI, assistant(call("c1")), user(result("c1")), assistant(call("c1")), user(result("c1"))),
        (HI, assistant({**call("c1"), "input": "x"}), user(result("c1"))),
        (HI, assistant({**call("c1"), "id": None}), user(result("c1"))),
        (HI, assistant(result("c1")), HI),
        (assistant(text("a")), HI),
        (HI, assistant(text("prefill"))),
        (HI, user()),
        (HI, {"role": "user", "content": " "}),
        (),
        ({"role": CANARY, "content": "x"},),
        ({"role": "user", "content": 1},),
        ({"role": "user"},),
    ],
)
def test_conversations_that_are_refused(said: tuple[object, ...]) -> None:
    fault = refused(request(*said))
    assert isinstance(fault, BadRequest)
    assert fault.param
    assert fault.param.startswith("messages")


def test_content_within_content_is_checked_at_its_place() -> None:
    for wrong in (1, [{"text": CANARY}], {"type": "text"}):
        fault = refused(request(HI, assistant(call("c1")), user(result("c1", wrong))))
        assert (fault.status, fault.param) == (400, "messages.2.content.0.content")
    url = {"type": "image", "source": {"type": "url", "url": CANARY}}
    fault = refused(request(HI, assistant(call("c1")), user(result("c1", [url]))))
    assert fault.param == "messages.2.content.0.content.0.source.type"


def test_a_named_conversation_may_go_on_with_results() -> None:
    found = read(request(user(result("c1"), text("and"))), continues=True).turn.messages
    assert found == (
        Message("user", (ToolResult("c1", (Text("sunny"),)),)),
        Message("user", (Text("and"),)),
    )
    # But only there.
    refused(
        request(HI, assistant(text("a")), user(result("c1"))),
        continues=True,
    )


def test_too_much_text() -> None:
    half = "x" * (TEXT_LIMIT // 2 + 1)
    assert isinstance(refused(request(user(text(half)), user(text(half)))), TooLarge)
    assert isinstance(refused(request(HI, system=half + half)), TooLarge)


def test_too_much_data() -> None:
    half = image(data="aGVs" * (DATA_LIMIT // 8 + 1))
    turn(user(half))
    said = (assistant(call("c1")), user(result("c1", [half])))
    assert isinstance(refused(request(user(half), *said)), TooLarge)


@pytest.mark.parametrize("content", ["", " ", [text("")], [], None])
def test_a_result_that_says_nothing(content: object) -> None:
    found = messages(HI, assistant(call("c1")), user(result("c1", content)))
    assert found[2].parts == (ToolResult("c1", ()),)


BLOCKS = st.one_of(
    st.builds(text, st.text(alphabet="ab \n", max_size=3)),
    st.builds(call, st.sampled_from(["c1", "c2"])),
    st.builds(result, st.sampled_from(["c1", "c2"])),
    st.just({"type": "thinking", "thinking": "t", "signature": "s"}),
    st.just(image()),
)
ANYHOW = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "system"]),
            "content": st.lists(BLOCKS, max_size=3),
        }
    ),
    max_size=6,
)


def exchange(calls: list[str], said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the assistant calls and says, and what it is given for it."""
    given = [result(each) for each in reversed(calls)]
    return [assistant(*said, *map(call, calls)), user(*given, *said)]


def exchanges(number: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    """With calls that have ids of their own, as in every conversation there is."""
    ids = st.sampled_from([f"a{number}", f"b{number}"])
    said = st.lists(st.just(text("t")), max_size=1)
    return st.builds(exchange, st.lists(ids, unique=True), said)


# Of what is put together anyhow, hardly anything is taken.
ORDERLY = st.tuples(*map(exchanges, range(3))).map(lambda made: [HI, *chain(*made), HI])


@given(ORDERLY | ANYHOW, st.booleans())
def test_what_is_taken_is_a_conversation_that_the_service_takes(
    said: list[dict[str, Any]], continues: bool
) -> None:
    try:
        found = read(request(*said), continues=continues).turn.messages
    except BadRequest:
        return
    assert found[-1].role == "user"
    calls: set[str] = set()
    for number, message in enumerate(found):
        assert message.parts
        results = {part.call_id for part in message.parts if isinstance(part, ToolResult)}
        if results:
            assert len(results) == len(message.parts)
            assert results == calls or (continues and number == 0)
            calls = set()
        elif message.role == "assistant":
            calls |= {part.id for part in message.parts if isinstance(part, ToolCall)}
        else:
            assert not calls
    assert not calls
