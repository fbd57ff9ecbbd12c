"""The CLI's messages: what is understood, what is ignored, what breaks a worker, what is sent."""

import json
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.workers import blocks
from maxd.workers import messages as wire

GOOD: list[tuple[bytes, type]] = [
    (
        b'{"type":"control_response","response":{"subtype":"","request_id":"r"}}',
        wire.ControlResponse,
    ),
    (
        b'{"type":"control_request","request_id":"r","request":{"subtype":"hook_callback"}}',
        wire.ControlRequest,
    ),
    (b'{"type":"stream_event","event":{"type":"ping"}}', wire.StreamEvent),
    (b'{"type":"stream_event","event":{"type":"news","delta":{"type":"news"}}}', wire.StreamEvent),
    (b'{"type":"assistant","message":{"content":[{"type":"news","news":[]}]}}', wire.Assistant),
    (b'{"type":"assistant","message":{"content":"text"}}', wire.Assistant),
    (b'{"type":"system","subtype":"init","tools":[],"model":"m"}', wire.System),
    (b'{"type":"rate_limit_event","rate_limit_info":{"status":"allowed"}}', wire.RateLimitEvent),
    (b'{"is_error":false,"type":"result"}', wire.Result),
    (
        b'{"type":"result","is_error":true,"result":null,"usage":null,"stop_reason":null}',
        wire.Result,
    ),
    (b'{"type":"result","is_error":false,"usage":{"cache_read_input_tokens":null}}', wire.Result),
    (b'{"type":"result","is_error":false,"added":{"in":["a","later release"]}}', wire.Result),
    (b'{"type":"user","message":{"role":"user","content":[]}}', wire.Unknown),
    (b'{"type":"tool_progress","heartbeat":true}', wire.Unknown),
    (b'{"type":"","x":1e999,"y":' + b"9" * 5000 + b"}", wire.Unknown),
]


@pytest.mark.parametrize(("line", "kind"), GOOD)
def test_what_is_understood(line: bytes, kind: type) -> None:
    assert type(wire.decode(line)) is kind


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"Debugger attached.",
        b"null",
        b"1",
        b'"text"',
        b"[]",
        b"{}",
        b'{"type":null}',
        b'{"type":5}',
        b'{"type":["result"]}',
        b'{"kind":"result"}',
        b'{"type":"result","is_error":false',
        b'{"type":"result","is_error":false}}',
        b'{"type":"result","is_error":false} {"type":"result","is_error":false}',
        b"\xef\xbb\xbf" + b'{"type":"result","is_error":false}',
        b'{"type":"\xff"}',
        b'{"type":"news","type":"\xff"}',
        b'{"type":"result","is_error":false,"result":"\xff"}',
        b'{"type":"news","deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"deep":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b',"type":"result"}',
    ],
)
def test_what_is_no_message(line: bytes) -> None:
    with pytest.raises(wire.Garbage) as caught:
        wire.decode(line)
    assert not str(caught.value)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'{"type":"result"}', "result"),
        (b'{"type":"result","is_error":"no"}', "result"),
        (b'{"type":"result","is_error":false,"num_turns":"CANARY"}', "result"),
        (b'{"type":"control_request","request":{"subtype":"x"}}', "control_request"),
        (b'{"type":"control_request","request_id":1,"request":{}}', "control_request"),
        (b'{"type":"control_response","response":null}', "control_response"),
        (b'{"type":"stream_event"}', "stream_event"),
        (b'{"type":"stream_event","event":{"delta":{}}}', "stream_event"),
        (b'{"type":"stream_event","event":{"type":"","delta":{"text":{}}}}', "stream_event"),
        (b'{"type":"assistant","message":"CANARY"}', "assistant"),
        (b'{"type":"assistant","message":{"content":[{"text":"CANARY"}]}}', "assistant"),
    ],
)
def test_a_needed_message_of_an_unknown_shape_is_named_and_not_quoted(
    line: bytes, kind: str
) -> None:
    with pytest.raises(wire.BrokenMessage) as caught:
        wire.decode(line)
    assert str(caught.value) == kind
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"system"}',
        b'{"type":"system","subtype":7}',
        b'{"type":"system","subtype":"hook","attempt":"second","error_status":"EPIPE"}',
        b'{"type":"rate_limit_event"}',
        b'{"type":"rate_limit_event","rate_limit_info":{"status":null,"resetsAt":"soon"}}',
    ],
)
def test_what_only_informs_may_have_any_shape(line: bytes) -> None:
    assert isinstance(wire.decode(line), wire.Unknown)


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (rb"cut \ud83d", "cut \ufffd"),
        (rb"\udE00 cut", "\ufffd cut"),
        (rb"\uD83D\ud83d\ude00!", "\ufffd\U0001f600!"),
        (rb"\ude00\ud83d", "\ufffd\ufffd"),
        (rb"C:\\ud83d \n\"\ud83d\u00e9", 'C:\\ud83d \n"\ufffd\u00e9'),
    ],
)
def test_half_a_surrogate_pair_costs_one_character_and_no_message(
    escaped: bytes, text: str
) -> None:
    message = wire.decode(b'{"type":"result","is_error":false,"result":"' + escaped + b'"}')
    assert isinstance(message, wire.Result)
    assert message.result == text


