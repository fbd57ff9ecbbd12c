"""From the body of a Messages request to a Turn: its fields."""

import json
from typing import Any, get_type_hints

import pytest
from anthropic.types import message_create_params
from anthropic.types.beta import message_create_params as beta_params

from maxd.http.anthropic_fields import FIELDS
from maxd.http.client_functions import TOOLS_BYTES, TOOLS_LIMIT
from maxd.http.field_table import Use
from maxd.workers.faults import BadRequest, ModelNotFound
from maxd.workers.turn import Function, Message, Text, ToolChoice, Turn
from tests.http.messaging import (
    HI,
    SCHEMA,
    WEATHER,
    document,
    read,
    refused,
    request,
    text,
    turn,
)
from tests.http.refusing import CANARY


def test_the_least_request() -> None:
    found = read(request(HI))
    assert found.turn == Turn(
        profile="chat",
        model="sonnet",
        messages=(Message("user", (Text("hi"),)),),
        max_tokens=100,
    )
    assert (found.model_id, found.stream, found.thinking, found.ignored) == (
        "sonnet:chat",
        False,
        False,
        (),
    )


@pytest.mark.parametrize("module", [message_create_params, beta_params])
def test_every_field_that_the_sdk_can_send_is_in_the_table(module: Any) -> None:
    names = get_type_hints(module.MessageCreateParamsBase).keys() | {"stream", "output_format"}
    # A list of headers.
    assert names - {"betas"} <= FIELDS.fields.keys()


def test_ignored_fields_are_named() -> None:
    ignored = {name for name, field in FIELDS.fields.items() if field.use is Use.IGNORED}
    found = read(request(HI, **{name: {"a": 1} for name in ignored}, unheard_of=1))
    assert set(found.ignored) == ignored
    assert read(request(HI, **dict.fromkeys(ignored))).ignored == ()


@pytest.mark.parametrize(
    "field", [n for n, field in FIELDS.fields.items() if field.use is Use.REFUSED]
)
def test_refused_fields_are_refused_by_name(field: str) -> None:
    fault = refused(request(HI, **{field: {"id": CANARY}}))
    assert (fault.status, fault.param, fault.code) == (400, field, "unsupported_parameter")
    read(request(HI, **{field: None}))


def test_max_tokens_is_required_as_it_is_there_but_not_to_count() -> None:
    assert refused(request(HI, max_tokens=None)).param == "max_tokens"
    assert refused(request(HI, max_tokens=0)).param == "max_tokens"
    assert read(request(HI, max_tokens=None), counts=True).turn.max_tokens is None
    assert turn(HI, max_tokens=32_000).max_tokens == 32_000


def test_system_as_text_and_as_blocks() -> None:
    assert turn(HI, system="Be brief.").system == ("Be brief.",)
    blocks = [text("one", cache_control={"type": "ephemeral"}), text(" "), text("two")]
    assert turn(HI, system=blocks).system == ("one", "two")
    assert turn(HI, system="").system == ()
    assert refused(request(HI, system=[{"type": "image"}])).param == "system.0.type"


def test_stop_sequences() -> None:
    assert turn(HI, stop_sequences=["END", "\n\nHuman:", "END"]).stop == ("END", "\n\nHuman:")
    assert turn(HI, stop_sequences=[]).stop == ()
    assert refused(request(HI, stop_sequences=["a", " "])).param == "stop_sequences.1"
    many = [str(number) for number in range(257)]
    assert len(turn(HI, stop_sequences=many[1:]).stop) == 256
    assert refused(request(HI, stop_sequences=many)).param == "stop_sequences"


def test_unknown_model() -> None:
    assert isinstance(refused(request(HI, model=CANARY)), ModelNotFound)


@pytest.mark.parametrize("kind", [{}, {"type": "custom"}, {"type": None}])
def test_tools_are_functions_with_their_schema_verbatim(kind: dict[str, Any]) -> None:
    (function,) = turn(HI, tools=[{**WEATHER, **kind, "cache_control": {}}]).functions
    assert function == Function("weather", "d", function.parameters)
    assert json.loads(function.parameters) == SCHEMA
    (plain,) = turn(HI, tools=[{"name": "f", "input_schema": SCHEMA}]).functions
    assert plain.description == ""


