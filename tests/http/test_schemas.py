"""What a schema must be for the CLI and the model to take it."""

import json
from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from maxd.http.schemas import BadSchema, answer_schema, function_schema

CANARY = "CANARY-4711"
OBJECT = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


Make: TypeAlias = Callable[[Raw], str]


def raw(value: object, indent: int | None = None) -> Raw:
    return Raw(json.dumps(value, indent=indent).encode())


@pytest.mark.parametrize("make", [function_schema, answer_schema])
def test_a_schema_stays_as_it_is_on_one_line(make: Make) -> None:
    told = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **OBJECT,
        "patternProperties": {"^x-": {"type": ["string", "null"]}},
        "maxProperties": 10**18,
        "additionalProperties": False,
        "x-unknown": [CANARY],
    }
    text = make(raw(told, indent=2))
    assert text == json.dumps(told, separators=(",", ":"))
    assert list(json.loads(text)) == list(told)


@pytest.mark.parametrize("make", [function_schema, answer_schema])
def test_a_schema_without_a_type_is_that_of_an_object(make: Make) -> None:
    assert make(Raw(b"{ }")) == '{"type":"object"}'
    assert make(raw({"properties": {}})) == '{"type":"object","properties":{}}'


@pytest.mark.parametrize("make", [function_schema, answer_schema])
@pytest.mark.parametrize(
    "value",
    [
        b"[]",
        b"5",
        b'"CANARY-4711"',
        b"true",
        b'{"type":"string"}',
        b'{"type":["object","null"]}',
        b'{"type":null}',
        b'{"properties":[]}',
        b'{"required":"CANARY-4711"}',
        b'{"required":[1]}',
        b'{"title":"\\ud800"}',
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
)
def test_what_cannot_be_the_schema_of_an_object_is_refused(make: Make, value: bytes) -> None:
    with pytest.raises(BadSchema) as caught:
        make(Raw(value))
    assert CANARY not in str(caught.value)


def places(inner: object) -> list[object]:
    return [
        {"properties": {CANARY: {"anyOf": [inner]}}},
        {"properties": {"a": {"type": "array", "items": {"not": inner}}}},
        {"$defs": {"a": inner}},
    ]


@pytest.mark.parametrize("make", [function_schema, answer_schema])
@pytest.mark.parametrize(
    "inner",
    [
        5,
        {"type": CANARY},
        {"type": "float"},
        {"type": []},
        {"type": [5]},
        {"items": CANARY},
        {"items": [CANARY]},
        {"anyOf": []},
        {"oneOf": {CANARY: 1}},
        {"allOf": [{"type": "text"}]},
        {"enum": CANARY},
        {"required": True},
        {"$defs": []},
        {"not": 5},
        {"unevaluatedProperties": CANARY},
        {"items": [{}], "additionalItems": 5},
        {"dependencies": {"a": 5}},
        {"minLength": -1},
        {"maxItems": CANARY},
        {"maxItems": 1.5},
        {"minimum": CANARY},
        {"exclusiveMaximum": CANARY},
        {"multipleOf": 0},
        {"title": [CANARY]},
        {"description": 5},
        {"format": 5},
        {"pattern": 5},
        {"$ref": 5},
    ],
)
def test_what_is_no_schema_is_refused_at_any_depth(make: Make, inner: object) -> None:
    for value in places(inner):
        with pytest.raises(BadSchema) as caught:
            make(raw(value))
        assert CANARY not in str(caught.value)


def test_older_drafts_have_names_among_the_dependencies() -> None:
    told = {"type": "object", "dependencies": {"a": ["b"], "c": {"required": ["d"]}}}
    for make in (function_schema, answer_schema):
        assert json.loads(make(raw(told))) == told


@pytest.mark.parametrize(
    "inner",
    [
        {"enum": []},
        {"minimum": 5, "maximum": 4},
        {"minItems": 5, "maxItems": 4},
        {"$ref": f"#/$defs/{CANARY}"},
        {"$ref": "https://example.com/x.json"},
        # More digits than int() takes.
        {"anyOf": [{}], "$ref": "#/anyOf/" + "9" * 5000},
        {"anyOf": [{"$ref": "#/anyOf/" + "9" * 5000}]},
    ],
)
def test_a_form_that_no_answer_can_have_is_refused_at_any_depth(inner: object) -> None:
    for value in places(inner):
        with pytest.raises(BadSchema) as caught:
            answer_schema(raw(value))
        assert CANARY not in str(caught.value)
        # A function may have parameters that can never be given.
        function_schema(raw(value))


@pytest.mark.parametrize(
    "inner",
    [
        {},
        True,
        {"type": ["string", "null"], "minLength": 0, "maxLength": 3.0},
        {"enum": [None]},
        {"$ref": "#"},
        {"$ref": "#/$defs/a~1b%20c"},
        {"$ref": "#/prefixItems/1"},
        {"minimum": -(10**30), "maximum": 10**30},
        {"minimum": 1, "exclusiveMinimum": True},
        {"items": [{"type": "string"}]},
        {"const": {"type": CANARY}},
    ],
)
def test_what_json_schema_allows_is_taken(inner: object) -> None:
    told = {
        "properties": {"a": inner},
        "$defs": {"a/b c": {}},
        "prefixItems": [{}, {}],
    }
    assert json.loads(answer_schema(raw(told)))["properties"] == {"a": inner}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "properties", "required", "items", "anyOf", "$ref", "enum", "x"]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["type", "properties", "$defs", "items"]), JSON))
def test_anything_is_a_schema_or_refused(value: dict[str, object]) -> None:
    for make in (answer_schema, function_schema):
        try:
            text = make(raw(value))
        except BadSchema:
            continue
        assert json.loads(text) == {"type": "object"} | value
        assert "\n" not in text