@given(st.binary() | st.text().map(str.encode) | st.sampled_from([line for line, _ in GOOD]))
def test_decoding_ends_in_a_message_or_one_of_two_errors(line: bytes) -> None:
    try:
        message = wire.decode(line)
    except (wire.Garbage, wire.BrokenMessage):
        return
    assert isinstance(message, msgspec.Struct)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.sampled_from(sorted(wire.NEEDED)), st.dictionaries(st.text(), JSON))
def test_a_known_type_in_any_shape_never_escapes_as_another_error(
    kind: str, fields: dict[str, object]
) -> None:
    line = json.dumps(fields | {"type": kind}).encode()
    with suppress(wire.Garbage, wire.BrokenMessage):
        wire.decode(line)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_no_text_ends_a_line_early(text: str) -> None:
    data = wire.encode(wire.UserLine(wire.UserContent([blocks.TextBlock(text)])))
    assert data.count(b"\n") == 1
    assert data.endswith(b"\n")
    assert b"\r" not in data
    assert json.loads(data)["message"]["content"] == [{"type": "text", "text": text}]


TEXT = blocks.TextBlock("t")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            wire.UserLine(wire.UserContent([TEXT])),
            {
                "type": "user",
                "message": {"role": "user", "content": [{"type": "text", "text": "t"}]},
                "parent_tool_use_id": None,
            },
        ),
        (
            wire.UserLine(
                wire.UserContent([blocks.ImageBlock(blocks.Base64Source("image/png", "aGk="))]),
                should_query=False,
            ),
            {
                "type": "user",
                "message": {
                    "role": "user",
                    "content": [
                        {
                            "type": "image",
                            "source": {
                                "type": "base64",
                                "media_type": "image/png",
                                "data": "aGk=",
                            },
                        }
                    ],
                },
                "parent_tool_use_id": None,
                "shouldQuery": False,
            },
        ),
        (
            wire.AssistantLine(wire.AssistantContent("msg_1", "sonnet", [TEXT]), uuid="u"),
            {
                "type": "assistant",
                "message": {
                    "id": "msg_1",
                    "type": "message",
                    "role": "assistant",
                    "model": "sonnet",
                    "content": [{"type": "text", "text": "t"}],
                    "stop_reason": "end_turn",
                    "stop_sequence": None,
                    "usage": {"input_tokens": 0, "output_tokens": 0},
                },
                "uuid": "u",
                "session_id": "",
                "parent_tool_use_id": None,
            },
        ),
        (
            wire.AskLine("ready", wire.GetVersion()),
            {
                "type": "control_request",
                "request_id": "ready",
                "request": {"subtype": "get_binary_version"},
            },
        ),
        (
            wire.AskLine("models", wire.ListModels()),
            {
                "type": "control_request",
                "request_id": "models",
                "request": {"subtype": "list_models"},
            },
        ),
        (
            wire.AskLine("bind", wire.Initialize()),
            {
                "type": "control_request",
                "request_id": "bind",
                "request": {"subtype": "initialize"},
            },
        ),
        (
            wire.ReplyLine(wire.Granted("r", wire.Allow(msgspec.Raw(b'{"a":[1]}')))),
            {
                "type": "control_response",
                "response": {
                    "subtype": "success",
                    "request_id": "r",
                    "response": {"behavior": "allow", "updatedInput": {"a": [1]}},
                },
            },
        ),
        (
            wire.ReplyLine(wire.Granted("r", wire.Deny("no"))),
            {
                "type": "control_response",
                "response": {
                    "subtype": "success",
                    "request_id": "r",
                    "response": {"behavior": "deny", "message": "no"},
                },
            },
        ),
        (
            wire.ReplyLine(wire.Unsupported("r", "not supported")),
            {
                "type": "control_response",
                "response": {"subtype": "error", "request_id": "r", "error": "not supported"},
            },
        ),
    ],
)
def test_what_is_sent(message: wire.Outgoing, expected: object) -> None:
    assert json.loads(wire.encode(message)) == expected


def test_messages_are_sent_as_one_write_in_their_order() -> None:
    data = wire.encode(
        wire.AskLine("one", wire.GetVersion()), wire.AskLine("two", wire.ListModels())
    )
    assert [json.loads(line)["request_id"] for line in data.splitlines()] == ["one", "two"]