def test_a_schema_never_has_a_line_break() -> None:
    body = request(HI, tools=[WEATHER]).replace(b'"properties"', b'\n\r\n"properties"')
    (function,) = read(body).turn.functions
    assert "\n" not in function.parameters
    assert json.loads(function.parameters) == SCHEMA


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "bash_20250124", "name": "bash"}, "tools.0.type"),
        ({"type": "code_execution_20250825", "name": "code_execution"}, "tools.0.type"),
        ({"type": "web_fetch_20250910", "name": "web_fetch"}, "tools.0.type"),
        ({"type": "mcp_toolset", "mcp_server_name": "x"}, "tools.0.type"),
        ({"type": CANARY, "name": "x"}, "tools.0.type"),
        ({"name": "a b", "input_schema": SCHEMA}, "tools.0.name"),
        ({"name": "a" * 129, "input_schema": SCHEMA}, "tools.0.name"),
        ({"input_schema": SCHEMA}, "tools.0.name"),
        ({"name": "f"}, "tools.0.input_schema"),
        ({"name": "f", "input_schema": {"type": "string"}}, "tools.0.input_schema"),
        ({"name": "f", "input_schema": 1}, "tools.0.input_schema"),
        ({"name": 1}, "tools.0.name"),
    ],
)
def test_tools_that_are_refused(tool: dict[str, Any], param: str) -> None:
    fault = refused(request(HI, tools=[tool]))
    assert (fault.status, fault.param) == (400, param)
    kind = tool.get("type")
    if isinstance(kind, str) and kind != CANARY:
        assert kind in fault.message


def test_tools_that_fill_any_window() -> None:
    fault = refused(request(HI, tools=[{**WEATHER, "description": "x" * TOOLS_BYTES}]))
    assert (fault.status, fault.param) == (413, "tools")
    tools = [{**WEATHER, "name": f"f{n}"} for n in range(TOOLS_LIMIT + 1)]
    assert refused(request(HI, tools=tools)).param == "tools"


def test_tool_names_are_unique() -> None:
    assert refused(request(HI, tools=[WEATHER, WEATHER])).param == "tools.1.name"


SEARCH = {"type": "web_search_20250305", "name": "web_search"}


def test_web_search_is_the_agents_own() -> None:
    found = read(request(HI, model="sonnet", tools=[{**SEARCH, "max_uses": 3}]))
    assert found.turn.functions == ()
    assert found.ignored == ("tools.max_uses",)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "sonnet:chat", "tools": [SEARCH]},
        {"model": "sonnet", "tools": [SEARCH, WEATHER]},
        {"model": "sonnet", "tools": [{**SEARCH, "allowed_domains": ["example.com"]}]},
        {"model": "sonnet", "tools": [{**SEARCH, "blocked_domains": ["example.com"]}]},
    ],
)
def test_web_search_that_cannot_be_had(fields: dict[str, Any]) -> None:
    assert refused(request(HI, **fields)).status == 400


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        (None, ToolChoice(), True),
        ({"type": "auto"}, ToolChoice(), True),
        ({"type": "any"}, ToolChoice("required"), True),
        ({"type": "tool", "name": "weather"}, ToolChoice("required", ("weather",)), True),
        ({"type": "none"}, ToolChoice("none"), True),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(), False),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required"), False),
    ],
)
def test_tool_choice(choice: object, expected: ToolChoice, parallel: bool) -> None:
    found = turn(HI, tools=[WEATHER], tool_choice=choice)
    assert (found.tool_choice, found.parallel_calls) == (expected, parallel)


@pytest.mark.parametrize(
    ("choice", "tools", "param"),
    [
        ({"type": "tool", "name": CANARY}, [WEATHER], "tool_choice.name"),
        ({"type": "tool"}, [WEATHER], "tool_choice.name"),
        ({"type": "any"}, [], "tool_choice"),
        ({"type": CANARY}, [WEATHER], "tool_choice.type"),
        ({"name": "weather"}, [WEATHER], "tool_choice.type"),
    ],
)
def test_tool_choice_that_is_refused(choice: object, tools: list[object], param: str) -> None:
    assert refused(request(HI, tools=tools, tool_choice=choice)).param == param


