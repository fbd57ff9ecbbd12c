"""OpenAI chat completions, inwards: what is refused, and the field that is named.

No refusal may repeat anything of the request: each of them is looked through for a canary.
"""

import json
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.http.content import TEXT_LIMIT
from maxd.workers.faults import (
    BadRequest,
    Fault,
    ModelNotFound,
    TooLarge,
)
from maxd.workers.turn import (
    Image,
)
from tests.http.asking import (
    ANSWER,
    HI,
    PNG,
    SYSTEM,
    content,
    image,
    part,
    read,
    refused,
    request,
    turn,
    user,
)
from tests.http.refusing import CANARY


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": CANARY}, "messages"),
        ({"messages": {CANARY: 1}}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [CANARY]}, "messages[0]"),
        ({"messages": [None]}, "messages[0]"),
        ({"messages": [[HI]]}, "messages[0]"),
        ({"messages": [{}]}, "messages[0].role"),
        ({"messages": [{CANARY: CANARY}]}, "messages[0].role"),
        ({"messages": [{"role": None, "content": CANARY}]}, "messages[0].role"),
        ({"messages": [{"role": 5, "content": CANARY}]}, "messages[0].role"),
        ({"messages": [{"role": CANARY, "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": f"x - at `$.{CANARY}`", "content": ""}]}, "messages[0].role"),
        ({"messages": [HI, {"role": "User", "content": CANARY}]}, "messages[1].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": {CANARY: 1}}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "name": [CANARY]}]}, "messages[0].name"),
        ({"messages": [content(CANARY)]}, "messages[0].content[0]"),
        ({"messages": [content(None)]}, "messages[0].content[0]"),
        ({"messages": [content({"text": CANARY})]}, "messages[0].content[0].type"),
        ({"messages": [content({"type": CANARY})]}, "messages[0].content[0].type"),
        ({"messages": [content({"type": "text"})]}, "messages[0].content[0].text"),
        ({"messages": [content({"type": "text", "text": [CANARY]})]},
         "messages[0].content[0].text"),
        ({"messages": [content({"type": "image_url", "image_url": PNG})]},
         "messages[0].content[0].image_url"),
        ({"messages": [content(image(PNG), role="system"), HI]}, "messages[0].content[0].type"),
        ({"messages": [content(image(PNG), role="assistant"), HI]}, "messages[0].content[0].type"),
        ({"model": None}, "model"),
        ({"model": [CANARY]}, "model"),
        ({"stream": CANARY}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream_options": CANARY}, "stream_options"),
        ({"stream_options": {"include_usage": CANARY}}, "stream_options.include_usage"),
        ({"tools": [CANARY]}, "tools[0]"),
        ({"tools": CANARY}, "tools"),
        ({"tool_choice": CANARY}, "tool_choice"),
        ({"tool_choice": {"type": CANARY}}, "tool_choice.type"),
        ({"response_format": CANARY}, "response_format"),
        ({"response_format": {"type": CANARY}}, "response_format.type"),
        ({"parallel_tool_calls": CANARY}, "parallel_tool_calls"),
        ({"reasoning_effort": CANARY}, "reasoning_effort"),
        ({"verbosity": CANARY}, "verbosity"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": CANARY}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"stop": ""}, "stop"),
        ({"stop": [CANARY, ""]}, "stop[1]"),
        ({"stop": [CANARY] * 17}, "stop"),
        ({"stop": "x" * 257}, "stop"),
        ({"stop": {CANARY: 1}}, "stop"),
        ({"messages": [{"role": "tool", "content": CANARY}, HI]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": CANARY}, HI]},
         "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": CANARY}]}, HI]},
         "messages[0].tool_calls[0].function"),
        ({"messages": [content({"type": "file", "file": {"filename": CANARY}})]},
         "messages[0].content[0].file.file_data"),
        ({"n": 2}, "n"),
    ],
)  # fmt: skip
def test_what_has_the_wrong_type_is_named(fields: dict[str, object], param: str) -> None:
    fault = refused(request(**{"messages": [HI], **fields}))
    assert isinstance(fault, BadRequest)
    assert (fault.status, fault.param) == (400, param)
    assert param in fault.message


