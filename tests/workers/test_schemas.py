"""Clients' schemas as the CLI's validators take them."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.workers.schemas import answer_schema, function_schema, javascript


def within(schema: object) -> str:
    return json.dumps({"type": "object", "properties": {"q": {"items": schema}}})


def inner(text: str) -> Any:
    return json.loads(text)["properties"]["q"]["items"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "description": "d", "minLength": 1},
        {"type": ["string", "null"], "enum": ["a", None], "default": "a"},
        {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]},
        {"type": "integer", "exclusiveMinimum": 5, "maximum": 10**30},
        {"type": "string", "pattern": r"^\d{3}-[\w\-.]+$"},
        {"type": "string", "nullable": True},
        True,
    ],
)
def test_what_both_take_stays_to_the_letter(schema: object) -> None:
    text = f" {within(schema)} "
    assert answer_schema(text) == text
    assert function_schema(text) == text


@pytest.mark.parametrize(
    ("schema", "answer", "function"),
    [
        ({"x-foo": 1, "example": 2, "type": "string"}, {"type": "string"}, None),
        ({"oneOf": [{}], "discriminator": {"propertyName": "k"}}, {"oneOf": [{}]}, None),
        ({"prefixItems": [{"x": 1}], "items": False},
         {"items": [{}], "additionalItems": False}, None),
        ({"prefixItems": [{}]}, {"items": [{}]}, None),
        ({"items": [{}], "additionalItems": False}, None,
         {"prefixItems": [{}], "items": False}),
        ({"items": {}, "additionalItems": False}, {"items": {}}, None),
        ({"minimum": 1, "exclusiveMinimum": True}, {"exclusiveMinimum": 1},
         {"exclusiveMinimum": 1}),
        ({"maximum": 1, "exclusiveMaximum": False}, {"maximum": 1}, {"maximum": 1}),
        ({"required": ["a", "a"], "enum": [1, True, 1]}, {"required": ["a"], "enum": [1, True]},
         {"required": ["a"], "enum": [1, True]}),
        ({"dependentRequired": {"a": ["b"]}}, {"dependencies": {"a": ["b"]}}, None),
        ({"then": {}}, {}, None),
        ({"if": {}}, {}, None),
        ({"if": {}, "then": {"x": 1}}, {"if": {}, "then": {}}, None),
        ({"nullable": True}, {}, None),
        ({"unevaluatedProperties": False, "minContains": 1, "$anchor": "a"}, {}, None),
        ({"pattern": "(?i)x", "description": "A name."},
         {"description": "A name.\nIt must match the regular expression (?i)x"}, None),
        ({"format": "date-time"}, {"description": "Its format is date-time."}, None),
        ({"pattern": r"a\-b"}, {"pattern": "a-b"}, None),
    ],
)  # fmt: skip
def test_what_one_does_not_take_is_translated_or_left_out(
    schema: object, answer: object, function: object
) -> None:
    text = within(schema)
    assert inner(answer_schema(text)) == (schema if answer is None else answer)
    assert inner(function_schema(text)) == (schema if function is None else function)


def test_the_name_of_the_draft_is_left_out_of_an_answers_schema() -> None:
    text = '{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"}'
    assert answer_schema(text) == '{"type":"object"}'
    assert function_schema(text) == text


def test_names_of_properties_are_no_keywords() -> None:
    text = json.dumps(
        {"type": "object", "properties": {"x-foo": {"x": 1}, "pattern": {"items": {}}}}
    )
    assert json.loads(answer_schema(text))["properties"] == {
        "x-foo": {},
        "pattern": {"items": {}},
    }


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"^\d{3,}$", r"^\d{3,}$"),
        (r"^[\w\-]+\-\.\@$", r"^[\w\-]+-\.@$"),
        (r"[\_\/\]]", r"[_\/\]]"),
        (r"\A(?P<year>\d+)\Z", r"^(\d+)$"),
        (r"(?<year>\d+)", r"(\d+)"),
        (r"^(?!a)(?:b|c)(?<=d)e*?$", r"^(?!a)(?:b|c)(?<=d)e*?$"),
        (r"^\p{L}+$", r"^\p{L}+$"),
        (r"é\s", r"é\s"),
        ("", ""),
        (r"(?i)a", None),
        (r"(?P=year)", None),
        (r"a++", None),
        (r"a{", None),
        (r"]", None),
        (r"[", None),
        (r"(", None),
        (r"[]a]", None),
        (r"[z-a]", None),
        (r"\e", None),
        (r"\x41", None),
        ("\\", None),
    ],
)
def test_patterns(pattern: str, expected: str | None) -> None:
    assert javascript(pattern) == expected


@given(st.text(alphabet=r"ab1-\\[](){}?*+^$.|:<P>=!dpx", max_size=12))
def test_any_pattern_is_translated_or_not(pattern: str) -> None:
    made = javascript(pattern)
    if made is not None and "\\p{" not in made.lower():
        re.compile(made)
        assert javascript(made) == made


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda each: st.lists(each, max_size=3)
    | st.dictionaries(
        st.sampled_from(["items", "prefixItems", "required", "enum", "pattern", "if", "then",
                         "properties", "anyOf", "minimum", "exclusiveMinimum", "x"]),
        each, max_size=4,
    ),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["properties", "items", "x", "allOf"]), JSON))
def test_any_object_is_taken_and_taken_again(schema: dict[str, object]) -> None:
    for change in (answer_schema, function_schema):
        text = change(json.dumps(schema))
        assert json.loads(change(text)) == json.loads(text)