@pytest.mark.parametrize(
    ("fields", "effort", "thinking"),
    [
        ({}, None, False),
        ({"thinking": {"type": "disabled"}}, "none", False),
        ({"thinking": {"type": "adaptive"}}, None, True),
        ({"thinking": {"type": "between_tools"}}, None, True),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low", True),
        ({"thinking": {"type": "enabled", "budget_tokens": 10_000}}, "medium", True),
        ({"thinking": {"type": "enabled", "budget_tokens": 32_000}}, "high", True),
        ({"output_config": {"effort": "max"}}, "max", False),
        (
            {
                "output_config": {"effort": "xhigh"},
                "thinking": {"type": "enabled", "budget_tokens": 1024},
            },
            "xhigh",
            True,
        ),
        (
            {"output_config": {"effort": "xhigh"}, "thinking": {"type": "disabled"}},
            "none",
            False,
        ),
    ],
)
def test_thinking_and_effort(fields: dict[str, Any], effort: str | None, thinking: bool) -> None:
    found = read(request(HI, **fields))
    assert (found.turn.effort, found.thinking) == (effort, thinking)


def test_thinking_without_its_text() -> None:
    assert not read(request(HI, thinking={"type": "adaptive", "display": "omitted"})).thinking_text


@pytest.mark.parametrize(
    ("thinking", "param"),
    [
        ({"type": "enabled"}, "thinking.budget_tokens"),
        ({"type": "enabled", "budget_tokens": 1023}, "thinking.budget_tokens"),
        ({"type": CANARY}, "thinking.type"),
    ],
)
def test_thinking_that_is_refused(thinking: object, param: str) -> None:
    assert refused(request(HI, thinking=thinking)).param == param


@pytest.mark.parametrize("place", ["output_format", "output_config"])
def test_structured_output(place: str) -> None:
    wanted: dict[str, Any] = {"type": "json_schema", "schema": SCHEMA}
    fields = {place: wanted if place == "output_format" else {"format": wanted}}
    schema = turn(HI, **fields).schema
    assert schema is not None
    assert json.loads(schema) == SCHEMA


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"output_format": {"type": "text"}}, "output_format.type"),
        ({"output_format": {"type": "json_schema"}}, "output_format.schema"),
        ({"output_format": {"type": "json_schema", "schema": 1}}, "output_format.schema"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": []}}},
            "output_config.format.schema",
        ),
        (
            {
                "output_format": {"type": "json_schema", "schema": {}},
                "output_config": {"format": {"type": "json_schema", "schema": {}}},
            },
            "output_format",
        ),
        ({"output_config": {"effort": CANARY}}, "output_config.effort"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"stream": 1}, "stream"),
        ({"system": 1}, "system"),
    ],
)
def test_fields_of_a_wrong_shape(fields: dict[str, Any], param: str) -> None:
    fault = refused(request(HI, **fields))
    assert (fault.status, fault.param) == (400, param)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"model":',
        b'{"model":"sonnet:chat","max_tokens":1,"messages":[{"role":"user","content":"\\ud83d"}]}',
        b'{"model":"sonnet:chat","max_tokens":1,"messages":[{"role":"user","content":"\xff"}]}',
        b'{"model":"sonnet:chat","max_tokens":1,"messages":' + b"[" * 100_000,
        b'{"model":"sonnet:chat","max_tokens":1,"messages":[{"role":"user","content":"x"}],"tools":'
        b'[{"name":"f","input_schema":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}]}",
    ],
    ids=["empty", "list", "no fields", "cut", "surrogate", "latin", "deep", "deep schema"],
)
def test_bodies_that_are_none(body: bytes) -> None:
    assert isinstance(refused(body), BadRequest)


def test_no_nul_reaches_the_cli_in_a_description() -> None:
    fault = refused(request(HI, tools=[WEATHER | {"description": "a\0b"}]))
    assert fault.param == "tools.0.description"


def test_strict_mode_refuses_what_would_have_no_effect() -> None:
    read(request(HI, stop_sequences=["x"]), strict=True)
    for body, param in (
        (request(HI, top_k=1), "top_k"),
        (request(HI, unheard_of=1), "unheard_of"),
        (request(HI, **{f"{CANARY} ": 1}), None),
        (
            request({"role": "user", "content": [document(citations={})]}),
            "messages.content.citations",
        ),
    ):
        with pytest.raises(BadRequest) as caught:
            read(body, strict=True)
        assert caught.value.param == param


def test_a_header_may_ask_for_thinking_or_forbid_it() -> None:
    assert read(request(HI), thinking=True).thinking
    assert not read(request(HI, thinking={"type": "adaptive"}), thinking=False).thinking
