"""The table of top-level fields, and what applying it does."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.http.openai_fields import FIELDS, HARMLESS_BYTES, Use, apply, markdown_table
from maxd.workers.faults import BadRequest

CANARY = "CANARY-4711"


def applied(**fields: object) -> tuple[str, ...]:
    return apply(json.dumps(fields).encode())


def refused(body: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        apply(body)
    return caught.value


IGNORED = [
    "max_tokens", "max_completion_tokens", "stop", "reasoning_effort", "verbosity",
    "parallel_tool_calls", "temperature", "top_p", "presence_penalty", "frequency_penalty",
    "seed", "user", "safety_identifier", "metadata", "store", "prompt_cache_key",
    "prompt_cache_retention", "service_tier", "prediction",
]  # fmt: skip


def test_the_fields_of_clients_that_break_on_a_refusal_are_accepted_and_named() -> None:
    assert [name for name, field in FIELDS.items() if field.use is Use.IGNORED] == IGNORED
    assert list(applied(**dict.fromkeys(reversed(IGNORED), 1))) == IGNORED


@pytest.mark.parametrize("value", [0, 1.5, "x", [], {}, False, [[[1]]], {"a": {"b": None}}])
@pytest.mark.parametrize("name", ["temperature", "metadata", "stop", "user"])
def test_the_value_of_an_ignored_field_does_not_matter(name: str, value: object) -> None:
    assert applied(**{name: value}) == (name,)


@pytest.mark.parametrize("name", FIELDS)
def test_null_is_absent(name: str) -> None:
    assert applied(**{name: None}) == ()
    assert apply(f'{{"{name}" : \t null }}'.encode()) == ()


def test_unknown_fields_are_ignored() -> None:
    assert applied(enable_thinking=True, extra={"n": 7}, N=5) == ()
    assert apply(b'{"extra":' + b"9" * 5000 + b',"e":1e999}') == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 1),
        ("n", 1.0),
        ("response_format", {"type": "text"}),
        ("tools", []),
        ("tool_choice", "none"),
        ("tool_choice", "auto"),
        ("functions", []),
        ("function_call", "none"),
        ("logprobs", False),
        ("top_logprobs", 0),
        ("logit_bias", {}),
        ("modalities", ["text"]),
    ],
)
def test_a_value_that_asks_for_nothing_is_harmless(name: str, value: object) -> None:
    assert applied(**{name: value}) == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("n", 0),
        ("n", "1"),
        ("n", [1]),
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": CANARY}}),
        ("response_format", {"type": CANARY}),
        ("response_format", "text"),
        ("tools", [{"type": "function", "function": {"name": CANARY}}]),
        ("tools", CANARY),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": CANARY}}),
        ("functions", [{"name": CANARY}]),
        ("function_call", {"name": CANARY}),
        ("logprobs", True),
        ("top_logprobs", 5),
        ("logit_bias", {CANARY: -100}),
        ("audio", {"voice": CANARY}),
        ("modalities", ["text", "audio"]),
        ("web_search_options", {}),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(name: str, value: object) -> None:
    fault = refused(json.dumps({"temperature": 1, name: value}).encode())
    assert (fault.status, fault.param, fault.code) == (400, name, "unsupported_parameter")
    assert name in fault.message
    assert FIELDS[name].note in fault.message
    assert CANARY not in fault.message


@pytest.mark.parametrize(
    "value",
    [
        b"9" * 5000,
        b"1e999",
        b'"\xff"',
        b"[" + b" " * HARMLESS_BYTES + b"]",
        b"[" + b"[]," * 100_000 + b"[]]",
    ],
)
def test_a_value_that_cannot_be_read_or_is_too_long_is_refused_by_its_name(value: bytes) -> None:
    assert refused(b'{"tools":' + value + b"}").param == "tools"


def test_of_doubled_keys_the_last_counts() -> None:
    assert apply(b'{"n":5,"n":1}') == ()
    assert refused(b'{"n":1,"n":5}').param == "n"


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"n":}', b'{"n":1}x', b"\xff"])
def test_what_is_no_object_is_msgspecs_to_refuse(body: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        apply(body)


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), st.text() | st.integers() | st.none()))
def test_every_field_is_named_or_honoured_or_harmless(fields: dict[str, object]) -> None:
    try:
        ignored = applied(**fields)
    except BadRequest:
        param = refused(json.dumps(fields).encode()).param or ""
        assert FIELDS[param].use is Use.REFUSED
        assert fields[param] is not None
        return
    assert set(ignored) == {name for name in IGNORED if fields.get(name) is not None}


def test_the_table_for_people_has_one_row_for_each_field() -> None:
    head, rule, *rows = markdown_table().splitlines()
    assert head == "| field | what becomes of it |"
    assert rule == "| --- | --- |"
    assert [row.split("`")[1] for row in rows] == list(FIELDS)
    assert all(row.count(" | ") == 1 and row.endswith(" |") for row in rows)
