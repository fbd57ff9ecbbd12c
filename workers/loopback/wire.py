"""The Messages API's answers: a `Reply` as server-sent events or as one piece of JSON."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from maxd.workers.loopback.errors import (
    Headers,
    error_body,
    error_message,
    error_type,
    limit_headers,
)
from maxd.workers.loopback.reply import (
    Block,
    Error,
    Reply,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
)
from maxd.workers.loopback.usage import usage

Ending: TypeAlias = Literal["end", "cut", "stall"]

# What a thinking block must carry; the CLI sends it back unread.
SIGNATURE = "bG9vcGJhY2s="
_encode = msgspec.json.Encoder().encode


class Frame(NamedTuple):
    """Bytes to send `wait` seconds after those before them."""

    wait: float
    data: bytes


class Answer(Struct, frozen=True):
    """A whole HTTP answer. `frames` can be read once.

    `ending`: after the last frame the answer is complete, the connection is cut, or nothing more
    is ever sent. `silent`: that happens before the first byte, so there is no status line either.
    `patient`: sending it takes time by intent, so that the client may well go away meanwhile.
    """

    status: int
    headers: Headers
    frames: Iterable[Frame]
    ending: Ending = "end"
    silent: bool = False
    delay: float = 0
    patient: bool = False


def answer(reply: Reply, body: dict[str, Any], size: int, suffix: str, now: float) -> Answer:
    """The HTTP answer to the request `body`, which was `size` bytes of JSON, as `reply` says.

    `suffix` makes the ids of this answer unique; `now` is in epoch seconds.
    """
    headers = [("request-id", f"req_{suffix}")]
    error = Error(reply.error) if isinstance(reply.error, int) else reply.error
    if reply.limit is not None:
        headers += limit_headers(reply.limit, now)
        if reply.limit.status == "rejected" and error is None:
            error = Error(429)
    headers += reply.headers.items()
    streamed = body.get("stream") is True
    if error is not None and (error.after is None or not streamed):
        return whole(reply, error.status, headers, error_body(error, suffix))
    blocks = [
        (block, block.id or f"toolu_{suffix}_{index}" if isinstance(block, ToolUseBlock) else "")
        for index, block in enumerate(reply.content())
    ]
    called = any(isinstance(block, ToolUseBlock) for block, _ in blocks)
    stop_reason = reply.stop_reason or ("tool_use" if called else "end_turn")
    used = usage(reply, body, size)
    message: dict[str, Any] = {
        "id": f"msg_{suffix}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": used,
    }
    if not streamed:
        message["content"] = [shown(block, tool_id, full=True) for block, tool_id in blocks]
        message["stop_reason"] = stop_reason
        return whole(reply, 200, headers, _encode(message))
    message["usage"] = used | {"output_tokens": min(1, used["output_tokens"])}
    ending, point = fault(reply)
    if error is not None:
        point = error.after
        last = event("error", error={"type": error_type(error), "message": error_message(error)})
    elif ending != "end":
        last = b""
    else:
        delta = {"stop_reason": stop_reason, "stop_sequence": None}
        last = event("message_delta", delta=delta, usage=used) + event("message_stop")
    headers += [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]
    return Answer(
        status=200,
        headers=headers,
        frames=stream(event("message_start", message=message), blocks, point, last),
        ending=ending,
        silent=point is not None and point < 0,
        delay=reply.delay,
        patient=is_patient(reply),
    )


def whole(reply: Reply, status: int, headers: Headers, data: bytes) -> Answer:
    """`data` as one JSON answer, which comes when a stream of `reply` would have ended."""
    ending, point = fault(reply)
    length = len(data)
    return Answer(
        status=status,
        headers=[*headers, ("content-type", "application/json"), ("content-length", str(length))],
        # With a fault the client is left waiting for the second half.
        frames=[Frame(0, data if ending == "end" else data[: length // 2])],
        ending=ending,
        silent=point is not None and point < 0,
        delay=reply.delay + (generation_time(reply) if status == 200 else 0),
        patient=is_patient(reply),
    )


def stream(
    start: bytes, blocks: list[tuple[Block, str]], point: int | None, last: bytes
) -> Iterator[Frame]:
    """The events of a message up to `point`, if there is one, then `last`."""
    yield Frame(0, start)
    if point is None or point > 0:
        sent = 0
        for frame, is_chunk in content_events(blocks):
            yield frame
            sent += is_chunk
            if is_chunk and sent == point:
                break
    yield Frame(0, last)


def content_events(blocks: list[tuple[Block, str]]) -> Iterator[tuple[Frame, bool]]:
    """The events of the content, and which of them are chunks."""
    for index, (block, tool_id) in enumerate(blocks):
        shown_block = shown(block, tool_id, full=False)
        yield Frame(0, event("content_block_start", index=index, content_block=shown_block)), False
        if index == 0:
            # Where the service has one, too.
            yield Frame(0, event("ping")), False
        if isinstance(block, ToolUseBlock):
            kind, key, pace = "input_json_delta", "partial_json", 0.0
            chunks: Iterable[str] = ["", _encode(block.input).decode()]
        else:
            chunks, pace = block.chunks(), block.pace
            thinks = isinstance(block, ThinkingBlock)
            kind, key = ("thinking_delta", "thinking") if thinks else ("text_delta", "text")
        # Only the text differs from chunk to chunk, so the rest is encoded once.
        before = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":"%s","%s":' % (index, kind.encode(), key.encode())
        )
        wait = 0.0
        for chunk in chunks:
            yield Frame(wait, before + _encode(chunk) + b"}}\n\n"), True
            wait = pace
        if isinstance(block, ThinkingBlock):
            delta = {"type": "signature_delta", "signature": SIGNATURE}
            yield Frame(0, event("content_block_delta", index=index, delta=delta)), False
        yield Frame(0, event("content_block_stop", index=index)), False


def event(kind: str, **data: Any) -> bytes:
    """One server-sent event of the API."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), _encode({"type": kind, **data}))


def shown(block: Block, tool_id: str, *, full: bool) -> dict[str, Any]:
    """A block as the API writes it: complete, or as it stands before its first delta."""
    if isinstance(block, ToolUseBlock):
        arguments = block.input if full else {}
        return {"type": "tool_use", "id": tool_id, "name": block.name, "input": arguments}
    text = block.text if full else ""
    if isinstance(block, ThinkingBlock):
        return {"type": "thinking", "thinking": text, "signature": SIGNATURE if full else ""}
    return {"type": "text", "text": text}


def fault(reply: Reply) -> tuple[Ending, int | None]:
    """How the answer ends, and at which point if that is before its time."""
    if reply.cut is not None:
        return "cut", reply.cut
    if reply.stall is not None:
        return "stall", reply.stall
    return "end", None


def is_patient(reply: Reply) -> bool:
    """Whether sending `reply` takes time by intent."""
    return reply.delay > 0 or reply.stall is not None or generation_time(reply) > 0


def generation_time(reply: Reply) -> float:
    """The seconds that a stream of `reply` takes."""
    return sum(
        block.pace * (sum(1 for _ in block.chunks()) - 1)
        for block in reply.content()
        if isinstance(block, TextBlock) and block.pace and block.text
    )
