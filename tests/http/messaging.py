"""Bodies of Messages requests, and what becomes of them."""

import json
from typing import Any

from maxd.http.anthropic_messages import MessagesRequest, decode
from maxd.http.wishes import Wishes
from maxd.workers.faults import Fault, ModelNotFound
from maxd.workers.turn import Turn
from tests.http.refusing import refusal

PNG = "aGVsbG8="
PDF = "JVBERi0xLjQK"
HI: dict[str, Any] = {"role": "user", "content": "hi"}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: dict[str, Any] = {"name": "weather", "description": "d", "input_schema": SCHEMA}


def find_model(model_id: str) -> tuple[str, str]:
    if model_id not in ("sonnet", "sonnet:chat"):
        raise ModelNotFound("no such model", param="model")
    return ("chat" if model_id.endswith(":chat") else "agent"), "sonnet"


def read(
    body: bytes,
    *,
    continues: bool = False,
    counts: bool = False,
    strict: bool = False,
    thinking: bool | None = None,
) -> MessagesRequest:
    return decode(
        body,
        find_model,
        lambda profile: profile == "agent",
        Wishes(
            strict=strict,
            thinking=thinking,
            thinking_profiles=("agent", "chat"),
            partial=continues,
        ),
        counts=counts,
    )


def request(*messages: object, **fields: object) -> bytes:
    body = {"model": "sonnet:chat", "max_tokens": 100, "messages": list(messages), **fields}
    return json.dumps(body).encode()


def turn(*messages: object, **fields: object) -> Turn:
    return read(request(*messages, **fields)).turn


def refused(body: bytes, *, continues: bool = False) -> Fault:
    return refusal(lambda: read(body, continues=continues))


def user(*blocks: object) -> dict[str, object]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: object) -> dict[str, object]:
    return {"role": "assistant", "content": list(blocks)}


def text(text: str, **fields: object) -> dict[str, object]:
    return {"type": "text", "text": text, **fields}


def call(call_id: str, name: str = "weather", **arguments: object) -> dict[str, object]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def result(call_id: str, content: object = "sunny", **fields: object) -> dict[str, object]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **fields}


def image(media_type: str = "image/png", data: str = PNG) -> dict[str, object]:
    source = {"type": "base64", "media_type": media_type, "data": data}
    return {"type": "image", "source": source}


def document(**fields: object) -> dict[str, object]:
    source = {"type": "base64", "media_type": "application/pdf", "data": PDF}
    return {"type": "document", "source": source, **fields}
