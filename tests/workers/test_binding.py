"""Binding: the system prompt in the profile's way, and the history in the order the CLI needs."""

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from maxd.workers import messages as wire
from maxd.workers.binding import binding, import_groups, safe_id
from maxd.workers.functions import Names
from maxd.workers.profiles import AGENT, CHAT, Profile
from maxd.workers.turn import Image, Message, Part, Text, ToolCall, ToolResult, Turn


def user(*parts: Part | str) -> Message:
    return Message("user", tuple(Text(part) if isinstance(part, str) else part for part in parts))


def assistant(text: str) -> Message:
    return Message("assistant", (Text(text),))


def turn(*messages: Message) -> Turn:
    return Turn(profile="chat", model="sonnet", messages=messages)


def groups(*messages: Message, names: Iterable[str] = ()) -> list[list[dict[str, Any]]]:
    return [
        [json.loads(line) for line in group.splitlines()]
        for group in import_groups(messages, "sonnet", Names(names))
    ]


@pytest.mark.parametrize(
    ("profile", "system", "expected"),
    [
        (CHAT, (), {"systemPrompt": []}),
        (CHAT, ("a",), {"systemPrompt": ["a"]}),
        (CHAT, ("a", "b"), {"systemPrompt": ["a", "b"]}),
        (AGENT, (), {}),
        (AGENT, ("a",), {"appendSystemPrompt": "a"}),
        (AGENT, ("a", "b"), {"appendSystemPrompt": "a\n\nb"}),
    ],
)
def test_the_system_texts_replace_or_append(
    profile: Profile, system: tuple[str, ...], expected: dict[str, object]
) -> None:
    asked = Turn(profile=profile.name, model="m", messages=(user("u"),), system=system)
    assert json.loads(msgspec.json.encode(binding(profile, asked, functions=False))) == {
        "subtype": "initialize",
        **expected,
    }


U, A = user("u"), assistant("a")


@pytest.mark.parametrize(
    ("messages", "shape"),
    [
        ((U,), ["U?"]),
        ((U, U), ["U", "U?"]),
        ((A, U), ["AU?"]),
        ((U, A, U), ["U", "AU?"]),
        ((U, A, A, U), ["U", "AAU?"]),
        ((U, U, A, U, A, U), ["U", "U", "AU", "AU?"]),
        ((A, A, U, U), ["AAU", "U?"]),
    ],
)
def test_each_write_ends_in_the_one_user_message_whose_result_is_awaited(
    messages: tuple[Message, ...], shape: list[str]
) -> None:
    """`?` marks the only message that is to be answered."""

    def letter(line: dict[str, Any]) -> str:
        if line["type"] == "assistant":
            return "A"
        return "U" if line.get("shouldQuery") is False else "U?"

    assert ["".join(map(letter, group)) for group in groups(*messages)] == shape


def test_contents_go_in_as_they_are() -> None:
    image = Image("image/png", "aGk=")
    ((first,), (second, third)) = groups(user("one", image), assistant("two"), user("three"))
    assert first["message"]["content"][:-1] == [
        {"type": "text", "text": "one"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
    ]
    assert second["message"]["content"] == [{"type": "text", "text": "two"}]
    assert second["message"]["model"] == "sonnet"
    assert third["message"]["content"][0] == {"type": "text", "text": "three"}


def test_earlier_answers_get_ids_of_their_own() -> None:
    ((first, second, _),) = groups(assistant("same"), assistant("same"), user("u"))
    assert first["uuid"] != second["uuid"]
    assert first["message"]["id"] != second["message"]["id"]


@pytest.mark.parametrize("text", ["/help me", "/", "read @/etc/passwd", "@./x", "!ls", "plain"])
@pytest.mark.parametrize("image", [(), (Image("image/png", "aGk="),)])
def test_no_text_of_a_user_is_a_command_or_names_a_file_of_this_machine(
    text: str, image: tuple[Image, ...]
) -> None:
    """The CLI looks for both in the last text block, in imported messages too."""
    for group in groups(user(text, *image), user(*image, text)):
        content = group[-1]["message"]["content"]
        assert content[-1] == {"type": "text", "text": ""}
        assert {"type": "text", "text": text} in content[:-1]


def test_no_json_of_a_clients_ends_a_line_early() -> None:
    called = ToolCall("a", "f", '{\n "a": 1,\r\n "b": "x\\ny"}')
    history = user("one"), Message("assistant", (called,)), user("two")
    written = b"".join(import_groups(history, "sonnet", Names(["f"])))
    lines = [json.loads(line) for line in written.splitlines()]
    assert len(lines) == 3
    assert lines[1]["message"]["content"][0]["input"] == {"a": 1, "b": "x\ny"}
    asked = replace(turn(user("one")), schema='{\n "type": "object"\r}')
    bound = wire.encode(wire.AskLine("bind", binding(CHAT, asked, functions=False)))
    assert len(bound.splitlines()) == 1


def test_ids_of_calls_that_differ_stay_apart() -> None:
    """Clients make ids of their own, and the API takes letters, digits, `_` and `-`."""
    ids = ["a_b", "a.b", "a:b", "a b", "", "_", ".", "é", "\ud800", "call_1", "toolu_01-x"]
    safe = [safe_id(each) for each in ids]
    assert len(set(safe)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", each) for each in safe)
    assert [safe_id(each) for each in ("a_b", "call_1", "toolu_01-x")] == [
        "a_b",
        "call_1",
        "toolu_01-x",
    ], "what the API takes is left as it is"


def test_a_result_goes_to_the_call_it_is_of() -> None:
    calls = Message("assistant", (ToolCall("a.b", "f", "{}"), ToolCall("a_b", "f", "{}")))
    results = user(ToolResult("a.b", (Text("dot"),)), ToolResult("a_b", (Text("line"),)))
    ((_,), (called, answered)) = groups(user("go"), calls, results, names=["f"])
    asked = [block["id"] for block in called["message"]["content"]]
    assert len(set(asked)) == 2
    content = answered["message"]["content"]
    assert [block["tool_use_id"] for block in content if block["type"] == "tool_result"] == asked
