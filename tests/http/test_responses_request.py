"""OpenAI Responses, inwards: what is understood."""

import json

import pytest

from maxd.http.responses_items import Item, page, read_items, restore, stored
from maxd.http.responses_request import parse
from maxd.http.responses_thinking import seal
from maxd.workers.turn import (
    Document,
    Function,
    Image,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from tests.http.responding import (
    CALLED,
    HI,
    PNG,
    answered,
    assistant,
    body,
    call,
    function,
    given_back,
    output,
    said,
    text,
    turn,
    turn_of,
    user,
)


def test_a_text_is_one_message() -> None:
    assert turn("hello") == Turn(profile="chat", model="sonnet", messages=(user("hello"),))


@pytest.mark.parametrize(
    ("items", "system", "expected"),
    [
        ([HI], (), [user("hi")]),
        ([said("user", text("a"), text(" "), text("b"))], (), [user("a", "b")]),
        ([{"role": "developer", "content": "d"}, HI], ("d",), [user("hi")]),
        ([{"role": "system", "content": "s"}], (), [user("s")]),
        ([HI, {"role": "system", "content": "s"}, HI], (), [user("hi"), user("s"), user("hi")]),
        ([HI, {"role": "assistant", "content": "a"}, HI], (),
         [user("hi"), assistant("a"), user("hi")]),
        ([HI, answered("a"), answered("b"), HI], (),
         [user("hi"), assistant("a", "b"), user("hi")]),
        ([HI, said("assistant", {"type": "refusal", "refusal": "no"}), HI], (),
         [user("hi"), assistant("no"), user("hi")]),
        # What the SDKs hand back of their own replies.
        ([HI, {**answered("a"), "id": "msg_1", "status": "completed", "phase": None}, HI], (),
         [user("hi"), assistant("a"), user("hi")]),
        ([HI, {"type": "web_search_call", "id": "ws_1", "status": "completed",
               "action": {"type": "search", "query": "q"}}, HI], (), [user("hi"), user("hi")]),
        ([HI, {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
          answered("a"), HI], (), [user("hi"), assistant("a"), user("hi")]),
        ([said("user", {"type": "input_image", "image_url": PNG, "detail": "auto"})], (),
         [Message("user", (Image("image/png", "aGVsbG8="),))]),
    ],
)  # fmt: skip
def test_items_are_messages(
    items: list[object], system: tuple[str, ...], expected: list[Message]
) -> None:
    found = turn(items)
    assert found.system == system
    assert list(found.messages) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("data:application/pdf;base64,JVBERi0x", Document("application/pdf", "JVBERi0x", "n")),
        ("JVBERi0x", Document("application/pdf", "JVBERi0x", "n")),
        ("data:text/markdown;charset=utf-8;base64,aGk=", Document("text/plain", "hi", "n")),
        ("aGk=", Document("text/plain", "hi", "n")),
    ],
)  # fmt: skip
def test_files_are_documents(data: str, expected: Document) -> None:
    part = {"type": "input_file", "filename": "n", "file_data": data}
    assert turn([said("user", part)]).messages == (Message("user", (expected,)),)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([HI, call(), output()],
         [user("hi"), Message("assistant", (CALLED,)), given_back("done")]),
        ([HI, answered("a"), call(), output(), HI],
         [user("hi"), Message("assistant", (Text("a"), CALLED)), given_back("done"), user("hi")]),
        # Two at once, their results together and in the order in which they came.
        ([HI, call(), call(call_id="call_2"), output("b", "call_2"), output("a")],
         [user("hi"), Message("assistant", (CALLED, ToolCall("call_2", "f", "{}"))),
          Message("user", (ToolResult("call_2", (Text("b"),)),
                           ToolResult("call_1", (Text("a"),))))]),
        # One after the other.
        ([HI, call(), output(), call(call_id="call_2"), output("b", "call_2")],
         [user("hi"), Message("assistant", (CALLED,)), given_back("done"),
          Message("assistant", (ToolCall("call_2", "f", "{}"),)),
          given_back("b", call_id="call_2")]),
        # A result belongs after its call, whatever was said in between.
        ([HI, call(), {"role": "user", "content": "wait"}, output()],
         [user("hi"), Message("assistant", (CALLED,)), given_back("done"), user("wait")]),
        ([HI, call(arguments=""), output("")],
         [user("hi"), Message("assistant", (CALLED,)), given_back()]),
        ([HI, call(), output([text("x"), {"type": "input_image", "image_url": PNG}])],
         [user("hi"), Message("assistant", (CALLED,)), Message("user", (ToolResult(
             "call_1", (Text("x"), Image("image/png", "aGVsbG8="))),))]),
    ],
)  # fmt: skip
def test_calls_and_their_outputs(items: list[object], expected: list[Message]) -> None:
    assert list(turn(items, tools=[function()]).messages) == expected


