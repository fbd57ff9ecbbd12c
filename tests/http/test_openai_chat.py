"""OpenAI chat completions, inwards: what is understood."""

import pytest

from maxd.workers.turn import (
    Image,
    Message,
    Text,
    Turn,
)
from tests.http.asking import (
    ANSWER,
    DEVELOPER,
    HI,
    PNG,
    SYSTEM,
    assistant,
    content,
    image,
    part,
    read,
    request,
    turn,
    user,
)


@pytest.mark.parametrize(
    ("fields", "stream", "include_usage", "ignored"),
    [
        ({}, False, False, ()),
        ({"stream": None, "stream_options": None}, False, False, ()),
        ({"stream": True}, True, False, ()),
        ({"stream": True, "stream_options": {}}, True, False, ()),
        ({"stream": True, "stream_options": {"include_usage": None}}, True, False, ()),
        ({"stream": True, "stream_options": {"include_usage": True, "x": 1}}, True, True, ()),
        ({"stream": False, "seed": 7, "top_p": 1, "x": 1}, False, False, ("top_p", "seed")),
        ({"temperature": None, "n": 1, "tools": []}, False, False, ()),
    ],
)
def test_how_the_client_wants_its_reply(
    fields: dict[str, object], stream: bool, include_usage: bool, ignored: tuple[str, ...]
) -> None:
    chat = read(request(HI, **fields))
    assert chat.stream is stream
    assert chat.include_usage is include_usage
    assert chat.ignored == ignored
    assert chat.model_id == "claude-sonnet-4:chat"
    assert chat.turn == Turn(profile="chat", model="sonnet", messages=(user("hi"),))


@pytest.mark.parametrize(
    ("messages", "system", "expected"),
    [
        ([SYSTEM, HI], ("s",), (user("hi"),)),
        ([SYSTEM, DEVELOPER, SYSTEM, HI], ("s", "d", "s"), (user("hi"),)),
        ([content(part("a"), part("b"), role="system"), HI], ("a", "b"), (user("hi"),)),
        # A system message further on keeps its place.
        ([HI, SYSTEM, HI], (), (user("hi"), user("s"), user("hi"))),
        ([SYSTEM, HI, ANSWER, DEVELOPER, HI], ("s",),
         (user("hi"), assistant("a"), user("d"), user("hi"))),
        # The last message is what is answered, whoever's it is.
        ([SYSTEM], (), (user("s"),)),
        ([SYSTEM, SYSTEM], ("s",), (user("s"),)),
        ([SYSTEM, HI, SYSTEM], ("s",), (user("hi"), user("s"))),
        # The same role twice, and an answer before any question.
        ([HI, HI], (), (user("hi"), user("hi"))),
        ([HI, ANSWER, ANSWER, HI], (), (user("hi"), assistant("a"), assistant("a"), user("hi"))),
        ([ANSWER, HI], (), (assistant("a"), user("hi"))),
        # Blank texts say nothing.
        ([{"role": "system", "content": " \n"}, HI], (), (user("hi"),)),
        ([{"role": "user", "content": ""}, HI], (), (user("hi"),)),
        ([HI, {"role": "assistant", "content": "\t"}, HI], (), (user("hi"), user("hi"))),
        ([content(part(" "), part("x"), part(""))], (), (user("x"),)),
        ([content(), HI], (), (user("hi"),)),
    ],
)  # fmt: skip
def test_system_texts_at_the_head_are_the_prompt_and_all_else_stays_in_order(
    messages: list[object], system: tuple[str, ...], expected: tuple[Message, ...]
) -> None:
    assert turn(*messages).system == system
    assert turn(*messages).messages == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "user", "content": " x \n"}, user(" x \n")),
        ({"role": "user", "content": "\U0001f600\u2028\u202e/help"},
         user("\U0001f600\u2028\u202e/help")),
        ({"role": "user", "content": "x", "name": "Ann"}, user("Ann: x")),
        ({"role": "user", "content": "x", "name": ""}, user("x")),
        ({"role": "user", "content": "x", "name": None}, user("x")),
        ({"role": "user", "content": "x", "unknown": {"a": 1}}, user("x")),
        ({**content(part(" "), part("x"), part("y")), "name": "Ann"}, user("Ann: x", "y")),
        ({"role": "developer", "content": "x", "name": "Ann"}, user("Ann: x")),
        (content(image(PNG)), Message("user", (Image("image/png", "aGVsbG8="),))),
        (content(image(PNG, detail="low"), part("x")),
         Message("user", (Image("image/png", "aGVsbG8="), Text("x")))),
    ],
)  # fmt: skip
def test_a_message_is_taken_as_it_is(message: dict[str, object], expected: Message) -> None:
    assert turn(message).messages == (expected,)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": "x"}, [assistant("x")]),
        ({"content": None}, []),
        ({}, []),
        ({"content": [part("x"), {"type": "refusal", "refusal": "no"}]}, [assistant("x", "no")]),
        ({"content": None, "refusal": "no"}, [assistant("no")]),
        # What the SDKs send back of their own replies.
        ({"content": "x", "refusal": None, "audio": None, "function_call": None,
          "tool_calls": None, "annotations": [], "reasoning_content": "hm"}, [assistant("x")]),
        ({"content": "x", "tool_calls": []}, [assistant("x")]),
    ],
)  # fmt: skip
def test_an_earlier_answer(message: dict[str, object], expected: list[Message]) -> None:
    told = turn(HI, {"role": "assistant", **message}, HI).messages
    assert list(told) == [user("hi"), *expected, user("hi")]


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "PNG"])
def test_images_of_the_services_types_are_taken(kind: str) -> None:
    (message,) = turn(content(image(f"data:image/{kind};base64,aGk+/w=="))).messages
    assert message.parts == (Image(f"image/{kind.lower()}", "aGk+/w=="),)
