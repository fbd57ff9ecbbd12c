"""Messages with calls, results and files, inwards."""

import base64
import json
from typing import Any

import pytest

from maxd.http.call_pairs import NO_RESULT, ORPHAN
from maxd.http.content import DATA_LIMIT, TEXT_LIMIT
from maxd.http.openai_messages import NOT_AN_OBJECT
from maxd.http.wishes import Wishes
from maxd.workers.faults import TooLarge
from maxd.workers.turn import Document, Image, Message, Text, ToolCall, ToolResult
from tests.http.asking import (
    HI,
    PNG,
    assistant,
    content,
    find_model,
    image,
    part,
    refused,
    request,
    turn,
    user,
)
from tests.http.refusing import CANARY


def called(*calls: tuple[str, str, str | None], text: object = None) -> dict[str, object]:
    return {
        "role": "assistant",
        "content": text,
        "tool_calls": [
            {"id": i, "type": "function", "function": {"name": n, "arguments": a}}
            for i, n, a in calls
        ],
    }


def tool(call_id: str, told: object) -> dict[str, object]:
    return {"role": "tool", "tool_call_id": call_id, "content": told}


def data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def file(url: str, **fields: object) -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": url, **fields}}


def test_a_round_of_calls_and_its_results() -> None:
    made = turn(
        HI,
        called(("a", "f", '{"x": 1}'), ("b", "g", ""), text="Let me."),
        tool("b", [part("two"), image(PNG)]),
        tool("a", "one"),
        HI,
    ).messages
    assert made == (
        user("hi"),
        Message(
            "assistant", (Text("Let me."), ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", "{}"))
        ),
        Message(
            "user",
            (
                ToolResult("a", (Text("one"),)),
                ToolResult("b", (Text("two"), Image("image/png", "aGVsbG8="))),
            ),
        ),
        user("hi"),
    )


@pytest.mark.parametrize("text", [None, "", " ", [], [part("")]])
def test_calls_without_a_text(text: object) -> None:
    made = turn(HI, called(("a", "f", "{}"), text=text), tool("a", "one"))
    assert made.messages[1] == Message("assistant", (ToolCall("a", "f", "{}"),))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (None, {}),
        ("", {}),
        ("  ", {}),
        ("null", {NOT_AN_OBJECT: "null"}),
        ('{\n "x": 1.0\n}', {"x": 1.0}),
        ('{"x": ', {NOT_AN_OBJECT: '{"x": '}),
        ("[1]", {NOT_AN_OBJECT: "[1]"}),
        ('"{}"', {NOT_AN_OBJECT: '"{}"'}),
        ('{"x":"\\ud800"}', {NOT_AN_OBJECT: '{"x":"\\ud800"}'}),
        ("[" * 100_000, {NOT_AN_OBJECT: "[" * 100_000}),
    ],
)
def test_arguments_are_always_an_object(arguments: str | None, expected: object) -> None:
    call = turn(HI, called(("a", "f", arguments)), HI).messages[1].parts[0]
    assert isinstance(call, ToolCall)
    assert json.loads(call.arguments) == expected
    assert "\n" not in call.arguments


@pytest.mark.parametrize("told", [None, "", " ", [], [part("")]])
def test_a_function_that_returned_nothing(told: object) -> None:
    made = turn(HI, called(("a", "f", "{}")), tool("a", told)).messages
    assert made[2] == Message("user", (ToolResult("a", ()),))


def test_results_that_are_missing_or_nobody_asked_for() -> None:
    made = turn(HI, called(("a", "f", "{}")), tool("x", "found"), HI).messages
    missing = ToolResult("a", (Text(NO_RESULT),), is_error=True)
    assert made[2:] == (Message("user", (missing,)), user(ORPHAN, "found"), user("hi"))


def test_calls_nobody_answered_yet_are_not_the_question() -> None:
    assert refused(request(HI, called(("a", "f", "{}")))).param == "messages[1].role"


def test_results_alone_may_be_the_new_messages_of_a_named_conversation() -> None:
    from maxd.http.openai_chat import decode

    body = request(tool("a", "one"))
    made = decode(body, find_model, Wishes(partial=True)).turn.messages
    assert made == (Message("user", (ToolResult("a", (Text("one"),)),)),)
    assert decode(body, find_model).turn.messages == (user(ORPHAN, "one"),)


def test_earlier_thinking_is_taken_and_left_out() -> None:
    answer = {"role": "assistant", "content": "a", "reasoning_content": "hm", "reasoning": "hm"}
    assert turn(HI, answer, HI).messages[1] == assistant("a")


# Files


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (data("application/pdf", b"%PDF-2"), Document("application/pdf", "JVBERi0y", "a.txt")),
        (data("application/pdf;name=x.pdf", b"%PDF-2"),
         Document("application/pdf", "JVBERi0y", "a.txt")),
        (data("text/plain", "é\n".encode()), Document("text/plain", "é\n", "a.txt")),
        (data("text/markdown;charset=utf-8", b"# x"), Document("text/plain", "# x", "a.txt")),
        (data("TEXT/CSV", b"\xef\xbb\xbfa,b"), Document("text/plain", "a,b", "a.txt")),
        (data("application/json", b"{}"), Document("text/plain", "{}", "a.txt")),
        (PNG, Image("image/png", "aGVsbG8=")),
    ],
)  # fmt: skip
def test_a_file(url: str, expected: object) -> None:
    assert turn(content(file(url, filename="a.txt"))).messages[0].parts == (expected,)
    made = turn(HI, called(("a", "f", "{}")), tool("a", [file(url, filename="a.txt")]))
    assert made.messages[2].parts == (ToolResult("a", (expected,)),)  # type: ignore[arg-type]


def test_the_title_of_a_file() -> None:
    def title(name: object) -> str | None:
        (made,) = turn(content(file(data("text/plain", b"x"), filename=name))).messages[0].parts
        assert isinstance(made, Document)
        return made.title

    assert title(None) is None
    assert title(" ") is None
    assert title("x" * 9999) == "x" * 500


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "https://example.com/x.pdf", f"file:///{CANARY}",
        "data:application/pdf,x", "data:application/pdf;base64,",
        data("application/pdf", b"PK"), data("application/pdf", b"%PDF"),
        data("application/zip", b"PK"), data("audio/wav", b"x"), data("", b"x"),
        data("text/plain", b"\xff"), data("text/plain", b"a\0"), data("text/plain", b" \n"),
        data("text/plain;charset=latin-1", b"x"), "data:" + "x" * 2000 + ";base64,aaaa",
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused(url: str) -> None:
    fault = refused(request(content(part("x"), file(url))))
    assert (fault.status, fault.param) == (400, "messages[0].content[1].file.file_data")


def test_sizes_count_over_the_whole_request() -> None:
    big = "x" * (TEXT_LIMIT // 2)
    halves = [
        called(("a", "f", json.dumps({"x": big}))),
        tool("a", big),
    ]
    fault = refused(request(HI, *halves))
    assert isinstance(fault, TooLarge)
    fault = refused(request(content(file(data("text/plain", big.encode()))), tool("a", big + "x")))
    assert isinstance(fault, TooLarge)
    half = "data:image/png;base64," + "aGVs" * (DATA_LIMIT // 8 + 1)
    turn(content(image(half)))
    fault = refused(request(content(image(half)), tool("a", [image(half)])))
    assert (fault.status, fault.param) == (413, "messages")
    whole = "data:application/pdf;base64," + "aGVs" * (DATA_LIMIT // 4 + 1)
    assert refused(request(content(file(whole)))).status == 413