def test_an_output_alone_is_enough_for_a_named_conversation() -> None:
    assert turn_of(body([output()]), alone=True).messages == (given_back("done"),)


def test_thinking_that_was_ours_comes_back() -> None:
    item = {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": seal("hm", "sig")}
    (_, answer, _) = turn([HI, item, answered("a"), HI]).messages
    assert answer.parts == (Thinking("hm", "sig"), Text("a"))


def test_instructions_come_first() -> None:
    found = turn([{"role": "system", "content": "s"}, HI], instructions="i")
    assert found.system == ("i", "s")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"reasoning": {"effort": "high", "summary": "auto"}}, {"effort": "high"}),
        ({"reasoning": {"effort": "minimal"}}, {"effort": "low"}),
        ({"reasoning": None, "text": None, "tools": None, "metadata": None}, {}),
        ({"max_output_tokens": 50}, {"max_tokens": 50}),
        ({"parallel_tool_calls": False}, {"parallel_calls": False}),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"text": {"format": {"type": "json_object"}}}, {"schema": '{"type":"object"}'}),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}},
         {"schema": '{"type":"object"}'}),
        ({"tools": [{"type": "web_search"}], "model": "claude-sonnet-4"}, {"profile": "agent"}),
    ],
)  # fmt: skip
def test_what_else_is_asked_for(fields: dict[str, object], expected: dict[str, object]) -> None:
    found = turn("hi", **fields)
    base = {"profile": "chat", "model": "sonnet", "messages": (user("hi"),)}
    assert found == Turn(**{**base, **expected})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "name": "g"}, ToolChoice("required", ("g",))),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
         ToolChoice("auto", ("f",))),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, ToolChoice("none")),
    ],
)  # fmt: skip
def test_tools_and_their_choice(choice: object, expected: ToolChoice) -> None:
    tools = [
        function(description="d", strict=True),
        {"type": "function", "name": "g", "parameters": None},
    ]
    found = turn("hi", tools=tools, tool_choice=choice)
    assert found.functions == (
        Function("f", "d", '{"type":"object"}'),
        Function("g", "", '{"type":"object","properties":{}}'),
    )
    assert found.tool_choice == expected


def test_what_has_no_effect_is_named() -> None:
    asked = parse(
        body(
            temperature=1,
            user="u",
            background=False,
            text={"verbosity": "low"},
            reasoning={"mode": "pro"},
            tools=[{"type": "web_search_preview", "user_location": {"type": "approximate"}}],
        )
    )
    assert asked.ignored == (
        "temperature",
        "user",
        "tools.user_location",
        "text.verbosity",
        "reasoning.mode",
    )


def _items(data: object) -> list[Item]:
    return [item for item in parse(body(data)).resolve({})]


def test_what_is_stored_reads_as_what_was_sent() -> None:
    data = [{"role": "developer", "content": "d"}, HI, call(), output([text("x")])]
    items = _items(data)
    expected = turn(data).messages
    kept = stored(items, "resp_" + "0" * 40)
    history = restore(kept, json.dumps({"output": [answered("a")]}).encode())
    found = turn_of(body("next"), history)
    assert found.messages == (*expected, assistant("a"), user("next"))
    assert found.system == ("d",)
    for item in json.loads(kept):
        assert item["id"]
        assert item["status"] == "completed"
    assert json.loads(kept)[1]["content"] == [text("hi")]


def test_items_are_listed_in_pages() -> None:
    kept = stored(_items([HI, answered("a"), HI]), "resp_" + "0" * 40)
    everything, more = page(kept, after=None, limit=20, newest_first=False)
    assert ([each.id is not None for each in everything], more) == ([True] * 3, False)
    newest, more = page(kept, after=None, limit=1, newest_first=True)
    assert (newest[0].id, more) == (everything[-1].id, True)
    rest, more = page(kept, after=newest[0].id, limit=5, newest_first=True)
    assert ([each.id for each in rest], more) == ([everything[1].id, everything[0].id], False)
    assert page(kept, after="none", limit=5, newest_first=True) == ([], False)


def test_a_text_is_stored_as_a_message() -> None:
    items = read_items(parse(body("hi")).body.input, "input")
    assert len(items) == 1