@pytest.mark.parametrize("missing", ["messages", "model"])
def test_a_missing_field_is_named(missing: str) -> None:
    body = json.loads(request(HI))
    del body[missing]
    assert refused(json.dumps(body).encode()).param == missing


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "function", "name": CANARY, "content": CANARY}, HI], "messages[0].role"),
        ([{"role": "assistant", "function_call": {"name": CANARY}}, HI],
         "messages[0].function_call"),
        ([{"role": "assistant", "audio": {"id": CANARY}}, HI], "messages[0].audio"),
        ([content({"type": "file", "file": {"file_id": CANARY}})],
         "messages[0].content[0].file.file_id"),
        ([content({"type": "video_url", "video_url": {"url": CANARY}})], "messages[0].content[0]"),
        ([HI, {"role": "tool", "tool_call_id": "x", "content": [{"type": "input_audio"}]}],
         "messages[1].content[0]"),
        ([content(part("x"), {"type": "input_audio", "input_audio": {"data": CANARY}})],
         "messages[0].content[1]"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named(messages: list[object], param: str) -> None:
    fault = refused(request(*messages))
    assert (fault.status, fault.param, fault.code) == (400, param, "unsupported_value")


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "user", "content": ""}], "messages[0].content"),
        ([{"role": "user", "content": " \n\t\u3000"}], "messages[0].content"),
        ([HI, content()], "messages[1].content"),
        ([HI, content(part(""), part(" "))], "messages[1].content"),
        ([SYSTEM, {"role": "system", "content": ""}], "messages[1].content"),
        ([HI, {"role": "assistant", "content": None}], "messages[1].content"),
        ([HI, ANSWER], "messages[1].role"),
        ([ANSWER], "messages[0].role"),
    ],
)
def test_the_last_message_must_ask_something(messages: list[object], param: str) -> None:
    fault = refused(request(*messages))
    assert (fault.status, fault.param) == (400, param)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": f"{CANARY}\0"}, "messages[0].content"),
        (content(part("x"), part("\0")), "messages[0].content[1]"),
        ({"role": "user", "content": "x", "name": f"{CANARY}\0"}, "messages[0].name"),
        ({"role": "assistant", "refusal": "\0"}, "messages[0].refusal"),
        ({"role": "tool", "tool_call_id": "\0", "content": "x"}, "messages[0].tool_call_id"),
        ({"role": "tool", "tool_call_id": "x", "content": "\0"}, "messages[0].content"),
        (
            {"role": "assistant", "tool_calls": [{"id": "\0", "function": {"name": "x"}}]},
            "messages[0].tool_calls[0].id",
        ),
    ],
)
def test_nul_is_refused(message: dict[str, object], param: str) -> None:
    assert refused(request(message, HI)).param == param


OF_IMAGES = {"invalid_image_url", "unsupported_image_media_type", "invalid_base64_image"}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "data:",
        "data:image/png",
        "data:image/png;base64",
        "data:image/png,hello",
        "data:image/png;base64,",
        "data:image/png;base64,aGVsbG8",
        "data:image/png;base64,aGVs bG8=",
        "data:image/png;base64,aGVsb\nG8=",
        "data:image/png;base64,a=VsbG8=",
        "data:image/png;base64,____",
        "data:image/png;base64,aGVsbG8\u3042",
        "data:image/png;base64,\0\0\0\0",
        "data:;base64,aGVsbG8=",
        "data:image/svg+xml;base64,aGVsbG8=",
        "data:text/html;base64,aGVsbG8=",
        "data:image/png;charset=x;base64,aGVsbG8=",
        f"data:{CANARY};base64,aGVsbG8=",
        f"https://example.com/{CANARY}.png",
        f"http://169.254.169.254/{CANARY}",
        f"file:///etc/{CANARY}",
        f"/etc/{CANARY}",
        f"blob:{CANARY}",
        f" data:image/png;base64,{CANARY}",
    ],
)
def test_an_image_that_is_not_base64_data_of_a_known_type_is_refused(url: str) -> None:
    fault = refused(request(content(part("x"), image(url))))
    assert (fault.status, fault.param) == (400, "messages[0].content[1].image_url.url")
    assert fault.code in OF_IMAGES


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://example.com/x.png", "invalid_image_url"),
        ("data:image/bmp;base64,aGVsbG8=", "unsupported_image_media_type"),
        ("data:image/png;base64,aGVsbG8", "invalid_base64_image"),
    ],
)
def test_what_is_wrong_with_an_image_is_told_by_openais_own_code(url: str, code: str) -> None:
    assert refused(request(content(image(url)))).code == code


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"not json",
        b"{'a':1}",
        request(HI)[:-1],
        request(HI) + b",",
        request(HI) + request(HI),
        b"\xef\xbb\xbf" + request(HI),
        request(HI).decode().encode("utf-16"),
        b'{"model":"\xff"}',
        request(HI)[:-1] + b',"tools":[{"type":"function","function":{"name":"\xff"}}]}',
        request(HI).replace(b'"hi"', b'"\xc3"'),
        request(HI).replace(b'"hi"', b'"\xed\xa0\x80"'),
        request(HI).replace(b'"hi"', rb'"\ud800"'),
        request(HI).replace(b'"hi"', rb'"\udc00\ud800"'),
        request(HI).replace(b'"hi"', rb'"\u12"'),
        request(HI).replace(b'"hi"', b'"a\nb"'),
        request(HI, x=float("nan")),
        b"\0",
    ],
)
def test_what_is_no_json_in_utf8_is_refused(body: bytes) -> None:
    fault = refused(body)
    assert (fault.status, fault.code, fault.param) == (400, "invalid_json", None)


