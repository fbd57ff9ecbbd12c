"""`tools`, `tool_choice` and `response_format`, inwards."""

import json
from typing import Any

import pytest

from maxd.http.client_functions import TOOLS_BYTES, TOOLS_LIMIT
from maxd.http.schemas import EMPTY
from maxd.workers.faults import TooLarge
from maxd.workers.turn import Function, ToolChoice, Turn
from tests.http.asking import HI, read, refused, request
from tests.http.refusing import CANARY

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def tool(name: object = "get_weather", **fields: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, **fields}}


def named(name: str) -> dict[str, object]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, object]:
    tools = [named(name) for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def turn(**fields: object) -> Turn:
    return read(request(HI, **fields)).turn


def test_functions_are_taken_as_they_are() -> None:
    tools = [
        tool(description="Tells the weather.", parameters=SCHEMA, strict=True),
        tool("a.b:c-d_9", parameters=None, description=None),
        {"function": {"name": "no_type"}},
        tool("x" * 64, parameters={}),
    ]
    assert turn(tools=tools).functions == (
        Function("get_weather", "Tells the weather.", json.dumps(SCHEMA, separators=(",", ":"))),
        Function("a.b:c-d_9", "", EMPTY),
        Function("no_type", "", EMPTY),
        Function("x" * 64, "", '{"type":"object"}'),
    )
    assert turn(tools=[]).functions == ()
    assert turn(tools=None).functions == ()


def test_a_schema_with_line_breaks_is_on_one_line() -> None:
    body = request(HI, tools=[tool(parameters=SCHEMA)])
    pretty = json.dumps(json.loads(body), indent=2).encode()
    assert read(pretty).turn == read(body).turn


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([tool(CANARY + "!")], "tools[0].function.name"),
        ([tool("")], "tools[0].function.name"),
        ([tool("x" * 65)], "tools[0].function.name"),
        ([tool("x\n")], "tools[0].function.name"),
        ([tool("ü")], "tools[0].function.name"),
        ([tool(5)], "tools[0].function.name"),
        ([{"type": "function", "function": {}}], "tools[0].function.name"),
        ([{"type": "function"}], "tools[0].function"),
        ([tool(), tool("b"), tool()], "tools[2].function.name"),
        ([{"type": "custom", "custom": {"name": CANARY}}], "tools[0].type"),
        ([{"type": CANARY}], "tools[0].type"),
        ([tool(), {"type": "web_search"}], "tools[1].type"),
        ([tool(description=[CANARY])], "tools[0].function.description"),
        ([tool(description="\0")], "tools[0].function.description"),
        ([tool(parameters=[CANARY])], "tools[0].function.parameters"),
        ([tool(parameters={"type": CANARY})], "tools[0].function.parameters"),
        ([tool(parameters={"properties": {CANARY: 5}})], "tools[0].function.parameters"),
        ([tool(f"f{n}") for n in range(TOOLS_LIMIT + 1)], "tools"),
    ],
)
def test_a_function_that_cannot_be_called_is_named(tools: object, param: str) -> None:
    fault = refused(request(HI, tools=tools))
    assert (fault.status, fault.param) == (400, param)


def test_sizes() -> None:
    assert len(turn(tools=[tool(f"f{n}") for n in range(TOOLS_LIMIT)]).functions) == TOOLS_LIMIT
    fault = refused(request(HI, tools=[tool(description="x" * TOOLS_BYTES)]))
    assert isinstance(fault, TooLarge)
    assert fault.param == "tools"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        (named("a"), ToolChoice("required", ("a",))),
        (allowed("auto", "a", "b", "a"), ToolChoice("auto", ("a", "b"))),
        (allowed("required", "b"), ToolChoice("required", ("b",))),
    ],
)
def test_what_may_or_must_be_called(asked: object, expected: ToolChoice) -> None:
    made = turn(tools=[tool("a"), tool("b")], tool_choice=asked)
    assert made.tool_choice == expected
    assert len(made.functions) == 2


@pytest.mark.parametrize("asked", ["none", "auto", None])
def test_without_functions_nothing_need_be_called(asked: object) -> None:
    assert turn(tool_choice=asked).functions == ()


@pytest.mark.parametrize(
    "asked",
    [
        named(CANARY),
        allowed("auto", "a", CANARY),
        allowed("auto"),
        CANARY,
        {"type": "custom", "custom": {"name": "a"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "custom"}]}},
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(asked: object) -> None:
    fault = refused(request(HI, tools=[tool("a")], tool_choice=asked))
    assert (fault.status, fault.param) == (400, "tool_choice")


@pytest.mark.parametrize("asked", ["required", named("a"), allowed("auto", "a")])
def test_a_choice_without_functions_is_refused(asked: object) -> None:
    assert refused(request(HI, tool_choice=asked)).param == "tool_choice"


def test_parallel_calls() -> None:
    assert turn().parallel_calls
    assert turn(parallel_tool_calls=True).parallel_calls
    assert not turn(parallel_tool_calls=False).parallel_calls


def answer_format(schema: object, **fields: object) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": schema, **fields}}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, '{"type":"object"}'),
        (answer_format(SCHEMA), json.dumps(SCHEMA, separators=(",", ":"))),
        (answer_format({}, strict=True, description="d"), '{"type":"object"}'),
        (answer_format({}, strict=None), '{"type":"object"}'),
    ],
)
def test_the_form_of_the_answer(asked: object, expected: str | None) -> None:
    assert turn(response_format=asked).schema == expected


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (answer_format([]), "response_format"),
        (answer_format({"type": "array"}), "response_format"),
        (answer_format({"properties": {CANARY: {"type": CANARY}}}), "response_format"),
        (answer_format(None), "response_format"),
        (answer_format({}, name=f"{CANARY} !"), "response_format.json_schema.name"),
        (answer_format({}, name=None), "response_format.json_schema.name"),
        ({"type": "json_schema", "json_schema": {"name": "x"}},
         "response_format.json_schema.schema"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "grammar"}, "response_format.type"),
        ({}, "response_format.type"),
    ],
)  # fmt: skip
def test_a_form_that_no_answer_can_have_is_refused(asked: object, param: str) -> None:
    fault = refused(request(HI, response_format=asked))
    assert (fault.status, fault.param) == (400, param)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, None), ("none", "none"), ("minimal", "low"), ("low", "low"), ("medium", "medium"),
        ("high", "high"), ("xhigh", "xhigh"), ("max", "max"),
    ],
)  # fmt: skip
def test_effort(asked: str | None, expected: str | None) -> None:
    assert turn(reasoning_effort=asked).effort == expected


def test_where_the_answer_ends() -> None:
    assert (turn().max_tokens, turn().stop) == (None, ())
    assert turn(max_tokens=16).max_tokens == 16
    assert turn(max_completion_tokens=16).max_tokens == 16
    assert turn(max_tokens=9, max_completion_tokens=16).max_tokens == 9
    assert turn(stop="\n").stop == ("\n",)
    assert turn(stop=["b", "a", "b"]).stop == ("b", "a")
    assert turn(stop=[]).stop == ()


def test_verbosity_is_asked_for_in_the_system_message() -> None:
    assert turn(verbosity="medium").system == turn().system == ()
    (low,), (high,) = turn(verbosity="low").system, turn(verbosity="high").system
    assert low != high
    told = read(request({"role": "system", "content": "s"}, HI, verbosity="low")).turn.system
    assert told == ("s", low)
