"""Bodies of Responses requests, and what becomes of them."""

import json
from collections.abc import Sequence
from typing import Any

from maxd.http.responses_items import Item
from maxd.http.responses_request import make_turn, parse
from maxd.workers.faults import Fault, ModelNotFound
from maxd.workers.turn import Message, Text, ToolCall, ToolResult, Turn
from tests.http.refusing import refusal

PNG = "data:image/png;base64,aGVsbG8="
MODEL = "claude-sonnet-4:chat"


def find_model(model_id: str) -> tuple[str, str]:
    profile = {"claude-sonnet-4:chat": "chat", "claude-sonnet-4": "agent"}.get(model_id)
    if profile is None:
        raise ModelNotFound("no such model", param="model")
    return profile, "sonnet"


def body(given: object = "hi", **fields: object) -> bytes:
    return json.dumps({"model": MODEL, "input": given, **fields}).encode()


def turn_of(data: bytes, history: Sequence[Item] = (), *, alone: bool = False) -> Turn:
    parsed = parse(data)
    return make_turn(
        parsed,
        history,
        parsed.resolve({}),
        find_model,
        lambda profile: profile == "agent",
        alone=alone,
    )


def turn(given: object = "hi", **fields: object) -> Turn:
    return turn_of(body(given, **fields))


def refused(data: bytes) -> Fault:
    return refusal(lambda: turn_of(data))


def user(*texts: str) -> Message:
    return Message("user", tuple(map(Text, texts)))


def assistant(*texts: str) -> Message:
    return Message("assistant", tuple(map(Text, texts)))


def said(role: str, *parts: object) -> dict[str, object]:
    return {"type": "message", "role": role, "content": list(parts)}


def text(value: str) -> dict[str, str]:
    return {"type": "input_text", "text": value}


def answered(value: str) -> dict[str, Any]:
    return said("assistant", {"type": "output_text", "text": value, "annotations": []})


def call(name: str = "f", arguments: str = "{}", call_id: str = "call_1") -> dict[str, str]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def output(value: object = "done", call_id: str = "call_1") -> dict[str, object]:
    return {"type": "function_call_output", "call_id": call_id, "output": value}


def function(name: str = "f", **fields: object) -> dict[str, object]:
    return {"type": "function", "name": name, "parameters": {"type": "object"}, **fields}


HI: dict[str, object] = {"role": "user", "content": "hi"}
CALLED = ToolCall("call_1", "f", "{}")


def given_back(*texts: str, call_id: str = "call_1") -> Message:
    return Message("user", (ToolResult(call_id, tuple(map(Text, texts))),))