@pytest.mark.parametrize("body", [b"[]", b"null", b"true", b"5", b'"CANARY-4711"', b"[{}]"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    fault = refused(body)
    assert (fault.status, fault.param) == (400, None)
    assert "object" in fault.message


def nested(open_: bytes, close: bytes) -> bytes:
    return open_ * 100_000 + b"1" + close * 100_000


@pytest.mark.parametrize("deep", [nested(b"[", b"]"), nested(b'{"a":', b"}"), b"[" * 100_000])
@pytest.mark.parametrize("place", [b'"x"', b'"tools"', b'"temperature"', b'"messages"'])
def test_deep_json_is_refused(place: bytes, deep: bytes) -> None:
    assert refused(b"{" + place + b":" + deep + b"}").status == 400
    assert refused(deep).status == 400
    inner = b'{"role":"assistant","tool_calls":' + deep + b"}"
    assert refused(b'{"model":"m","messages":[' + inner + b"]}").status == 400


def test_of_doubled_keys_the_last_counts() -> None:
    body = request(HI)[:-1] + b',"messages":[{"role":"user","role":"user","content":"last"}]}'
    assert read(body).turn.messages == (user("last"),)


def test_huge_numbers_harm_nobody() -> None:
    huge = b"9" * 5000
    assert read(request(HI)[:-1] + b',"seed":' + huge + b',"x":-1e999}').ignored == ("seed",)
    assert refused(request(HI)[:-1] + b',"n":' + huge + b"}").param == "n"
    assert refused(request(HI)[:-1] + b',"stream":' + huge + b"}").param == "stream"


def test_a_model_that_does_not_exist_is_the_finders_to_refuse() -> None:
    fault = refused(request(HI, model="gpt-4o"))
    assert isinstance(fault, ModelNotFound)
    assert (fault.status, fault.param) == (404, "model")


# Sizes


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "x" * 20_000_000}],
        [{"role": "user", "content": "x" * (TEXT_LIMIT // 4)} for _ in range(5)],
        [{"role": "system", "content": "x" * (TEXT_LIMIT + 1)}, HI],
        [{"role": "user", "content": "x", "name": "x" * TEXT_LIMIT}],
    ],
)
def test_more_text_than_any_window_holds_is_too_large(messages: list[object]) -> None:
    fault = refused(request(*messages))
    assert isinstance(fault, TooLarge)
    assert (fault.status, fault.param) == (413, "messages")


def test_images_do_not_count_as_text() -> None:
    url = "data:image/png;base64," + "aGVs" * (TEXT_LIMIT // 2)
    (message,) = turn(content(image(url))).messages
    assert isinstance(message.parts[0], Image)


@pytest.mark.parametrize(
    "body",
    [
        b'{"tools":[' + b"[]," * 1_000_000 + b"[]]}",
        b"{" + b'"a":1,' * 500_000 + b'"b":1}',
        b'{"metadata":[' + b"1," * 1_500_000 + b"1]}",
        b'{"model":"m","messages":[{"role":"assistant","tool_calls":['
        + b"1," * 1_500_000
        + b"1]}]}",
    ],
)
def test_a_wide_body_costs_little_more_memory_than_it_is_long(body: bytes) -> None:
    tracemalloc.start()
    try:
        refused(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(body)


def test_many_messages_take_time_linear_in_their_number() -> None:
    def seconds(count: int) -> float:
        body = request(*[HI] * count)
        begun = time.process_time()
        assert len(read(body).turn.messages) == count
        return time.process_time() - begun

    seconds(1000)
    assert seconds(64_000) < 200 * max(seconds(2000), 0.001)


# Whatever is sent


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.just(CANARY),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["role", "content", "type", "text", "url", "tool_calls", CANARY]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
# Or half of what is tried would not get past its first field.
GOOD = st.sampled_from(
    [HI, {"role": "system", "content": "s"}, {"role": "assistant", "content": "a"}]
)
ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool", "function", CANARY])


@given(
    st.lists(GOOD, max_size=4).map(lambda messages: [*messages, HI])
    | st.lists(GOOD | JSON | st.fixed_dictionaries({"role": ROLES, "content": JSON}), max_size=4),
    st.just({})
    | st.dictionaries(
        st.sampled_from(["stream", "n", "tools", "stream_options", "stop", CANARY]),
        JSON,
        max_size=3,
    ),
)
def test_a_request_becomes_a_turn_or_a_fault_that_quotes_nothing(
    messages: list[object], fields: dict[str, object]
) -> None:
    body = request(*messages, **fields)
    try:
        chat = read(body)
    except Fault:
        assert 400 <= refused(body).status < 500
        return
    assert chat.turn.messages[-1].role == "user"
    assert all(message.parts for message in chat.turn.messages)


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_a_turn_or_a_fault(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read(body)
