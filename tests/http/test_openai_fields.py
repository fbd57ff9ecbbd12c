"""The table of top-level fields, and what applying it does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.http.field_table import HARMLESS_BYTES, Use
from maxd.http.openai_fields import FIELDS as TABLE
from maxd.workers.faults import BadRequest

CANARY = "CANARY-4711"
FIELDS, apply = TABLE.fields, TABLE.apply


def applied(**fields: object) -> tuple[str, ...]:
    return apply(json.dumps(fields).encode())


def refused(body: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        apply(body)
    return caught.value


IGNORED = [
    "temperature", "top_p", "presence_penalty", "frequency_penalty",
    "seed", "user", "safety_identifier", "metadata", "store", "prompt_cache_key",
    "prompt_cache_retention", "service_tier", "prediction",
]  # fmt: skip


def test_the_fields_of_clients_that_break_on_a_refusal_are_accepted_and_named() -> None:
    assert [name for name, field in FIELDS.items() if field.use is Use.IGNORED] == IGNORED
    assert list(applied(**dict.fromkeys(reversed(IGNORED), 1))) == IGNORED


@pytest.mark.parametrize("value", [0, 1.5, "x", [], {}, False, [[[1]]], {"a": {"b": None}}])
@pytest.mark.parametrize("name", ["temperature", "metadata", "seed", "user"])
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
    assert refused(b'{"functions":' + value + b"}").param == "functions"


@pytest.mark.parametrize("name", IGNORED)
def test_strict_mode_refuses_what_would_have_no_effect(name: str) -> None:
    body = json.dumps({"messages": [], name: CANARY}).encode()
    assert apply(body) == (name,)
    with pytest.raises(BadRequest) as caught:
        apply(body, strict=True)
    assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")
    assert name in caught.value.message
    assert CANARY not in caught.value.message


def test_strict_mode_takes_what_has_an_effect_and_what_asks_for_nothing() -> None:
    fields = {"stop": "x", "tools": [], "n": 1, "logprobs": False, "seed": None}
    assert apply(json.dumps(fields).encode(), strict=True) == ()


def test_strict_mode_names_an_unknown_field() -> None:
    with pytest.raises(BadRequest) as caught:
        apply(b'{"temprature": 1}', strict=True)
    assert caught.value.param == "temprature"
    for strange in (f"{CANARY} `", "x" * 65, ""):
        with pytest.raises(BadRequest) as caught:
            apply(json.dumps({strange: 1}).encode(), strict=True)
        assert caught.value.param is None
        assert CANARY not in caught.value.message


@pytest.mark.parametrize("body", [b"[]", b"{", b"5"])
def test_strict_mode_refuses_what_is_no_object_as_ever(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        apply(body, strict=True)
    assert caught.value.message == refused(body).message


def test_of_doubled_keys_the_last_counts() -> None:
    assert apply(b'{"n":5,"n":1}') == ()
    assert refused(b'{"n":1,"n":5}').param == "n"


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"n":}', b'{"n":1}x', b"\xff"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    assert refused(body).status == 400


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
    head, rule, *rows = TABLE.markdown_table().splitlines()
    assert head == "| field | what becomes of it |"
    assert rule == "| --- | --- |"
    assert [row.split("`")[1] for row in rows] == list(FIELDS)
    assert all(row.count(" | ") == 1 and row.endswith(" |") for row in rows)
