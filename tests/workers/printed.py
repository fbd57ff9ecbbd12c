"""What a worker prints, line by line, and protocols in the phases of a turn."""

import json
from typing import Any

from maxd.workers.faults import Fault
from maxd.workers.profiles import CHAT, Profile
from maxd.workers.protocol import LINE_LIMIT, Output, Protocol, Ready
from maxd.workers.turn import Message, Text, Turn

NOW = 4_102_444_000.0


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def assistant(text: str) -> Message:
    return Message("assistant", (Text(text),))


TURN = Turn(profile="chat", model="sonnet", messages=(user("hi"),))
HISTORY = Turn(
    profile="chat",
    model="sonnet",
    messages=(user("one"), assistant("two"), user("three"), assistant("four"), user("five")),
    system=("Be brief.",),
)


def line(**message: object) -> bytes:
    return json.dumps(message).encode() + b"\n"


def answer(request_id: str, subtype: str = "success", **response: object) -> bytes:
    return line(
        type="control_response",
        response={"subtype": subtype, "request_id": request_id, "response": response},
    )


def api(event: str, parent: str | None = None, **fields: object) -> bytes:
    return line(type="stream_event", event={"type": event, **fields}, parent_tool_use_id=parent)


def start(message_id: str = "msg_1", parent: str | None = None) -> bytes:
    return api("message_start", parent, message={"id": message_id, "model": "m", "content": []})


def text(words: str, parent: str | None = None) -> bytes:
    return api("content_block_delta", parent, delta={"type": "text_delta", "text": words})


def stop(reason: str = "end_turn") -> bytes:
    return api("message_delta", delta={"stop_reason": reason}) + api("message_stop")


def said(*blocks: dict[str, object], model: str = "m", **fields: object) -> bytes:
    message = {"id": "msg_9", "model": model, "content": list(blocks)}
    return line(type="assistant", message=message, **fields)


def block(words: str) -> dict[str, object]:
    return {"type": "text", "text": words}


def result(**fields: object) -> bytes:
    return line(**{"type": "result", "is_error": False, "stop_reason": "end_turn", **fields})


READY = answer("ready", version="2.1.330")
WHOLE = start() + text("hello") + stop() + result()


def ready(profile: Profile = CHAT, *, line_limit: int = LINE_LIMIT) -> Protocol:
    protocol = Protocol(profile, clock=lambda: NOW, line_limit=line_limit)
    protocol.ask_ready()
    assert protocol.feed(READY) == [Ready("2.1.330")]
    return protocol


def begun(profile: Profile = CHAT, turn: Turn = TURN, **options: int) -> Protocol:
    protocol = ready(profile, **options)
    protocol.begin(turn)
    return protocol


def told(outputs: list[Output]) -> list[object]:
    """Outputs that can be compared: a fault by its kind and message."""
    return [(type(o), o.message) if isinstance(o, Fault) else o for o in outputs]


def lines(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(one) for one in data.splitlines()]


def question(**request: object) -> bytes:
    return line(type="control_request", request_id="q1", request=request)


SUBAGENT = (
    start("msg_sub", parent="toolu_1")
    + text("no", parent="toolu_1")
    + api("message_delta", "toolu_1", delta={"stop_reason": "end_turn"})
    + api("message_stop", "toolu_1")
    + said(block("no"), parent_tool_use_id="toolu_1")
)
