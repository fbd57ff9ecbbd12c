"""OpenAI Responses, inwards: what is refused, and the field that is named."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.http.client_functions import TOOLS_BYTES, TOOLS_LIMIT
from maxd.http.content import DATA_LIMIT, TEXT_LIMIT
from maxd.http.responses_fields import FIELDS
from maxd.http.responses_request import parse
from maxd.workers.faults import BadRequest, Fault, TooLarge
from tests.http.refusing import CANARY
from tests.http.responding import (
    HI,
    MODEL,
    PNG,
    answered,
    body,
    call,
    function,
    output,
    refused,
    said,
    text,
    turn_of,
)

FORMAT = {"type": "json_schema", "name": "n"}


@pytest.mark.parametrize(
    ("given_input", "param"),
    [
        (None, "input"),
        ([], "input"),
        ("", "input.content"),
        (5, "input"),
        ({CANARY: 1}, "input"),
        ([None], "input[0]"),
        ([CANARY], "input[0]"),
        ([{}], "input[0].type"),
        ([{"type": CANARY}], "input[0].type"),
        ([{"type": "computer_call"}], "input[0].type"),
        ([{"type": 5}], "input[0].type"),
        ([{"role": CANARY, "content": "x"}], "input[0].role"),
        ([{"role": "tool", "content": "x"}], "input[0].role"),
        ([{"role": "user"}], "input[0].content"),
        ([{"role": "user", "content": 5}], "input[0].content"),
        ([HI, {"role": "user", "content": " "}], "input[1].content"),
        ([said("user", {"type": CANARY})], "input[0].content[0].type"),
        ([said("user", {"type": "input_text"})], "input[0].content[0].text"),
        ([said("user", {"type": "input_audio"})], "input[0].content[0]"),
        ([said("user", {"type": "input_image"})], "input[0].content[0].image_url"),
        ([said("user", {"type": "input_image", "file_id": CANARY})],
         "input[0].content[0].file_id"),
        ([said("user", {"type": "input_image", "image_url": "https://x/"})],
         "input[0].content[0].image_url"),
        ([said("user", {"type": "input_image", "image_url": "data:image/bmp;base64,aGk="})],
         "input[0].content[0].image_url"),
        ([said("user", {"type": "input_file", "file_url": "https://x/"})],
         "input[0].content[0].file_url"),
        ([said("user", {"type": "input_file", "file_data": "%"})],
         "input[0].content[0].file_data"),
        ([said("user", {"type": "input_file", "file_data": "/w=="})],
         "input[0].content[0].file_data"),
        ([said("user", {"type": "input_file", "file_data": "data:video/mp4;base64,aGk="})],
         "input[0].content[0].file_data"),
        ([said("user", {"type": "input_file", "file_data": "data:application/pdf;base64,aGk="})],
         "input[0].content[0].file_data"),
        ([said("assistant", {"type": "input_image", "image_url": PNG}), HI],
         "input[0].content[0]"),
        ([said("user", text(f"\0{CANARY}"))], "input[0].content[0]"),
        ([HI, answered("a")], "input"),
        ([{"type": "item_reference", "id": CANARY}], "input[0].id"),
        ([HI, call()], "input[1]"),
        ([HI, call(), HI], "input[1]"),
        ([HI, output()], "input[1].call_id"),
        ([HI, call(), output(), output()], "input[3].call_id"),
        ([HI, call(), output(), call(), output()], "input[3].call_id"),
        ([HI, call(call_id=""), output(call_id="")], "input[1].call_id"),
        ([HI, call(name="a b"), output()], "input[1].name"),
        ([HI, call(arguments="[]"), output()], "input[1].arguments"),
        ([HI, call(arguments=CANARY), output()], "input[1].arguments"),
        ([HI, call(), output(5)], "input[2].output"),
        ([HI, call(), output([{"type": CANARY}])], "input[2].output[0].type"),
    ],
)  # fmt: skip
def test_input(given_input: object, param: str) -> None:
    fault = refused(body(given_input))
    assert fault.param == param
    assert fault.status == (404 if "item_reference" in str(given_input) else 400)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": CANARY}, "model"),
        ({"instructions": [CANARY]}, "instructions"),
        ({"instructions": "\0"}, "instructions"),
        ({"stream": 1}, "stream"),
        ({"store": CANARY}, "store"),
        ({"previous_response_id": 5}, "previous_response_id"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": CANARY}, "max_output_tokens"),
        ({"metadata": {"a": 5}}, "metadata[...]"),
        ({"metadata": {"a": CANARY * 99}}, "metadata[...]"),
        ({"metadata": {CANARY * 99: "a"}}, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"background": True}, "background"),
        ({"conversation": CANARY}, "conversation"),
        ({"prompt": {"id": CANARY}}, "prompt"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"reasoning": {"effort": CANARY}}, "reasoning.effort"),
        ({"reasoning": {"summary": CANARY}}, "reasoning.summary"),
        ({"text": {"format": {"type": CANARY}}}, "text.format.type"),
        ({"text": {"format": FORMAT}}, "text.format.schema"),
        ({"text": {"format": {**FORMAT, "schema": CANARY}}}, "text.format.schema"),
        ({"tools": CANARY}, "tools"),
        ({"tools": [CANARY]}, "tools[0]"),
        ({"tools": [{"type": CANARY}]}, "tools[0].type"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools[0].type"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [function("a b")]}, "tools[0].name"),
        ({"tools": [function(), function()]}, "tools[1].name"),
        ({"tools": [function(parameters=CANARY)]}, "tools[0].parameters"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "web_search"}, function()], "model": "claude-sonnet-4"}, "tools"),
        ({"tools": [{"type": "web_search", "filters": {"allowed_domains": [CANARY]}}]},
         "tools[0].filters"),
        ({"tool_choice": CANARY}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": CANARY}, "tools": [function()]},
         "tool_choice.name"),
        ({"tool_choice": {"type": "function"}, "tools": [function()]}, "tool_choice.name"),
        ({"tool_choice": {"type": "web_search_preview"}, "tools": [function()]},
         "tool_choice.type"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "x"}}, "tool_choice.mode"),
    ],
)  # fmt: skip
def test_fields(fields: dict[str, object], param: str) -> None:
    fault = refused(body(**fields))
    assert fault.param == param
    assert fault.status == (404 if fault.code == "model_not_found" else 400)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_p": 1}, "top_p"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"tools": [{"type": "web_search", "user_location": {}}]}, "tools.user_location"),
        ({"unheard_of": 1}, "unheard_of"),
        ({f"{CANARY} ": 1}, None),
    ],
)
def test_strict_mode_refuses_what_would_have_no_effect(
    fields: dict[str, object], param: str | None
) -> None:
    parse(body(**fields))
    with pytest.raises(BadRequest) as caught:
        parse(body(**fields), strict=True)
    assert (caught.value.param, caught.value.code) == (param, "unsupported_parameter")
    assert CANARY not in caught.value.message


def test_a_hosted_tool_is_refused_by_its_name() -> None:
    fault = refused(body(tools=[{"type": "file_search", "vector_store_ids": []}]))
    assert "file_search" in fault.message


def test_too_much_text_is_refused() -> None:
    half = "x" * (TEXT_LIMIT // 2 + 1)
    with pytest.raises(TooLarge):
        turn_of(body([{"role": "user", "content": half}] * 2))


def test_functions_that_fill_any_window_are_refused() -> None:
    fault = refused(body(tools=[function(description="x" * TOOLS_BYTES)]))
    assert (fault.status, fault.param) == (413, "tools")
    fault = refused(body(tools=[function(f"f{n}") for n in range(TOOLS_LIMIT + 1)]))
    assert (fault.status, fault.param) == (400, "tools")


def test_too_much_data_is_refused() -> None:
    half = {"type": "input_image", "image_url": PNG[:-8] + "aGVs" * (DATA_LIMIT // 8 + 1)}
    turn_of(body([said("user", half)]))
    fault = refused(body([said("user", half), call(), output([half])]))
    assert (fault.status, fault.param) == (413, "input")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"input":"\xff"}',
        b'{"input":"\\ud83d"}',
        b'{"model":"sonnet","input":"hi","tools":[{"type":"function","name":"f","x":"\xff"}]}',
        b"[" * 9999,
    ],
)
def test_what_is_no_object(data: bytes) -> None:
    assert refused(data).status == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", CANARY, "user"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "text", "output", "call_id", "name", "id"]),
            inner | st.sampled_from(["message", "function_call", "input_text", "input_image"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


def is_named_or_understood(data: bytes) -> bool:
    try:
        turn_of(data)
    except Fault as fault:
        return bool(fault.param) and fault.status in (400, 404)
    return True


@given(JSON)
def test_any_input_is_understood_or_refused_by_name(value: object) -> None:
    assert is_named_or_understood(body(value))


@given(st.dictionaries(st.sampled_from(sorted(FIELDS.fields)), JSON))
def test_any_fields_are_understood_or_refused_by_name(fields: dict[str, object]) -> None:
    asked = {"model": MODEL, "input": "hi", **fields}
    assert is_named_or_understood(json.dumps(asked).encode())
