"""Bodies of chat requests, and what becomes of them."""

import json
from typing import Any

from maxd.http.openai_chat import (
    ChatRequest,
    decode,
)
from maxd.workers.faults import (
    Fault,
    ModelNotFound,
)
from maxd.workers.turn import (
    Message,
    Text,
    Turn,
)
from tests.http.refusing import refusal

PNG = "data:image/png;base64,aGVsbG8="
HI: dict[str, Any] = {"role": "user", "content": "hi"}


def find_model(model_id: str) -> tuple[str, str]:
    if model_id != "claude-sonnet-4:chat":
        raise ModelNotFound("no such model", param="model")
    return "chat", "sonnet"


def read(body: bytes) -> ChatRequest:
    return decode(body, find_model)


def request(*messages: object, **fields: object) -> bytes:
    return json.dumps(
        {"model": "claude-sonnet-4:chat", "messages": list(messages), **fields}
    ).encode()


def turn(*messages: object) -> Turn:
    return read(request(*messages)).turn


def refused(body: bytes) -> Fault:
    return refusal(lambda: read(body))


def user(*texts: str) -> Message:
    return Message("user", tuple(map(Text, texts)))


def assistant(*texts: str) -> Message:
    return Message("assistant", tuple(map(Text, texts)))


def content(*parts: object, role: str = "user") -> dict[str, object]:
    return {"role": role, "content": list(parts)}


def part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def image(url: str, **fields: str) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url, **fields}}


SYSTEM = {"role": "system", "content": "s"}
DEVELOPER = {"role": "developer", "content": "d"}
ANSWER = {"role": "assistant", "content": "a"}
